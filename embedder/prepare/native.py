"""A sentence-transformers model to the native engine's configuration and weights."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer

from embedder.engine_config import EngineConfig
from embedder.prepare import bert, gemma, model_file
from embedder.prepare.parts import Parts, read_parts
from embedder.prepare.weight import Weight


@dataclass(frozen=True)
class Family:
    """How the parameters of some architectures become the engine's."""

    engine_config: Callable[..., EngineConfig]  # (parts, *, precision, max_tokens)
    weights: Callable[..., Iterator[Weight]]  # (parts, *, rotated, max_tokens)


FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(bert.ARCHITECTURES, Family(bert.engine_config, bert.weights)),
    **dict.fromkeys(gemma.ARCHITECTURES, Family(gemma.engine_config, gemma.weights)),
}


def write(
    model: SentenceTransformer, path: Path, *, model_id: str, precision: str, max_tokens: int
) -> None:
    """Write the model file. Raises UnsupportedModelError, which names MODEL_BACKEND=torch."""
    parts = read_parts(model, model_id)
    family = _family(parts)
    config = family.engine_config(parts, precision=precision, max_tokens=max_tokens)
    if problems := list(config.problems()):
        raise parts.unsupported("; ".join(problems))
    weights = family.weights(parts, rotated=precision == "int8", max_tokens=max_tokens)
    model_file.write(path, config, list(weights))


def _family(parts: Parts) -> Family:
    architecture = parts.config.model_type
    if architecture not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise parts.unsupported(f"its architecture is {architecture}, known are {known}")
    return FAMILIES[architecture]
