import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder.packing import NOTHING, STRIDE, layout, pack

lengths_of_texts = st.lists(st.integers(1, 700), min_size=1, max_size=40)


@given(lengths_of_texts, st.integers(1, 600), st.none() | st.integers(1, 8))
def test_every_text_is_in_one_pack_within_the_budget(lengths: list[int], budget: int, max_texts: int | None) -> None:
    packs = pack(lengths, budget=budget, max_texts=max_texts)
    assert sorted(index for indices in packs for index in indices) == list(range(len(lengths)))
    for indices in packs:
        assert len(indices) == 1 or sum(lengths[i] for i in indices) <= budget
        assert max_texts is None or len(indices) <= max_texts


@given(lengths_of_texts, st.none() | st.integers(1, 300))
def test_each_block_reads_the_keys_its_queries_may_read_and_no_other_text(
    lengths: list[int], window: int | None
) -> None:
    arranged = layout([np.arange(length) for length in lengths], window=window)
    segments, positions = arranged.segment_ids, arranged.position_ids
    for queries, keys in zip(arranged.wide.queries, arranged.wide.keys, strict=True):
        owner = segments[queries[0]]
        assert set(segments[queries[queries != NOTHING]]) == {owner}
        assert np.array_equal(keys[keys != NOTHING], np.flatnonzero(segments == owner))
    for queries, keys in zip(arranged.near.queries, arranged.near.keys, strict=True):
        owner = segments[queries[0]]
        text = np.flatnonzero(segments == owner)
        kept = keys[keys != NOTHING]
        assert len(np.unique(kept)) == len(kept)
        assert np.isin(kept, text).all()
        for query in queries[queries != NOTHING]:
            assert segments[query] == owner
            if window is not None:
                readable = text[np.abs(positions[text] - positions[query]) < window]
                assert np.isin(readable, kept).all()


@given(lengths_of_texts, st.integers(1, 300))
def test_each_token_is_one_query_and_finds_its_place_again(lengths: list[int], window: int) -> None:
    rng = np.random.default_rng(0)
    token_ids = [rng.integers(0, 1000, length) for length in lengths]
    arranged = layout(token_ids, window=window)
    for blocks in (arranged.wide, arranged.near):
        assert np.array_equal(blocks.queries.ravel()[blocks.places], np.arange(sum(lengths)))
        assert np.count_nonzero(blocks.queries != NOTHING) == sum(lengths)
    for index, ids in enumerate(token_ids):
        assert np.array_equal(arranged.input_ids[arranged.segment_ids == index], ids)


@given(st.integers(1, 700), lengths_of_texts, st.integers(1, 300))
def test_a_text_has_its_keys_in_the_same_lanes_in_every_company(length: int, company: list[int], window: int) -> None:
    """What makes vectors equal to the bit: the order of every sum over keys."""

    def key_lanes(lengths: list[int]) -> dict[int, set[int]]:
        arranged = layout([np.arange(length) for length in lengths], window=window)
        lanes: dict[int, set[int]] = {}
        for blocks in (arranged.wide, arranged.near):
            for queries, row in zip(blocks.queries, blocks.keys, strict=True):
                if arranged.segment_ids[queries[0]] == 0:
                    for lane, key in enumerate(row):
                        if key != NOTHING:
                            lanes.setdefault(int(key), set()).add(lane % STRIDE)
        return lanes

    alone = key_lanes([length])
    assert all(len(lanes) == 1 for lanes in alone.values())
    assert key_lanes([length, *company]) == alone


@pytest.mark.parametrize("length", [2048, 1024])
def test_a_long_text_reads_only_its_window_on_sliding_layers(length: int) -> None:
    arranged = layout([np.arange(length)], window=257)
    assert arranged.near.keys.shape[1] <= arranged.near.queries.shape[1] + 2 * 256 + STRIDE
    assert arranged.near.keys.shape[1] < length


def test_a_long_text_copies_its_keys_once_for_full_attention() -> None:
    assert layout([np.arange(2048)], window=257).wide.keys.shape == (1, 2048)


def test_short_texts_in_one_pack_do_not_read_each_other() -> None:
    arranged = layout([np.arange(128)] * 4)
    assert arranged.wide.queries.shape == (4, 128)
    assert arranged.wide.keys.shape == (4, 128)
