"""What a prepared model is: identity, limits, prompts, precision, and the hashes of its files."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from embedder.errors import (
    DimensionsError,
    ModelCorruptError,
    ModelNotFoundError,
    ModelOutdatedError,
)
from embedder.tasks import prompts_by_task

PROFILE_FILE = "profile.json"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
TORCH_DIRECTORY = "sentence_transformers"
BACKENDS = ("native", "torch")
LAYOUT = 4  # raised whenever prepared models stop being interchangeable; 1 to 3 were ONNX graphs
STARTER_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
STARTER_NAMES = frozenset({"all-minilm-l6-v2", STARTER_MODEL.lower()})


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Written beside the weights when a model is prepared, read when it is loaded."""

    model_id: str
    revision: str  # commit of the hub, or content hash of a local directory
    architecture: str  # "bert", "gemma3_text", ...
    backend: str  # "native" or "torch"
    quantization: str  # "int8", "fp16" or "fp32"
    dimensions: int
    matryoshka: tuple[int, ...]  # sizes allowed, descending, the first is `dimensions`
    max_tokens: int  # special tokens included
    prompts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by file name
    verification: Mapping[str, Any] = field(default_factory=dict)
    layout: int = LAYOUT

    @property
    def fingerprint(self) -> str:
        """12 hex digits naming the vector space: vectors of two fingerprints must not share an index."""
        parts = (self.model_id, self.revision, self.backend, self.quantization, self.layout)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @cached_property
    def tasks(self) -> Mapping[str, str]:
        """The prompt of every task, by every name of the task."""
        return prompts_by_task(self.prompts)

    @cached_property
    def names(self) -> Mapping[str, str | None]:
        """The task of every name of the model: `NAME-query` serves clients that can send nothing else."""
        aliases = {
            f"{self.model_id}-{task}": task for task in ("query", "document") if task in self.tasks
        }
        return {self.model_id: None, **aliases}

    def size_of(self, dimensions: int | None) -> int:
        """`dimensions`, or the whole size without. Raises DimensionsError when it is none of `matryoshka`."""
        if dimensions is not None and dimensions not in self.matryoshka:
            raise DimensionsError(dimensions, self.matryoshka)
        return dimensions or self.dimensions

    def save(self, directory: Path) -> None:
        text = json.dumps(
            {**asdict(self), "fingerprint": self.fingerprint}, indent=2, ensure_ascii=False
        )
        (directory / PROFILE_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Profile":
        """Raises ModelNotFoundError, or ModelOutdatedError for one that another version wrote."""
        path = directory / PROFILE_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelNotFoundError(directory) from None
        if fields.get("layout") != LAYOUT or fields.get("backend") not in BACKENDS:
            raise ModelOutdatedError(path)
        del fields["fingerprint"]
        return cls(**{**fields, "matryoshka": tuple(fields["matryoshka"])})

    def check_files(self, directory: Path) -> None:
        """Raises ModelCorruptError for the first file whose SHA-256 has changed."""
        for name, expected in self.files.items():
            actual = sha256_file(directory / name)
            if actual != expected:
                raise ModelCorruptError(
                    directory / name, f"SHA-256 {actual[:12]}, expected {expected[:12]}"
                )


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file; "missing" when there is none."""
    try:
        found = path.stat()
        return _sha256(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except FileNotFoundError:
        return "missing"


@cache
def _sha256(path: Path, *_: int) -> str:
    """Once for each state of a file: checked before a worker is forked, it is not read again there.

    EmbeddingGemma's files take 0.2 s.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_directory_name(name: str) -> bool:
    """A MODEL_NAME that means a local directory, decided by its spelling so that every machine agrees."""
    return name.startswith(("/", "./", "../", "~")) or name in {".", ".."}


def model_tag(name: str | None, quantization: str, backend: str) -> str:
    """The model-store name of a MODEL_NAME: `all-minilm-l6-v2-int8`, `google--embeddinggemma-300m-int8`.

    Local directories carry eight hex digits of their absolute path, so `/a/model` and `/b/model`
    stay apart. At most 63 characters of [a-z0-9._-], as the store requires.
    """
    variant = backend if backend == "torch" else quantization
    if name is None or name.lower() in STARTER_NAMES:
        return f"all-minilm-l6-v2-{variant}"
    if is_directory_name(name):
        path = os.path.abspath(os.path.expanduser(name))
        return f"{_slug(os.path.basename(path))[:40].strip('-')}-{_short_hash(path)}-{variant}"
    slug = _slug(name)
    if len(slug) > 50:
        slug = f"{slug[:40]}-{_short_hash(name.lower())}"
    return f"{slug}-{variant}"


def _slug(name: str) -> str:
    """The hub forbids `--` in names, so `a/b-c` and `a-b/c` cannot meet."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower().replace("/", "--")).strip("-._") or "model"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
