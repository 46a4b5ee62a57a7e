"""The models that benchmarks run: prepared once under build/benchmarks (or BENCHMARK_MODELS), and reused."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("BENCHMARK_MODELS", ROOT / "build" / "benchmarks"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["BENTOML_HOME"] = str(HOME / "bentoml")  # before bentoml is imported

FULL_SIZE = HOME / "random-embeddinggemma"


def random_embeddinggemma() -> Path:
    """EmbeddingGemma's architecture at full size with random weights: for speed and memory alone."""
    if not (FULL_SIZE / "modules.json").exists():
        from benchmarks.random_embeddinggemma import FULL, build

        build(FULL_SIZE, FULL)
    return FULL_SIZE


def prepared(name: str | None, quantization: str) -> Path:
    """The directory that the service would load for MODEL_NAME `name`."""
    import bentoml

    from download_model import prepare_model

    (HOME / "bentoml").mkdir(parents=True, exist_ok=True)
    return Path(bentoml.models.get(prepare_model(name, quantization=quantization)).path)
