"""Model files: a changed or malformed file is refused with the reason."""

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from embedder.engine_config import EngineConfig
from embedder.errors import ModelCorruptError, ModelNotFoundError, ModelOutdatedError
from embedder.native_engine import NativeEngine
from embedder.profile import WEIGHTS_FILE
from embedder.weights import Weights
from tests.embedder.conftest import LoadModel

Header = dict[str, Any]
Edit = Callable[[Header, bytes], bytes | None]  # changes the header, returns other data or None


@pytest.fixture
def whole(gemma: LoadModel, gemma_directory: Path) -> Path:
    """The tiny EmbeddingGemma's model file in int8."""
    gemma("int8")
    return gemma_directory.parent / "int8" / WEIGHTS_FILE


def split(path: Path) -> tuple[Header, bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return struct.pack("<Q", len(text)) + text + data


def first(header: Header) -> Any:
    """The entry of the first tensor of the file."""
    return min(
        (e for n, e in header.items() if n != "__metadata__"), key=lambda e: e["data_offsets"]
    )


def change(name: str, value: object) -> Edit:
    """Change one field of the first tensor's entry."""

    def edit(header: Header, _: bytes) -> None:
        first(header)[name] = value

    return edit


def configure(**fields: object) -> Edit:
    """Change fields of the configuration."""

    def edit(header: Header, _: bytes) -> None:
        metadata = header["__metadata__"]
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | fields)

    return edit


def describe(**fields: object) -> Edit:
    """Change fields of the metadata."""

    def edit(header: Header, _: bytes) -> None:
        header["__metadata__"] |= fields

    return edit


def drop(name: str) -> Edit:
    """Remove a tensor and its bytes."""

    def edit(header: Header, data: bytes) -> bytes:
        begin, end = header.pop(name)["data_offsets"]
        for entry in header.values():
            if "data_offsets" in entry and entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [at - (end - begin) for at in entry["data_offsets"]]
        return data[:begin] + data[end:]

    return edit


def overlap(header: Header, _: bytes) -> None:
    entries = sorted(
        (e for e in header.values() if "data_offsets" in e), key=lambda e: e["data_offsets"]
    )
    entries[2]["data_offsets"] = entries[1]["data_offsets"]
    entries[2]["shape"], entries[2]["dtype"] = entries[1]["shape"], entries[1]["dtype"]


def rename(header: Header, _: bytes) -> None:
    header["layers.0.qkv\0.weight"] = header.pop("layers.0.qkv.weight")


FAULTS: dict[str, tuple[Edit, str]] = {
    "truncated data": (lambda _, data: data[:-64], "its tensors end"),
    "data added": (lambda _, data: data + bytes(64), "its tensors end"),
    "an unknown dtype": (change("dtype", "F128"), "dtype"),
    "a dtype that is not text": (change("dtype", [1]), "dtype"),
    "another dtype": (change("dtype", "F16"), "bytes and the shape"),
    "another shape": (change("shape", [16, 16]), "bytes and the shape"),
    "a shape below zero": (change("shape", [-16, -16]), "no shape"),
    "a shape of fractions": (change("shape", [1.5]), "no shape"),
    "a shape that overflows": (change("shape", [1 << 62, 1 << 62]), "bytes and the shape"),
    "offsets out of the file": (change("data_offsets", [1 << 40, (1 << 40) + 64]), "bytes and"),
    "offsets that run backwards": (change("data_offsets", [64, 0]), "bytes and"),
    "offsets below zero": (change("data_offsets", [-64, 0]), "no place"),
    "three offsets": (change("data_offsets", [0, 64, 64]), "no place"),
    "an entry that is a number": (lambda header, _: header.update({"norm": 7}), "nothing useful"),
    "a name with a zero byte": (rename, "of the name"),
    "two tensors in one place": (overlap, "hole or an overlap"),
    "no metadata": (lambda header, _: header.pop("__metadata__") and None, "not in the format"),
    "metadata that is a list": (lambda h, _: h.update(__metadata__=[1]), "not in the format"),
    "another format": (describe(format="pt"), "not in the format"),
    "no configuration": (describe(config=""), "configuration"),
    "a configuration of numbers": (describe(config="[1, 2]"), "other fields"),
    "a configuration that is nested": (describe(config="[" * 100_000), "configuration"),
    "a field too many": (configure(rope=1), "other fields"),
    "an unknown family": (configure(family="llama"), "family 'llama'"),
    "text for a number": (configure(layers="7"), "wrong type"),
    "a boolean for a number": (configure(layers=True), "wrong type"),
    "no layers": (configure(layers=0), "layers is 0"),
    "too many layers": (configure(layers=1 << 40), "layers is"),
    "a width that is odd": (configure(width=50), "multiple of 16"),
    "a head that is too large": (configure(head_dim=1024), "head_dim is 1024"),
    "heads that do not divide": (configure(heads=3, kv_heads=2), "do not divide"),
    "no key heads": (configure(kv_heads=0), "kv_heads is 0"),
    "a window below zero": (configure(window=-1), "window"),
    "sliding layers without a window": (configure(window=0), "no window"),
    "kinds of too few layers": (configure(sliding=[True]), "kinds of layers"),
    "kinds that are numbers": (configure(sliding=[1] * 7), "wrong type"),
    "Dense layers without activations": (configure(dense_activation=[]), "one activation each"),
    "too many Dense layers": (
        configure(dense_width=[48] * 5, dense_activation=["tanh"] * 5), "at most 4",
    ),
    "an epsilon that is not a number": (configure(norm_epsilon=float("nan")), "norm_epsilon"),
    "a tensor that is missing": (drop("norm"), "tensor norm is missing"),
    "another vocabulary": (configure(vocabulary=512), "tensor embedding"),
    "another width": (configure(width=64), "another size"),
    "another precision": (configure(precision="fp16"), "another type"),
    "more positions than angles": (configure(positions=4096), "rope"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_malformed_file_is_refused_with_the_reason(
    name: str, whole: Path, tmp_path: Path
) -> None:
    edit, reason = FAULTS[name]
    header, data = split(whole)
    data = edit(header, data) or data
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(joined(header, data))
    with pytest.raises(ModelCorruptError, match=f"{reason}.*run `make model`"):
        NativeEngine(path, num_threads=1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"1234567", "truncated"),
        (struct.pack("<Q", 1 << 63) + b"{}", "truncated"),
        (struct.pack("<Q", 100) + b"{}", "truncated"),
        (struct.pack("<Q", 2) + b"{]", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xff\xff", "not JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
    ],
)
def test_a_file_that_is_not_safetensors_is_refused(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(content)
    with pytest.raises(ModelCorruptError, match=reason):
        Weights(path)


def test_misaligned_tensors_are_refused(whole: Path, tmp_path: Path) -> None:
    header, data = split(whole)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)  # wrong: without the 8 bytes of the length
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    with pytest.raises(ModelCorruptError, match="aligned"):
        Weights(path)


def test_another_layout_says_what_to_run(whole: Path, tmp_path: Path) -> None:
    header, data = split(whole)
    header["__metadata__"]["layout"] = "3"
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(joined(header, data))
    with pytest.raises(ModelOutdatedError, match="make model"):
        Weights(path)


def test_no_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="make model"):
        Weights(tmp_path / WEIGHTS_FILE)
    with pytest.raises(ModelCorruptError):
        Weights(tmp_path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_byte_of_the_header_may_change_without_a_crash(
    data: st.DataObject, whole: Path, tmp_path: Path
) -> None:
    content = bytearray(whole.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 8 + length - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes(content)
    with contextlib.suppress(ModelCorruptError, ModelOutdatedError):
        NativeEngine(path, num_threads=1)


def test_the_safetensors_library_can_read_it(whole: Path) -> None:
    weights = Weights(whole)
    with safe_open(whole, "np") as file:
        assert {tensor.name for tensor in weights.tensors} == set(file.keys())
        for tensor in weights.tensors:
            assert file.get_tensor(tensor.name).shape == tensor.shape


def test_a_configuration_is_read_back_unchanged(whole: Path) -> None:
    config = Weights(whole).config
    assert EngineConfig.from_json(config.to_json()) == config
    assert (config.window, config.dense_width, config.dimensions) == (9, (96, 48), 48)
