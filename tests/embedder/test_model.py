import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from embedder.errors import NoTorchError
from embedder.model import EmbeddingModel, check_backend
from embedder.prepare.sentences import SENTENCES, long_text
from embedder.prepare.source import Source
from embedder.prepare.verify import compare
from tests.embedder.conftest import LoadModel, prepare

TEXTS = [*SENTENCES, long_text(), " ".join(SENTENCES)]


@pytest.mark.parametrize("family", ["starter", "gemma"])
def test_fp32_vectors_are_those_of_sentence_transformers(
    family: str, request: pytest.FixtureRequest
) -> None:
    model: LoadModel = request.getfixturevalue(family)
    original: SentenceTransformer = request.getfixturevalue(f"{family}_original")
    expected = original.encode(TEXTS, batch_size=1)  # or each text costs as much as the longest
    np.testing.assert_allclose(model("fp32").embed(TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("prompt", ["query", "document"])
def test_prompts_are_part_of_the_text_and_of_the_pooling(
    prompt: str, gemma: LoadModel, gemma_original: SentenceTransformer
) -> None:
    model = gemma("fp32")
    expected = gemma_original.encode(list(SENTENCES), prompt_name=prompt)
    np.testing.assert_allclose(
        model.embed(SENTENCES, model.profile.prompts[prompt]), expected, atol=2e-6
    )
    assert np.abs(model.embed(SENTENCES) - expected).max() > 1e-3


@pytest.mark.parametrize("quantization", ["fp32", "int8"])
@pytest.mark.parametrize("family", ["starter", "gemma"])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_vector_is_the_same_alone_and_in_any_batch(
    family: str, quantization: str, data: st.DataObject, request: pytest.FixtureRequest
) -> None:
    model: EmbeddingModel = request.getfixturevalue(family)(quantization)
    batch = data.draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6))
    together = model.embed(batch)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    for text, vector in zip(batch, together, strict=True):
        assert np.array_equal(model.embed([text])[0], vector)


@pytest.mark.parametrize("quantization", ["int8", "fp16"])
def test_the_starter_model_stays_close_to_fp32(quantization: str, starter: LoadModel) -> None:
    agreement = compare(starter(quantization).embed(TEXTS), starter("fp32").embed(TEXTS))
    assert agreement.min_cosine >= 0.997
    assert agreement.mean_cosine >= 0.9995
    assert agreement.rank_correlation >= 0.9995


def test_similar_texts_are_closer_than_unrelated_ones(starter: LoadModel) -> None:
    guitar, instrument, market = starter("int8").embed(SENTENCES[:3])
    assert guitar @ instrument > max(guitar @ market, instrument @ market)


def test_a_text_longer_than_the_model_reads_is_truncated(starter: LoadModel) -> None:
    model = starter("fp32")
    assert model.max_tokens == 256
    (tokens,) = model.tokenizer.encode([long_text()], max_tokens=model.max_tokens)
    assert tokens.truncated
    assert len(tokens.ids) == 256


def test_the_limit_can_be_lowered_and_not_raised(
    starter: LoadModel, starter_directory: Path
) -> None:
    starter("fp32")
    lower = EmbeddingModel.load(starter_directory, num_threads=1, max_tokens=8)
    higher = EmbeddingModel.load(starter_directory, num_threads=1, max_tokens=100_000)
    assert (lower.max_tokens, higher.max_tokens) == (8, 256)


def test_the_torch_backend_is_refused_before_a_start_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_backend("torch", kernel=None)
    monkeypatch.setattr("embedder.model.find_spec", lambda _: None)
    with pytest.raises(NoTorchError, match="run without Docker"):
        check_backend("torch", kernel=None)


def test_the_torch_backend_gives_the_original_vectors(
    gemma_source: Source, gemma_original: SentenceTransformer, tmp_path: Path
) -> None:
    model = prepare(gemma_source, tmp_path / "torch", "fp32", backend="torch")
    texts = [*SENTENCES, long_text(4)]
    np.testing.assert_allclose(model.embed(texts), gemma_original.encode(texts), atol=2e-6)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "EmbeddingModel.load(directory, num_threads=1).embed(['a'])",
            "{'torch', 'sentence_transformers', 'transformers', 'embedder.prepare'}",
        ),
        ("import embedder.torch_engine", "{'embedder.native_engine'}"),
    ],
)
def test_a_backend_does_not_import_the_other(
    code: str, absent: str, starter: LoadModel, starter_directory: Path
) -> None:
    starter("fp32")
    script = (
        "import sys; from pathlib import Path; from embedder.model import EmbeddingModel\n"
        f"directory = Path({str(starter_directory)!r})\n"
        f"{code}\n"
        f"print({absent} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
