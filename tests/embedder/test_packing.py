import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.packing import PADDING, layout, pack

lengths_of_texts = st.lists(st.integers(1, 700), min_size=1, max_size=40)


@given(lengths_of_texts, st.integers(1, 600), st.none() | st.integers(1, 8))
def test_every_text_is_in_one_pack_within_the_budget(
    lengths: list[int], budget: int, max_texts: int | None
) -> None:
    packs = pack(lengths, budget=budget, max_texts=max_texts)
    assert sorted(index for indices in packs for index in indices) == list(range(len(lengths)))
    for indices in packs:
        assert len(indices) == 1 or sum(lengths[i] for i in indices) <= budget
        assert max_texts is None or len(indices) <= max_texts


@given(lengths_of_texts, st.none() | st.integers(1, 300))
def test_each_block_holds_every_key_its_queries_may_read_and_holds_it_once(
    lengths: list[int], window: int | None
) -> None:
    blocks = layout([np.arange(length) for length in lengths], window=window)
    segments, positions = blocks.segment_ids.ravel(), blocks.position_ids.ravel()
    for row in range(len(blocks.input_ids)):
        for keys, reach in ((blocks.wide_keys[row], None), (blocks.near_keys[row], window)):
            assert len(np.unique(keys)) == len(keys)
            for segment, position in zip(blocks.segment_ids[row], blocks.position_ids[row], strict=True):
                if segment == PADDING:
                    continue
                readable = segments == segment
                if reach is not None:
                    readable &= np.abs(positions - position) < reach
                assert np.isin(np.flatnonzero(readable), keys).all()


@given(lengths_of_texts)
def test_texts_lie_in_the_flat_pack_in_order_with_little_padding(lengths: list[int]) -> None:
    rng = np.random.default_rng(0)
    token_ids = [rng.integers(0, 1000, length) for length in lengths]
    blocks = layout(token_ids)
    flat, segments = blocks.input_ids.ravel(), blocks.segment_ids.ravel()
    for index, ids in enumerate(token_ids):
        assert (flat[segments == index] == ids).all()
    assert len(flat) - sum(lengths) < len(blocks.input_ids)


@pytest.mark.parametrize("length", [2048, 1024])
def test_a_long_text_reads_only_its_window_on_sliding_layers(length: int) -> None:
    blocks = layout([np.arange(length)], window=257)
    assert blocks.near_keys.shape[1] <= blocks.input_ids.shape[1] + 2 * 256
    assert blocks.near_keys.shape[1] < length


def test_short_texts_in_one_pack_do_not_read_each_other_for_nothing() -> None:
    blocks = layout([np.arange(128)] * 4)
    assert blocks.input_ids.shape == (4, 128)
    assert blocks.wide_keys.shape == (4, 128)
