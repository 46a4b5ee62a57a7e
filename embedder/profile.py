"""The profile of a prepared model: identity, limits, prompts, precision, hashes of its files."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, PositiveInt, StringConstraints, TypeAdapter, ValidationError

from embedder.errors import (
    DimensionsError,
    ModelCorruptError,
    ModelNotFoundError,
    ModelOutdatedError,
)
from embedder.tasks import prompts_by_task

PROFILE_FILE = "profile.json"
CHECKSUM = "sha256"  # of the rest of the profile
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
TORCH_DIRECTORY = "sentence_transformers"
BACKENDS = ("native", "torch")
LONGEST_SLUG = 50  # characters of a name in the model store
LAYOUT = 4  # raised whenever the format of prepared models changes
STARTER_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
STARTER_NAMES = frozenset({"all-minilm-l6-v2", STARTER_MODEL.lower()})
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Written next to the weights when a model is prepared, and read when it is loaded."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    model_id: str
    revision: str  # commit on the hub, or content hash of a local directory
    architecture: str  # "bert", "gemma3_text", ...
    backend: Literal["native", "torch"]
    quantization: Literal["int8", "fp16", "fp32"]
    dimensions: PositiveInt
    matryoshka: tuple[PositiveInt, ...]  # sizes allowed, descending, the first is `dimensions`
    max_tokens: PositiveInt  # special tokens included
    prompts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Sha256] = field(default_factory=dict)  # by file name
    verification: Mapping[str, Any] = field(default_factory=dict)
    layout: int = LAYOUT

    @property
    def fingerprint(self) -> str:
        """12 hex digits that identify the vector space.

        Vectors of two fingerprints must not be stored in one index.
        """
        parts = (self.model_id, self.revision, self.backend, self.quantization, self.layout)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @cached_property
    def tasks(self) -> Mapping[str, str]:
        """The prompt of every task, by every name of the task."""
        return prompts_by_task(self.prompts)

    @cached_property
    def names(self) -> Mapping[str, str | None]:
        """The task of every name of the model.

        `NAME-query` and `NAME-document` are for clients that cannot send a task.
        """
        aliases = {
            f"{self.model_id}-{task}": task for task in ("query", "document") if task in self.tasks
        }
        return {self.model_id: None, **aliases}

    def size_of(self, dimensions: int | None) -> int:
        """`dimensions`, or the full size without.

        Raises:
            DimensionsError: `dimensions` is not one of `matryoshka`.
        """
        if dimensions is not None and dimensions not in self.matryoshka:
            raise DimensionsError(dimensions, self.matryoshka)
        return dimensions or self.dimensions

    def save(self, directory: Path) -> None:
        """Write the profile into the directory of its model."""
        fields = {**asdict(self), "fingerprint": self.fingerprint}
        text = json.dumps({**fields, CHECKSUM: checksum(fields)}, indent=2, ensure_ascii=False)
        (directory / PROFILE_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Profile":
        """Read the profile in a directory.

        Raises:
            ModelNotFoundError: there is none.
            ModelOutdatedError: another version wrote it.
            ModelCorruptError: it has changed since it was written, or contradicts itself.
        """
        path = directory / PROFILE_FILE
        try:
            fields = _read_object(path)
            if fields.get("layout") != LAYOUT or fields.get("backend") not in BACKENDS:
                raise ModelOutdatedError(path)
            if fields.pop(CHECKSUM) != checksum(fields):
                raise ValueError("its checksum is wrong")
            fingerprint = fields.pop("fingerprint")
            profile = cls.of(fields)
            if fingerprint != profile.fingerprint:
                raise ValueError(f"its fingerprint is not {profile.fingerprint}")
        except KeyError:  # older versions wrote no checksum
            raise ModelOutdatedError(path) from None
        except (ValueError, RecursionError) as error:
            raise ModelCorruptError(path, str(error)[:200]) from None
        return profile

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Profile":
        """A profile from its fields, as they are in JSON.

        Raises:
            ValueError: one line that says which field is wrong.
        """
        try:
            profile = _adapter().validate_json(json.dumps(fields))
        except ValidationError as error:
            [first, *_] = error.errors()
            where = ".".join(map(str, first["loc"]))[:80]
            raise ValueError(f"{where!r}: {first['msg']}") from None
        if problem := profile._problem():
            raise ValueError(problem)
        return profile

    def _problem(self) -> str | None:
        """A contradiction between fields that their types do not show, or None."""
        needed = {TOKENIZER_FILE, WEIGHTS_FILE} if self.backend == "native" else {TOKENIZER_FILE}
        if missing := needed - self.files.keys():
            return f"it has no SHA-256 of {', '.join(sorted(missing))}"
        if outside := next((name for name in self.files if not _is_below(name)), None):
            return f"it names the file {outside[:80]!r}"
        descending = sorted(set(self.matryoshka), reverse=True)
        if list(self.matryoshka) != descending or descending[:1] != [self.dimensions]:
            return f"its sizes are {str(self.matryoshka)[:80]} of {self.dimensions}"
        return None

    def check_files(self, directory: Path) -> None:
        """Compare the files of a model with their hashes.

        Raises:
            ModelCorruptError: a file has changed, is missing, or was added.
        """
        for name, expected in self.files.items():
            actual = sha256_file(directory / name)
            if actual != expected:
                raise ModelCorruptError(
                    directory / name, f"SHA-256 {actual[:12]}, expected {expected[:12]}"
                )
        for path in (directory / TORCH_DIRECTORY).rglob("*"):  # sentence-transformers may load any
            if path.is_file() and path.relative_to(directory).as_posix() not in self.files:
                raise ModelCorruptError(path, "it was added after the model was prepared")


@cache
def _adapter() -> TypeAdapter[Profile]:
    return TypeAdapter(Profile)


def _read_object(path: Path) -> dict[str, Any]:
    """Raises ModelNotFoundError, ValueError."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFoundError(path.parent) from None
    except OSError as error:
        raise ValueError(str(error.strerror)) from None
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    return fields


def checksum(fields: Mapping[str, Any]) -> str:
    """SHA-256 of a profile's content, whatever its formatting."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file; "missing", or the system's error, if it cannot be read."""
    try:
        found = path.stat()
        return _sha256(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        return error.strerror or "unreadable"


@cache
def _sha256(path: Path, *_: int) -> str:
    """Cached by the state of the file, so that a forked worker does not read it again (0.2 s)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_directory_name(name: str) -> bool:
    """Whether a MODEL_NAME is a local directory, decided by its spelling alone."""
    return name.startswith(("/", "./", "../", "~")) or name in {".", ".."}


def model_tag(name: str | None, quantization: str, backend: str) -> str:
    """The name of a MODEL_NAME in the store, such as `google--embeddinggemma-300m-int8`.

    The tag of a local directory contains eight hex digits of its absolute path, so `/a/model` and
    `/b/model` differ. At most 63 characters of [a-z0-9._-], as the store requires.
    """
    variant = backend if backend == "torch" else quantization
    if name is None or name.lower() in STARTER_NAMES:
        return f"all-minilm-l6-v2-{variant}"
    if is_directory_name(name):
        path = os.path.abspath(os.path.expanduser(name))
        return f"{_slug(os.path.basename(path))[:40].strip('-')}-{_short_hash(path)}-{variant}"
    slug = _slug(name)
    if len(slug) > LONGEST_SLUG:
        slug = f"{slug[:40]}-{_short_hash(name.lower())}"
    return f"{slug}-{variant}"


def _slug(name: str) -> str:
    """`a/b-c` and `a-b/c` stay different, since the hub forbids `--` in names."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower().replace("/", "--")).strip("-._") or "model"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
