"""What a model family is made of: everything that preparing its models does differently."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare.parts import Parts
from embedder.prepare.weight import Weight


@dataclass(frozen=True)
class Golden:
    """Similarities that a model's authors publish, of one query to some documents."""

    query: str
    documents: Sequence[str]
    similarities: Sequence[float]
    tolerance: float
    source: str


@dataclass(frozen=True, kw_only=True)
class NativeForm:
    """How the parameters of a model become the native engine's.

    Attributes:
        engine_config: (parts, *, precision, max_tokens) to the sizes. Raises UnsupportedModelError
            for what the engine's forward pass would silently compute differently.
        calibrated: one module for each product input that int8 weights are rounded for.
        weights: (parts, calibration, *, rotated, max_tokens) to the tensors. `parts`: of the
            original model; `calibration`: statistics of its activations; `rotated`: the values of
            the attention are transformed, and the matrix `o` undoes it; `max_tokens`: positions
            that are kept.
    """

    engine_config: Callable[..., EngineConfig]
    calibrated: Callable[[Parts], Iterator[nn.Module]]
    weights: Callable[..., Iterator[Weight]]


def _no_check(raw_config: Mapping[str, Any], loaded_config: Any) -> None:
    """Nothing in this family's config.json is misread."""


def _first_position(config: Any) -> int:
    return 0


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family. The defaults serve an architecture of which nothing is known.

    Attributes:
        architectures: `model_type` of transformers' configurations.
        native: None where the native engine has no forward pass.
        check_config: (config.json as written, configuration as loaded). Raises ModelConfigError.
        first_position: configuration to the position of a text's first token.
        max_tokens: of a text, where a model's files do not limit it.
        sizes: dimensions that vectors may be truncated to, besides all of them (Matryoshka).
        prompts: a model's own prompts, by name, to those of its profile.
        golden: by model id.
        gated: ids of models on the hub that need a token.
    """

    architectures: tuple[str, ...] = ()
    native: NativeForm | None = None
    check_config: Callable[[Mapping[str, Any], Any], None] = _no_check
    first_position: Callable[[Any], int] = _first_position
    max_tokens: int | None = None
    sizes: tuple[int, ...] = ()
    prompts: Callable[[Mapping[str, str]], dict[str, str]] = dict
    golden: Mapping[str, Golden] = field(default_factory=dict)
    gated: frozenset[str] = frozenset()
