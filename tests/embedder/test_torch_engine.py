from hypothesis import given
from hypothesis import strategies as st

from embedder.torch_engine import packs


@given(st.lists(st.integers(1, 700), min_size=1, max_size=40), st.integers(1, 600))
def test_every_text_is_in_one_pack_within_the_budget(lengths: list[int], budget: int) -> None:
    found = packs(lengths, budget=budget)
    assert sorted(index for pack in found for index in pack) == list(range(len(lengths)))
    for pack in found:
        assert len(pack) == 1 or sum(lengths[index] for index in pack) <= budget
        assert [lengths[i] for i in pack] == sorted((lengths[i] for i in pack), reverse=True)
