"""What a model's products read: measured while the original embeds the self-check's texts."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn

from embedder.prepare.quantise import Floats

_LEAST = np.float32(1e-30)  # an input that no text has used
Grams: TypeAlias = dict[nn.Module, Tensor]


class Calibration:
    """Sums over all tokens of the products of a linear layer's inputs: X.T @ X, (k, k)."""

    def __init__(self) -> None:
        self._grams: Grams = {}

    @contextmanager
    def watching(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Count what `modules` read for as long as this lasts."""
        handles = [module.register_forward_pre_hook(self._count) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def gram(self, module: nn.Module) -> Floats | None:
        """None for a module that was not watched."""
        found = self._grams.get(module)
        return None if found is None else found.numpy()

    def _count(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows = inputs[0].detach().flatten(0, -2).float()
        self._grams[module] = rows.T @ rows + self._grams.get(module, 0)


def balance(activations: Floats, weights: Floats) -> Floats:
    """(k,) powers of two that share each input's size evenly between activations and weights.

    Inputs times the factor, weights divided by it: the product stays what it was. `activations` and
    `weights` are sums of squares by input, (k,). Noise of rounding grows with the product of both
    sums, which is least where each input's two shares are equal: factor ** 4 = weights / activations.
    """
    ratio = np.log2(np.maximum(weights, _LEAST)) - np.log2(np.maximum(activations, _LEAST))
    exponents = np.rint((ratio - np.median(ratio)) / 4)
    factors: Floats = np.exp2(np.clip(exponents, -12, 12)).astype(np.float32)
    return factors
