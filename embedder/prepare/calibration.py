"""Measures the inputs of a model's products while the original embeds the self-check's texts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn

from embedder.prepare.quantise import Floats

_TINY = np.float32(1e-30)  # for an input that no text uses
Grams: TypeAlias = dict[nn.Module, Tensor]


class Calibration:
    """X.T @ X, (k, k), of the inputs of linear layers, summed over all tokens."""

    def __init__(self) -> None:
        self._grams: Grams = {}

    @contextmanager
    def watching(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Measure the inputs of `modules` while this lasts."""
        handles = [module.register_forward_pre_hook(self._measure) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def gram(self, module: nn.Module) -> Floats | None:
        """X.T @ X of a module's inputs; None if it was not watched."""
        found = self._grams.get(module)
        return None if found is None else found.numpy()

    def _measure(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows = inputs[0].detach().flatten(0, -2).float()
        self._grams[module] = rows.T @ rows + self._grams.get(module, 0)


def balance(activations: Floats, weights: Floats) -> Floats:
    """Factors that balance the magnitude of each input between activations and weights.

    Inputs are multiplied by the factors and weights divided by them, so the product is unchanged.
    Rounding noise grows with the product of both sums of squares, which is smallest where they are
    equal for each input: factor ** 4 = weights / activations.

    Args:
        activations: (k,), sums of squares by input.
        weights: (k,), sums of squares by input.

    Returns:
        (k,) powers of two.
    """
    ratio = np.log2(np.maximum(weights, _TINY)) - np.log2(np.maximum(activations, _TINY))
    exponents = np.rint((ratio - np.median(ratio)) / 4)
    factors: Floats = np.exp2(np.clip(exponents, -12, 12)).astype(np.float32)
    return factors
