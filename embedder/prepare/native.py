"""A sentence-transformers model as the native engine's configuration and weights."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sentence_transformers import SentenceTransformer

from embedder.prepare import model_file
from embedder.prepare.calibration import Calibration
from embedder.prepare.families import family_of, native_architectures
from embedder.prepare.families.family import NativeForm
from embedder.prepare.parts import Parts, read_parts


class NativeModel:
    """A model that the engine can run, not written yet.

    Raises:
        UnsupportedModelError: the engine cannot run it; the message names MODEL_BACKEND=torch.
    """

    def __init__(
        self, model: SentenceTransformer, model_id: str, *, precision: str, max_tokens: int
    ) -> None:
        self._parts = parts = read_parts(model, model_id)
        self._form = _native_form(parts)
        self._calibration = Calibration()
        self.config = self._form.engine_config(parts, precision=precision, max_tokens=max_tokens)
        if problems := list(self.config.problems()):
            raise parts.unsupported("; ".join(problems))

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """Measure what the products read while this lasts. Only int8 is rounded by it."""
        with ExitStack() as stack:
            if self._is_int8:
                modules = self._form.calibrated(self._parts)
                stack.enter_context(self._calibration.watching(modules))
            yield

    def write(self, path: Path) -> None:
        """Write the model file."""
        weights = self._form.weights(
            self._parts,
            self._calibration,
            rotated=self._is_int8,
            max_tokens=self.config.positions,
        )
        model_file.write(path, self.config, list(weights))

    @property
    def _is_int8(self) -> bool:
        return self.config.precision == "int8"


def _native_form(parts: Parts) -> NativeForm:
    architecture = parts.config.model_type
    if form := family_of(architecture).native:
        return form
    known = ", ".join(native_architectures())
    raise parts.unsupported(f"its architecture is {architecture}, not one of {known}")
