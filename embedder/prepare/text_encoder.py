"""The text encoder of a model that also reads images and sound, as a directory of its own.

google/embeddinggemma-2 has one file of weights, 1.5 GB, of which the text encoder is a third. No
other byte of it is read. Where reading was interrupted, it goes on.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

MULTIMODAL = frozenset({"embedding_gemma2"})  # model_type of config.json
PREFIX = "language_model."  # of the text encoder's tensors
WEIGHTS_FILE = "model.safetensors"
PROCESSORS = ("*processor_config.json", "chat_template*")
MAX_HEADER = 100 << 20  # bytes, the limit of the safetensors library
PIECE = 1 << 24  # bytes

Tensors: TypeAlias = Mapping[str, dict[str, Any]]  # a safetensors header


def is_multimodal(directory: Path) -> bool:
    """Whether a model has a text encoder among other parts."""
    path = directory / "config.json"
    return path.is_file() and _read_json(path).get("model_type") in MULTIMODAL


def write(directory: Path, weights: BinaryIO, target: Path) -> None:
    """Write the text encoder to `target`, a new directory, or the rest of it.

    An earlier call for the same target may have been interrupted. Its weights are kept, except for
    the last PIECE: after a crash of the machine that may not be what was written.

    Args:
        directory: the model's files, without or with the weights.
        weights: the file of all weights, of which only the text encoder's are read.
        target: the new directory, which is complete or not there.

    Raises:
        ValueError: the weights are not what they should be.
    """
    unfinished = target.with_name(f"{target.name}.unfinished")
    ignored = shutil.ignore_patterns("*.safetensors", "onnx", "openvino", *PROCESSORS)
    shutil.copytree(directory, unfinished, ignore=ignored, dirs_exist_ok=True)
    _keep_text(unfinished)
    wanted = text_weights(weights)
    with (unfinished / WEIGHTS_FILE).open("a+b") as file:
        done = file.tell() - PIECE
        file.seek(0)
        begun = done >= len(wanted.head) and file.read(len(wanted.head)) == wanted.head
        done = file.truncate(done if begun else 0)
        for piece in wanted.pieces(done):
            file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    unfinished.rename(target)


@dataclass(frozen=True)
class TextWeights:
    """A safetensors file that is a part of another one.

    Attributes:
        whole: the other file.
        head: what this file begins with.
        parts: first byte and end of what follows, in the other file.
    """

    whole: BinaryIO
    head: bytes
    parts: Sequence[tuple[int, int]]

    def pieces(self, begin: int = 0) -> Iterator[bytes]:
        """The file from byte `begin` on. Raises ValueError if the other file is cut short."""
        yield self.head[begin:]
        skipped = max(begin - len(self.head), 0)
        for first, end in self.parts:
            start = min(first + skipped, end)
            skipped -= start - first
            yield from _pieces(self.whole, start, end)


def text_weights(weights: BinaryIO) -> TextWeights:
    """The tensors of the text encoder.

    Raises:
        ValueError: the file is malformed, or has no text encoder.
    """
    tensors, begin = _header(weights)
    kept = {name: entry for name, entry in tensors.items() if name.startswith(PREFIX)}
    if not kept:
        raise ValueError(f"{WEIGHTS_FILE} has no tensors named {PREFIX}*")
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, entry in kept.items():
        first, last = entry["data_offsets"]
        moved = [end, end + last - first]
        entries[name.removeprefix(PREFIX)] = {**entry, "data_offsets": moved}
        end = moved[1]
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    runs = _runs([entry["data_offsets"] for entry in kept.values()])
    parts = [(begin + first, begin + last) for first, last in runs]
    return TextWeights(weights, len(text).to_bytes(8, "little") + text, parts)


def _keep_text(directory: Path) -> None:
    """Make the configuration that of the text encoder, in place."""
    path = directory / "config.json"
    text = _read_json(path)["text_config"]
    path.write_text(json.dumps(text), encoding="utf-8")
    for name in ("sentence_bert_config.json", "tokenizer_config.json"):
        if not (path := directory / name).is_file():
            continue
        config = _read_json(path)
        config.pop("processor_class", None)
        if "modality_config" in config:
            config["modality_config"] = {"text": config["modality_config"]["text"]}
        path.write_text(json.dumps(config), encoding="utf-8")


def _header(weights: BinaryIO) -> tuple[Tensors, int]:
    """The tensors in the order of the file, and the offset of the first one. Raises ValueError."""
    length = int.from_bytes(b"".join(_pieces(weights, 0, 8)), "little")
    if length > MAX_HEADER:
        raise ValueError(f"{WEIGHTS_FILE} is not a safetensors file")
    tensors: dict[str, Any] = json.loads(b"".join(_pieces(weights, 8, 8 + length)))
    tensors.pop("__metadata__", None)
    ordered = sorted(tensors.items(), key=lambda item: item[1]["data_offsets"])
    return dict(ordered), 8 + length


def _pieces(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    """The bytes from `begin` to `end`. Raises ValueError if the file ends before."""
    file.seek(begin)
    while begin < end:
        piece = file.read(min(PIECE, end - begin))
        if not 0 < len(piece) <= end - begin:
            raise ValueError(f"{WEIGHTS_FILE} ends at byte {begin}, or cannot be read in parts")
        begin += len(piece)
        yield piece


def _runs(offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges, joined where one begins at the end of the one before."""
    begin, end = offsets[0]
    for first, last in offsets[1:]:
        if first != end:
            yield begin, end
            begin = first
        end = last
    yield begin, end


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
