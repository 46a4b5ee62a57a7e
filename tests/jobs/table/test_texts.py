"""Texts over the limit, as a worker embeds them."""

from pathlib import Path

import numpy as np
import pytest

from embedder.model import EmbeddingModel
from embedder.overflow import average
from jobs.errors import RowError
from jobs.table.texts import TOKENS_AT_ONCE, Embedded, Text, TextEmbedder
from tests.jobs.table.filling import starter_engine

LONG = "word " * (TOKENS_AT_ONCE + 1_000)
TEXTS = [Text(1, None, "short", b""), Text(2, None, LONG, b""), Text(3, None, "other", b"")]


@pytest.fixture(scope="module")
def model(model_store: Path) -> EmbeddingModel:
    engine = starter_engine()
    return EmbeddingModel.load(engine.directory, num_threads=1, max_tokens=engine.max_tokens)


def embedded(found: list[list[Embedded]]) -> dict[int, Embedded]:
    return {one.text.id: one for some in found for one in some}


def test_a_long_text_takes_several_calls_and_the_worker_is_asked_between_them(
    model: EmbeddingModel,
) -> None:
    """So that it can renew its claims."""
    found = [*TextEmbedder(starter_engine(), "average").embed(TEXTS, 384)]
    assert found.count([]) == 1
    [read] = model.tokenizer.encode([LONG], max_tokens=model.max_tokens, average=True)
    expected = average(model.engine.forward(read.windows), [read.weights])[0]
    by_id = embedded(found)
    assert by_id.keys() == {1, 2, 3}
    np.testing.assert_array_equal(by_id[2].vector, expected)


def test_a_long_text_is_cut_or_refused_where_that_was_asked_for(model: EmbeddingModel) -> None:
    cut = embedded([*TextEmbedder(starter_engine(), "truncate").embed(TEXTS, 384)])
    np.testing.assert_array_equal(cut[2].vector, model.embed([LONG])[0])
    refused = embedded([*TextEmbedder(starter_engine(), "error").embed(TEXTS, 384)])
    assert isinstance(refused[2].vector, RowError)
    assert "the limit is 256" in str(refused[2].vector)
    assert not isinstance(refused[3].vector, RowError)
