from collections import Counter

import pytest

from embedder.blank import is_blank
from embedder.prepare.check_texts import (
    CODE,
    DIRECTORY,
    LANGUAGES,
    LONG,
    RECORDS,
    check_texts,
    prompted_texts,
)
from embedder.prepare.sentences import SENTENCES
from tests.embedder.conftest import LoadModel


@pytest.mark.parametrize("family", ["starter", "gemma"])
def test_there_are_300_different_texts_of_every_kind(
    family: str, request: pytest.FixtureRequest
) -> None:
    model: LoadModel = request.getfixturevalue(family)
    tokenizer = model("fp32").tokenizer

    def n_tokens(text: str) -> int:
        return tokenizer.encode([text], max_tokens=1_000_000)[0].n_tokens

    texts = check_texts(n_tokens)
    assert len({text.text for text in texts}) == len(texts) >= 300
    assert not [text for text in texts if is_blank(text.text)]
    kinds = Counter(text.kind for text in texts)
    assert all(kinds[language] == 12 for language in LANGUAGES)
    assert all(kinds[language] == 5 for language in CODE)
    assert all(kinds[kind] >= 10 for kind in (*RECORDS, "repeated"))
    long = [text for text in texts if text.kind.endswith(" tokens")]
    for text, (least, _) in zip(long, LONG, strict=True):
        assert 0.95 * least < n_tokens(text.text) < 1.5 * least
    assert max(len(text.text) for text in texts if text not in long) <= 600


def test_the_check_has_other_texts_than_the_calibration() -> None:
    assert {text.text for text in check_texts(len)}.isdisjoint(SENTENCES)


def test_every_file_is_read() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.txt")} == {*LANGUAGES, *CODE, *RECORDS}


def test_each_prompt_gets_the_same_texts() -> None:
    query, document = (
        [text.text for text in prompted_texts([name])] for name in ("query", "document")
    )
    assert query == document
    assert {text.prompt_name for text in prompted_texts(["query"])} == {"query"}
