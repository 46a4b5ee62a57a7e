"""The models that benchmarks run, prepared once under build/benchmarks or BENCHMARK_MODELS."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from lab import gemma_tokenizer

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("BENCHMARK_MODELS", ROOT / "build" / "benchmarks"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["BENTOML_HOME"] = str(HOME / "bentoml")  # before bentoml is imported

FULL_SIZE = HOME / "random-embeddinggemma"
FULL_SIZE_2 = HOME / "random-embeddinggemma2"


def random_embeddinggemma() -> Path:
    """EmbeddingGemma's architecture at full size with random weights, for speed and memory."""
    if not (FULL_SIZE / "modules.json").exists():
        from lab.random_embeddinggemma import FULL, build

        build(FULL_SIZE, FULL)
    return FULL_SIZE


def random_embeddinggemma2() -> Path:
    """The same of EmbeddingGemma 2's text encoder."""
    if not (FULL_SIZE_2 / "modules.json").exists():
        from lab.random_embeddinggemma2 import FULL, build

        build(FULL_SIZE_2, FULL)
    return FULL_SIZE_2


RANDOM: Mapping[str, Callable[[], Path]] = {
    "embeddinggemma": random_embeddinggemma,
    "embeddinggemma2": random_embeddinggemma2,
}


def with_real_tokenizer(name: str = "embeddinggemma") -> Path:
    """One of RANDOM with the tokenizer of Gemma 3, whose 262,144 words take memory too."""
    model = RANDOM[name]()
    target = model.with_name(f"{model.name}-real-tokenizer")
    if target.exists():
        return target
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(model, unfinished, copy_function=os.link)
    (unfinished / "tokenizer.json").unlink()
    gemma_tokenizer.fetch(unfinished / "tokenizer.json")
    unfinished.rename(target)
    return target


def prepared(name: str | None, quantization: str) -> Path:
    """The directory that the service loads for MODEL_NAME `name`; None for the starter model."""
    import bentoml

    from download_model import prepare_model

    (HOME / "bentoml").mkdir(parents=True, exist_ok=True)
    return Path(bentoml.models.get(prepare_model(name, quantization=quantization)).path)
