"""Faults that an export of a model may have; the quality check refuses each."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.postprocess import Vectors
from embedder.prepare import build as builder
from embedder.prepare import native
from embedder.prepare.check_texts import CheckText
from embedder.prepare.errors import VerificationError
from embedder.prepare.families import family_of
from embedder.prepare.families.family import Family, NativeForm
from embedder.prepare.original import load_original
from embedder.prepare.source import Source
from embedder.prepare.weight import Array, Declared, Weight
from embedder.profile import WEIGHTS_FILE
from tests.embedder.conftest import LoadModel, prepare

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Doubled:
    """A product whose results are twice as large."""

    weight: Weight

    def declared(self, precision: str) -> list[Declared]:
        return self.weight.declared(precision)

    def arrays(self, precision: str) -> Iterator[Array]:
        for tensor, array in zip(
            self.declared(precision), self.weight.arrays(precision), strict=True
        ):
            yield array.astype("<f4") * 2 if tensor.name.endswith(".scale") else array


def with_native(patch: Patch, change: Callable[[NativeForm], NativeForm]) -> None:
    """Change how models become the engine's."""

    def changed(architecture: str) -> Family:
        family = family_of(architecture)
        assert family.native
        return replace(family, native=change(family.native))

    patch.setattr(native, "family_of", changed)


def with_config(patch: Patch, **fields: Any) -> None:
    def change(form: NativeForm) -> NativeForm:
        return replace(
            form,
            engine_config=lambda *a, **b: replace(form.engine_config(*a, **b), **fields),
        )

    with_native(patch, change)


def with_doubled_scales(patch: Patch, layer: str) -> None:
    def change(form: NativeForm) -> NativeForm:
        def weights(*arguments: Any, **options: Any) -> Iterator[Weight]:
            for weight in form.weights(*arguments, **options):
                name = getattr(weight, "name", "")
                yield Doubled(weight) if name.startswith(layer) and is_product(weight) else weight

        return replace(form, weights=weights)

    with_native(patch, change)


def is_product(weight: Weight) -> bool:
    return any(tensor.name.endswith(".scale") for tensor in weight.declared("int8"))


def with_fields(patch: Patch, **fields: Any) -> None:
    """Change the profile, of which the original knows nothing."""
    describe = builder._describe
    patch.setattr(builder, "_describe", lambda *arguments: describe(*arguments) | fields)


@dataclass(frozen=True)
class Export:
    """The starter model in int8, and what its original gives for the texts of the check."""

    directory: Path
    fields: dict[str, Any]
    texts: list[CheckText]
    reference: Vectors

    def edited(self, directory: Path, edit: Callable[[bytearray], None]) -> Path:
        """A copy whose weights file is changed."""
        shutil.copytree(self.directory, directory)
        path = directory / WEIGHTS_FILE
        content = bytearray(path.read_bytes())
        edit(content)
        path.write_bytes(content)
        return directory


@pytest.fixture(scope="module")
def export(starter: LoadModel, starter_directory: Path, starter_source: Source) -> Export:
    model = starter("int8")
    texts = builder._check_texts(model.tokenizer, [])
    reference = builder._reference(load_original(starter_source), starter_source, texts)
    directory = starter_directory.parent / "int8"
    return Export(directory, asdict(model.profile), texts, reference)


def test_an_export_without_a_fault_passes(export: Export) -> None:
    report = builder.check(export.directory, export.fields, export.texts, export.reference)
    assert report["to_original"]["mean_cosine"] >= 0.9995  # real weights


def test_wrong_pooling_is_refused(export: Export, tmp_path: Path) -> None:
    def edit(content: bytearray) -> None:
        position = content.index(rb"\"pooling\": \"mean\"")
        content[position : position + 21] = rb"\"pooling\": \"cls\" "

    refused_by_check(export, export.edited(tmp_path / "bad", edit))


@pytest.mark.parametrize("product", ["qkv", "o", "up", "down"])
def test_doubled_scales_of_one_product_of_bert_are_refused(
    product: str, export: Export, tmp_path: Path
) -> None:
    def edit(content: bytearray) -> None:
        length = int.from_bytes(content[:8], "little")
        tensor = json.loads(content[8 : 8 + length])[f"layers.3.{product}.scale"]
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        content[begin:end] = (np.frombuffer(content[begin:end], "<f4") * 2).tobytes()

    refused_by_check(export, export.edited(tmp_path / "bad", edit))


def test_texts_cut_at_128_tokens_are_refused(export: Export) -> None:
    refused_by_check(export, export.directory, max_tokens=128)


def refused_by_check(export: Export, directory: Path, **fields: Any) -> None:
    with pytest.raises(VerificationError, match="too far from the original's"):
        builder.check(directory, export.fields | fields, export.texts, export.reference)


def test_the_tiny_gemma_without_a_fault_passes(gemma: LoadModel) -> None:
    assert gemma("int8").profile.verification["to_original"]["mean_cosine"] >= 0.9995


def test_doubled_scales_of_one_layer_of_gemma_are_refused(
    gemma_source: Source, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_doubled_scales(monkeypatch, "layers.2.")
    refused(gemma_source, tmp_path)


@pytest.mark.parametrize("window", [4, 17])  # 9 in the original
def test_a_window_off_by_a_factor_of_two_is_refused(
    window: int, gemma_source: Source, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_config(monkeypatch, window=window)
    refused(gemma_source, tmp_path)


def test_a_limit_of_128_tokens_is_refused(
    gemma_source: Source, tmp_path: Path, monkeypatch: Patch
) -> None:
    with_fields(monkeypatch, max_tokens=128)
    refused(gemma_source, tmp_path)


def test_a_wrong_prompt_is_refused(
    gemma_source: Source, tmp_path: Path, monkeypatch: Patch
) -> None:
    prompts = {"query": "query: ", "document": "title: none | text: "}
    with_prompts(monkeypatch, lambda own: {**own, **prompts})
    refused(gemma_source, tmp_path)


def test_a_lost_prompt_is_refused(gemma_source: Source, tmp_path: Path, monkeypatch: Patch) -> None:
    with_prompts(monkeypatch, lambda own: {"query": own["query"]})
    with pytest.raises(VerificationError, match=r"lacks the prompts .*Clustering"):
        prepare(gemma_source, tmp_path / "bad", "int8")


def with_prompts(patch: Patch, prompts: Callable[[Any], dict[str, str]]) -> None:
    patch.setattr(
        builder, "family_of", lambda architecture: replace(family_of(architecture), prompts=prompts)
    )


def refused(source: Source, directory: Path) -> None:
    with pytest.raises(VerificationError, match="too far from the original's"):
        prepare(source, directory / "bad", "int8")
