import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from embedder.errors import TextError
from embedder.prepare.sentences import SENTENCES
from tests.embedder.conftest import LoadModel

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(SENTENCES)


@pytest.mark.parametrize("family", ["starter", "gemma"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=texts,
    max_tokens=st.integers(3, 64),
    prompt=st.sampled_from(["", "task: search result | query: "]),
)
def test_ids_are_those_of_sentence_transformers(
    family: str, text: str, max_tokens: int, prompt: str, request: pytest.FixtureRequest
) -> None:
    model: LoadModel = request.getfixturevalue(family)
    original: SentenceTransformer = request.getfixturevalue(f"{family}_original")
    expected = original.tokenizer(prompt + text, truncation=True, max_length=max_tokens)[
        "input_ids"
    ]
    (tokens,) = model("fp32").tokenizer.encode([text], prompt=prompt, max_tokens=max_tokens)
    assert tokens.ids.tolist() == expected


def test_truncation_keeps_the_end_token_and_the_length_before_it(
    starter: LoadModel,
) -> None:
    whole, cut = (
        starter("fp32").tokenizer.encode(["word " * 50], max_tokens=n)[0] for n in (100, 10)
    )
    assert (whole.n_tokens, whole.truncated) == (52, False)
    assert (cut.n_tokens, len(cut.ids), cut.truncated) == (52, 10, True)
    assert cut.ids[-1] == whole.ids[-1]


@pytest.mark.parametrize("text", ["", " \n", "\u200b" * 20_000, "word", " " * 20_000 + "."])
def test_an_invisible_text_is_blank_with_any_prompt(starter: LoadModel, text: str) -> None:
    (tokens,) = starter("fp32").tokenizer.encode([text], prompt="query: ", max_tokens=128)
    assert tokens.blank == (not text.strip("\u200b \n"))


def test_tokenized_queries_are_not_cached(gemma: LoadModel) -> None:
    """BPE caches words, and to Gemma's tokenizer a text is one word: 78 MB."""
    tokenizer, process = gemma("fp32").tokenizer, psutil.Process()
    queries = [
        "".join(map(chr, range(start, start + 60))) for start in range(0x1F300, 0x1F300 + 10_000)
    ]
    tokenizer.encode(queries[:10], max_tokens=1024)
    before = process.memory_info().rss
    for query in queries:
        tokenizer.encode([query], max_tokens=1024)
    assert process.memory_info().rss - before < 10_000_000


def test_a_lone_surrogate_is_refused_with_its_position(starter: LoadModel) -> None:
    with pytest.raises(TextError) as refusal:
        starter("fp32").tokenizer.encode(["fine", "not \ud800 fine"], max_tokens=10)
    assert refusal.value.index == 1


@pytest.mark.parametrize("text", ["", "\0", "a" * 1_000_000, "🏳️‍🌈" * 500, "\u202eright to left"])
def test_unusual_texts_can_be_tokenised(starter: LoadModel, text: str) -> None:
    (tokens,) = starter("fp32").tokenizer.encode([text], max_tokens=128)
    assert 2 <= len(tokens.ids) <= 128
