"""The same texts give vectors with the same bits, whatever computes them."""

import hashlib
from pathlib import Path

import pytest

from embedder.native_engine import NativeEngine, kernels
from tests.native import golden

# SHA-256 of the vectors, the same for every CPU, kernel and number of threads. fp16 represents
# these weights exactly, so its vectors are those of fp32.
VECTORS = {
    ("gemma3", "int8"): "66db03c72769d801ef2b9a2fabe3f5830946204ba53394d8cfbf117a269de1b5",
    ("gemma3", "fp16"): "eaee9c583fc2104ea6e0955386f1fa4beffa9ddfd09128ada04dd5acc9b48146",
    ("gemma3", "fp32"): "eaee9c583fc2104ea6e0955386f1fa4beffa9ddfd09128ada04dd5acc9b48146",
    (
        "embedding_gemma2",
        "int8",
    ): "012a5214afa46a6ee2baf47da9446172edeaaca179bf0b518befdfdb35a73400",
    (
        "embedding_gemma2",
        "fp16",
    ): "56426bcf0be6507399a4eee575247710b696b391ca5633fa4e4165d5b22848c5",
    (
        "embedding_gemma2",
        "fp32",
    ): "56426bcf0be6507399a4eee575247710b696b391ca5633fa4e4165d5b22848c5",
    ("bert", "int8"): "90a171e04b2f4081ad0be0252ec70673adaa2453a61100793883a74cb69f4359",
    ("bert", "fp16"): "e26562e65ca4d5a0fa9a87ff4adc39d00290a144805f99789be6c53000e998a1",
    ("bert", "fp32"): "e26562e65ca4d5a0fa9a87ff4adc39d00290a144805f99789be6c53000e998a1",
}


@pytest.mark.parametrize(("family", "precision"), VECTORS)
def test_vectors_have_the_same_bits_on_every_kernel_and_number_of_threads(
    tmp_path: Path, family: str, precision: str
) -> None:
    path = tmp_path / "model.safetensors"
    golden.write(path, family, precision)
    found = {
        (kernel, threads): hashlib.sha256(
            NativeEngine(path, num_threads=threads, kernel=kernel).forward(golden.texts()).tobytes()
        ).hexdigest()
        for kernel in kernels()
        for threads in (1, 2, 8)
    }
    assert found == dict.fromkeys(found, VECTORS[family, precision])


def test_more_threads_than_the_engine_takes_are_reduced(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    golden.write(path, "bert", "int8")
    vectors = NativeEngine(path, num_threads=192).forward(golden.texts())
    assert hashlib.sha256(vectors.tobytes()).hexdigest() == VECTORS["bert", "int8"]
