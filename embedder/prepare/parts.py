"""The modules of a sentence-transformers model, checked to be what a native engine computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, Pooling
from torch import Tensor, nn

from embedder.engine_config import POOLINGS
from embedder.prepare.calibration import Calibration
from embedder.prepare.errors import UnsupportedModelError
from embedder.prepare.quantise import Floats
from embedder.prepare.weight import Linear

VECTOR = "sentence_embedding"  # what a Dense module reads and writes by default
ACTIVATIONS: Mapping[type[nn.Module], str] = {
    nn.Identity: "identity",
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
}


@dataclass(frozen=True)
class Parts:
    """The transformer, the pooling of its last hidden state, and the Dense layers after it."""

    model_id: str
    transformer: nn.Module
    config: Any
    pooling: str
    dense: tuple[Dense, ...]

    def unsupported(self, reason: str) -> UnsupportedModelError:
        """The error for something of this model that the engine does not have."""
        return UnsupportedModelError(self.model_id, reason)

    @property
    def dense_widths(self) -> tuple[int, ...]:
        """Outputs of each Dense layer."""
        return tuple(dense.out_features for dense in self.dense)

    @property
    def dense_activations(self) -> tuple[str, ...]:
        """The activation of each Dense layer, as the engine names it.

        Raises:
            UnsupportedModelError: the engine does not have one of them.
        """
        return tuple(self._activation(dense.activation_function) for dense in self.dense)

    def dense_linears(self, *, first: int = 0) -> list[Linear]:
        """Rounded to the nearest: one vector per text is too little to calibrate them with.

        Args:
            first: number of the first one in the model file.
        """
        no_calibration = Calibration()
        return [
            linear(f"dense.{number}", dense.linear, no_calibration)
            for number, dense in enumerate(self.dense, first)
        ]

    def _activation(self, module: nn.Module) -> str:
        if isinstance(module, nn.GELU):
            return {"none": "gelu", "tanh": "gelu_tanh"}[module.approximate]
        if found := ACTIVATIONS.get(type(module)):
            return found
        raise self.unsupported(f"activation {type(module).__name__} of a Dense layer is not known")


def read_parts(model: SentenceTransformer, model_id: str) -> Parts:
    """The parts of a model.

    Raises:
        UnsupportedModelError: the engine does not have a module, or a setting of one.
    """
    first, pooling, *rest = list(model) + [None] * (2 - len(model))
    if not isinstance(first, Transformer) or not isinstance(pooling, Pooling):
        raise UnsupportedModelError(model_id, "its first modules are not Transformer and Pooling")
    if pooling.pooling_mode not in POOLINGS:
        raise UnsupportedModelError(
            model_id, f"pooling {pooling.pooling_mode!r} is not one of {POOLINGS}"
        )
    if not pooling.include_prompt and any(model.prompts.values()):
        raise UnsupportedModelError(model_id, "its pooling leaves prompts out")
    for module in rest:
        _check_module(module, model_id)
    dense = tuple(module for module in rest if isinstance(module, Dense))
    transformer = first.auto_model
    return Parts(model_id, transformer, transformer.config, str(pooling.pooling_mode), dense)


def _check_module(module: nn.Module, model_id: str) -> None:
    if not isinstance(module, Dense | Normalize | Dropout):
        raise UnsupportedModelError(model_id, f"module {type(module).__name__} is not known")
    if isinstance(module, Dense):
        if getattr(module, "use_residual", False):
            raise UnsupportedModelError(model_id, "its Dense layer has a residual connection")
        names = (getattr(module, f"module_{end}_name", VECTOR) for end in ("input", "output"))
        if set(names) != {VECTOR}:
            raise UnsupportedModelError(model_id, "its Dense layer works on token embeddings")


def floats(tensor: Tensor) -> Floats:
    """A view of a parameter's memory, not a copy."""
    values: Floats = tensor.detach().numpy()
    return values


def linear(name: str, module: nn.Linear, calibration: Calibration) -> Linear:
    """A linear layer without changes."""
    n, k = module.weight.shape
    return Linear(
        name=name,
        n=n,
        k=k,
        matrix=lambda: floats(module.weight),
        bias=None if module.bias is None else floats(module.bias),
        gram=lambda: calibration.gram(module),
    )
