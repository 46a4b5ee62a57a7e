"""A sentence-transformers model to the native engine's configuration and weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer
from torch import nn

from embedder.engine_config import EngineConfig
from embedder.prepare import model_file
from embedder.prepare.calibration import Calibration
from embedder.prepare.families import bert
from embedder.prepare.families import gemma3 as gemma
from embedder.prepare.parts import Parts, read_parts
from embedder.prepare.weight import Weight


@dataclass(frozen=True)
class Family:
    """How the parameters of some architectures become the engine's."""

    engine_config: Callable[..., EngineConfig]  # (parts, *, precision, max_tokens)
    measured: Callable[[Parts], Iterator[nn.Module]]
    weights: Callable[..., Iterator[Weight]]  # (parts, calibration, *, rotated, max_tokens)


FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(bert.ARCHITECTURES, Family(bert.engine_config, bert.measured, bert.weights)),
    **dict.fromkeys(
        gemma.ARCHITECTURES, Family(gemma.engine_config, gemma.measured, gemma.weights)
    ),
}


class NativeModel:
    """A model that the engine can run, about to be written.

    Raises UnsupportedModelError, which names MODEL_BACKEND=torch.
    """

    def __init__(
        self, model: SentenceTransformer, model_id: str, *, precision: str, max_tokens: int
    ) -> None:
        self._parts = parts = read_parts(model, model_id)
        self._family = _family(parts)
        self._calibration = Calibration()
        self.config = self._family.engine_config(parts, precision=precision, max_tokens=max_tokens)
        if problems := list(self.config.problems()):
            raise parts.unsupported("; ".join(problems))

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """int8 is rounded for what the model reads meanwhile; other precisions need nothing."""
        with ExitStack() as stack:
            if self._is_int8:
                stack.enter_context(self._calibration.watching(self._family.measured(self._parts)))
            yield

    def write(self, path: Path) -> None:
        """The model file."""
        weights = self._family.weights(
            self._parts,
            self._calibration,
            rotated=self._is_int8,
            max_tokens=self.config.positions,
        )
        model_file.write(path, self.config, list(weights))

    @property
    def _is_int8(self) -> bool:
        return self.config.precision == "int8"


def _family(parts: Parts) -> Family:
    architecture = parts.config.model_type
    if architecture not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise parts.unsupported(f"its architecture is {architecture}, known are {known}")
    return FAMILIES[architecture]
