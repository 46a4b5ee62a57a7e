"""Models that come with parts for images and sound, which are neither downloaded nor loaded."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from transformers import EmbeddingGemma2Model

from embedder.prepare.errors import DownloadRunningError, NetworkError
from embedder.prepare.source import Source, download, locate
from embedder.prepare.text_encoder import text_weights
from embedder.prepare.text_only import PROCESSOR_FILES, text_only
from lab.random_embeddinggemma2 import TINY, build, with_other_modalities
from tests.embedder.conftest import prepare
from tests.embedder.prepare.local_hub import COMMIT, serving

MODEL_ID = "google/embeddinggemma-2"


def test_a_model_without_a_processor_is_unchanged(gemma_source: Source) -> None:
    with text_only(gemma_source) as source:
        assert source == gemma_source


@pytest.mark.parametrize("name", PROCESSOR_FILES)
def test_a_model_with_a_processor_is_unchanged(tmp_path: Path, name: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"processor_class": "Gemma3Processor"}')
    (tmp_path / name).write_text("{}")
    source = Source("model", tmp_path, "revision")
    with text_only(source) as taken:
        assert taken == source


def test_a_processor_without_files_is_left_out(gemma_source: Source, tmp_path: Path) -> None:
    source = naming_a_processor(gemma_source, tmp_path)
    with text_only(source) as taken:
        seen = {path.name: path.read_bytes() for path in taken.directory.glob("*.*")}
        config = json.loads(seen.pop("tokenizer_config.json"))
    original = {path.name: path.read_bytes() for path in gemma_source.directory.glob("*.*")}
    assert config == json.loads(original.pop("tokenizer_config.json"))
    assert seen == original
    assert "Gemma3Processor" in (source.directory / "tokenizer_config.json").read_text()


def naming_a_processor(source: Source, directory: Path) -> Source:
    """A copy whose tokenizer names an image processor, like those of Google's models."""
    copy = directory / "names-a-processor"
    shutil.copytree(source.directory, copy)
    path = copy / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"processor_class": "Gemma3Processor"}
    path.write_text(json.dumps(config))
    return locate(str(copy))


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("text-encoder") / "model", TINY)


@pytest.fixture(scope="module")
def whole(text_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with parts for images and sound."""
    return with_other_modalities(text_encoder, tmp_path_factory.mktemp("whole") / "model")


def test_of_a_model_for_images_and_sound_only_the_text_encoder_is_taken(
    whole: Path, text_encoder: Path
) -> None:
    with text_only(locate(str(whole))) as taken:
        found = load_file(taken.directory / "model.safetensors")
        config = json.loads((taken.directory / "config.json").read_text())
        settings = json.loads((taken.directory / "sentence_bert_config.json").read_text())
        assert not (taken.directory / "processor_config.json").exists()
    expected = load_file(text_encoder / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert config == json.loads((text_encoder / "config.json").read_text())
    assert settings == json.loads((text_encoder / "sentence_bert_config.json").read_text())


def test_its_vectors_are_those_of_the_whole_model(whole: Path, tmp_path: Path) -> None:
    reference = EmbeddingGemma2Model.from_pretrained(
        whole, vision_config=None, audio_config=None, dtype=torch.float32
    ).eval()
    prepared = prepare(locate(str(whole)), tmp_path / "fp32", "fp32")
    [tokens] = prepared.tokenizer.encode(["A man plays the guitar."], prompt="", max_tokens=64)
    with torch.inference_mode():
        states = reference(torch.tensor(tokens.ids)[None]).last_hidden_state
    vector = torch.nn.functional.normalize(states.mean(dim=1), dim=-1).numpy()
    np.testing.assert_allclose(prepared.embed(["A man plays the guitar."]), vector, atol=2e-6)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-4], "ends at byte"),
        (lambda data: data[:4], "ends at byte"),
        (lambda data: b"\xff" * 8 + data[8:], "not a safetensors file"),
        (lambda data: data.replace(b"language_model.", b"model.language_"), "no tensors named"),
    ],
)
def test_a_damaged_file_of_weights_is_refused(
    damage: Callable[[bytes], bytes], reason: str, text_encoder: Path
) -> None:
    data = (text_encoder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    named = {
        name if name == "__metadata__" else f"language_model.{name}": entry
        for name, entry in header.items()
    }
    text = json.dumps(named).encode()
    damaged = damage(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(ValueError, match=reason):
        list(text_weights(io.BytesIO(damaged)).pieces())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, which may connect."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_no_byte_of_other_parts_is_downloaded(whole: Path, text_encoder: Path, cache: Path) -> None:
    with serving(MODEL_ID, whole) as (endpoint, sent):
        source = download(MODEL_ID, None, endpoint)
        first = list(sent)
        assert download(MODEL_ID, None, endpoint) == source  # from the cache
        assert sent == first
    assert source.revision == COMMIT
    found, expected = (
        load_file(directory / "model.safetensors") for directory in (source.directory, text_encoder)
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    taken = {byte for name, begin, end in sent if name == "model.safetensors"
             for byte in range(begin, end + 1)}  # fmt: skip
    assert not taken & bytes_of_other_parts(whole / "model.safetensors")
    with text_only(source) as same:
        assert same == source


def bytes_of_other_parts(path: Path) -> set[int]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return {
        8 + length + byte
        for name, entry in header.items()
        if not name.startswith(("language_model.", "__metadata__"))
        for byte in range(*entry["data_offsets"])
    }


def test_an_interrupted_download_leaves_no_model(whole: Path, cache: Path) -> None:
    with (
        serving(MODEL_ID, whole, parts=False) as (endpoint, _),
        pytest.raises(NetworkError, match="cannot be read in parts"),
    ):
        download(MODEL_ID, None, endpoint)
    with serving(MODEL_ID, whole) as (endpoint, _):
        source = download(MODEL_ID, None, endpoint)
    assert (source.directory / "model.safetensors").is_file()
    assert not list(cache.rglob("*.unfinished"))


def test_two_processes_do_not_write_to_the_same_files(whole: Path, cache: Path) -> None:
    directory = cache / "models--google--embeddinggemma-2" / "text_encoder"
    directory.mkdir(parents=True)
    with serving(MODEL_ID, whole) as (endpoint, _):
        with (
            FileLock(directory / f"{COMMIT}.lock"),
            pytest.raises(DownloadRunningError, match="start again when it is done"),
        ):
            download(MODEL_ID, None, endpoint)
        assert download(MODEL_ID, None, endpoint).revision == COMMIT


PIECE = 5_000
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "the end was not written": lambda data: data[:-PIECE] + bytes(PIECE),
    "the beginning is that of another file": lambda data: b"x" + data[1:],
    "hardly anything was written": lambda data: data[:100],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_interrupted_download_goes_on_where_it_ended(
    damage: str, whole: Path, text_encoder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedder.prepare.text_encoder.PIECE", PIECE)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client waits before it tries
    size = (whole / "model.safetensors").stat().st_size
    with (
        serving(MODEL_ID, whole, breaks_at=size // 2) as (endpoint, _),
        pytest.raises(NetworkError),
    ):
        download(MODEL_ID, None, endpoint)
    [part] = cache.rglob("*.unfinished/model.safetensors")
    begun = part.stat().st_size
    assert begun > 4 * PIECE
    part.write_bytes(DAMAGES[damage](part.read_bytes()))
    with serving(MODEL_ID, whole) as (endpoint, sent):
        source = download(MODEL_ID, None, endpoint)
    found, expected = (
        load_file(directory / "model.safetensors") for directory in (source.directory, text_encoder)
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    length = int.from_bytes((whole / "model.safetensors").read_bytes()[:8], "little")
    fetched = sum(
        end + 1 - begin
        for name, begin, end in sent
        if name == "model.safetensors" and begin >= 8 + length
    )
    total = (source.directory / "model.safetensors").stat().st_size
    resumed = damage in ("none", "the end was not written")
    assert (fetched <= total - begun + PIECE) == resumed
