"""Rounding weights: the error of each weight, and that of the product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.prepare.calibration import balance
from embedder.prepare.quantise import fp16, int8, int8_for_inputs
from embedder.prepare.rotation import rotated_gram


def correlated(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Inputs like those of real layers: few directions have most of the energy."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) * np.exp2(-np.arange(width) / 8)[:, None]
    return (rng.normal(size=(rows, width)) @ mixing).astype(np.float32)


def test_int8_is_within_half_a_step_of_every_weight() -> None:
    matrix = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    values, scale = int8(matrix)
    assert values.dtype == np.int8
    assert np.abs(values).max() == 127
    assert (np.abs(values * scale[:, None] - matrix) <= scale[:, None] * 0.501).all()


def test_zeros_stay_zeros() -> None:
    matrix = np.zeros((3, 16), np.float32)
    assert not int8(matrix)[0].any()
    assert not int8_for_inputs(matrix, np.zeros((16, 16), np.float32))[0].any()


def test_rounding_for_the_inputs_improves_the_product_on_unseen_texts() -> None:
    matrix = np.random.default_rng(1).normal(size=(48, 64)).astype(np.float32)
    seen, unseen = np.split(correlated(800, 64), 2)
    error = {}
    for name, (values, scale) in {
        "nearest": int8(matrix),
        "for inputs": int8_for_inputs(matrix, seen.T @ seen),
    }.items():
        error[name] = np.linalg.norm(unseen @ (values * scale[:, None] - matrix).T)
    assert error["for inputs"] < error["nearest"] / 2


@given(st.integers(1, 40), st.sampled_from([16, 48, 80, 144]), st.integers(0, 9))
def test_rounding_for_inputs_of_one_token_is_finite(n: int, width: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    x = correlated(1, width, seed)
    values, scale = int8_for_inputs(matrix, x.T @ x)
    assert np.isfinite(scale).all()
    assert np.abs(values.astype(int)).max() <= 127


@pytest.mark.parametrize("offset", [30.0, 100.0])
def test_inputs_that_are_nearly_the_same_for_all_tokens_can_be_rounded_for(offset: float) -> None:
    random = np.random.default_rng(0)
    common = offset * random.normal(size=2048)
    inputs = (common + random.normal(size=(3000, 2048))).astype(np.float32)
    matrix = random.normal(size=(16, 2048)).astype(np.float32)
    values, scale = int8_for_inputs(matrix, rotated_gram(inputs.T @ inputs, 128))
    assert np.abs(values).max() == 127
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("factor", [128.0, 1024.0])
def test_balance_undoes_a_large_channel(factor: float) -> None:
    rng = np.random.default_rng(0)
    x, matrix = (rng.normal(size=(200, 64)).astype(np.float32) for _ in range(2))
    x[:, 7] *= factor
    matrix[:, 7] /= factor
    factors = balance((x**2).sum(axis=0), (matrix**2).sum(axis=0))
    assert factors[7] == 1 / factor
    assert set(np.delete(factors, 7)) == {1.0}


def test_balance_of_an_input_that_no_text_uses_is_finite() -> None:
    factors = balance(np.array([0, 1, 1], np.float32), np.array([1, 1, 0], np.float32))
    assert np.isfinite(factors).all()
    assert (factors > 0).all()


def test_fp16_does_not_become_infinite() -> None:
    assert np.array_equal(fp16(np.array([1e6, -1e6, 0.1], np.float32))[:2], [65504, -65504])
