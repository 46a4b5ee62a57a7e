"""Leaves out the parts of a model that read images and sound."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from embedder.prepare import text_encoder
from embedder.prepare.source import Source

TOKENIZER_CONFIG = "tokenizer_config.json"
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@contextmanager
def text_only(source: Source) -> Iterator[Source]:
    """`source`, or a view of it without what is for images and sound.

    Of a model that reads them, it is the text encoder alone. Text models that were extracted from
    such a model, like EmbeddingGemma, name its processor in their tokenizer's configuration.
    transformers would load it, and fail because its other files are missing.
    """
    with tempfile.TemporaryDirectory() as directory:
        view = Path(directory) / "view"
        if text_encoder.is_multimodal(source.directory):
            with (source.directory / text_encoder.WEIGHTS_FILE).open("rb") as weights:
                text_encoder.write(source.directory, weights, view)
            yield replace(source, directory=view)
        elif _without_processor(source.directory, view):
            yield replace(source, directory=view)
        else:
            yield source


def _without_processor(directory: Path, view: Path) -> bool:
    """Make a view whose tokenizers name no processor; False if none of them does."""
    named = [path for path in directory.rglob(TOKENIZER_CONFIG) if _names_processor(path)]
    if not named:
        return False
    shutil.copytree(directory.absolute(), view, copy_function=os.symlink)
    for path in named:
        config = json.loads(path.read_text(encoding="utf-8"))
        del config["processor_class"]
        changed = view / path.relative_to(directory)
        changed.unlink()
        changed.write_text(json.dumps(config), encoding="utf-8")
    return True


def _names_processor(path: Path) -> bool:
    if any((path.parent / name).exists() for name in PROCESSOR_FILES):
        return False
    config = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(config, dict) and "processor_class" in config
