"""The ARM64 build gives the same bits on every core that its kernels are for."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dev import arm_program, arm_shape
from dev.arm_program import Case
from embedder.native_engine import NativeEngine
from tests.native import golden
from tests.native.test_golden import VECTORS

pytestmark = pytest.mark.usefixtures("linux_objects")

CPUS = {
    "neoverse-n1": ("dotprod", "portable"),
    "cortex-a72": ("portable",),  # Raspberry Pi 4: no dot product
    "max": ("i8mm", "dotprod", "portable"),
}


@pytest.fixture(scope="module")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Model files in the order of VECTORS."""
    directory = tmp_path_factory.mktemp("golden")
    paths = [directory / "-".join(name) for name in VECTORS]
    for path, (family, precision) in zip(paths, VECTORS, strict=True):
        golden.write(path, family, precision)
    return paths


@pytest.mark.parametrize(("cpu", "kernels"), CPUS.items())
def test_small_models_give_the_known_bits(
    cpu: str, kernels: Sequence[str], small_models: list[Path], tmp_path: Path
) -> None:
    assert arm_program.kernels(cpu) == kernels
    best = kernels[:1]  # the others are the best ones of other cores
    cases = [
        Case(model=model, token_ids=golden.texts(), kernels=best, threads=1 + i % 3)
        for i, model in enumerate(small_models)
    ]
    found = [
        {kernel: hashlib.sha256(vectors.tobytes()).hexdigest() for kernel, vectors in one.items()}
        for one in arm_program.run(cpu, tmp_path, cases)
    ]
    assert found == [dict.fromkeys(best, known) for known in VECTORS.values()]


def test_a_layer_of_embeddinggemmas_size_gives_the_bits_of_x86(tmp_path: Path) -> None:
    model = tmp_path / "model"
    arm_shape.write(model, layers=1)
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, arm_shape.VOCABULARY, n) for n in (1, 21, 70)]
    expected = NativeEngine(model, num_threads=2).forward(texts)
    for cpu, kernel in (("neoverse-n1", "dotprod"), ("max", "i8mm")):
        case = Case(model=model, token_ids=texts, kernels=(kernel,))
        assert np.array_equal(arm_program.run(cpu, tmp_path, [case])[0][kernel], expected)
