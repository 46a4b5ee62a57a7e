import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from bentoml import Tag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder.errors import (
    ModelCorruptError,
    ModelLoadError,
    ModelNotFoundError,
    ModelOutdatedError,
)
from embedder.profile import (
    CHECKSUM,
    PROFILE_FILE,
    TORCH_DIRECTORY,
    WEIGHTS_FILE,
    Profile,
    checksum,
    model_tag,
    sha256_file,
)
from tests.embedder.conftest import LoadModel
from tests.embedder.json_changes import JSON, places, replaced

PROFILE = Profile(
    model_id="organisation/model", revision="abc", architecture="bert", backend="native",
    quantization="int8", dimensions=8, matryoshka=(8, 4), max_tokens=16, prompts={"query": "q: "},
    files={"tokenizer.json": "0" * 64, "model.safetensors": "1" * 64},
    verification={"to_original": {"min_cosine": 0.99}},
)  # fmt: skip


def test_a_saved_profile_loads_unchanged(tmp_path: Path) -> None:
    PROFILE.save(tmp_path)
    assert Profile.load(tmp_path) == PROFILE


def test_the_fingerprint_depends_on_the_vector_space_alone() -> None:
    same = dataclasses.replace(PROFILE, max_tokens=8, verification={})
    assert same.fingerprint == PROFILE.fingerprint
    others = [
        dataclasses.replace(PROFILE, model_id="x"),
        dataclasses.replace(PROFILE, revision="x"),
        dataclasses.replace(PROFILE, quantization="fp16"),
        dataclasses.replace(PROFILE, backend="torch"),
    ]
    assert len({profile.fingerprint for profile in (PROFILE, *others)}) == 5


def test_a_changed_file_is_named_with_both_hashes(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    profile = dataclasses.replace(PROFILE, files={"model.safetensors": sha256_file(weights)})
    profile.check_files(tmp_path)
    weights.write_bytes(b"weight5")
    with pytest.raises(ModelCorruptError, match=r"model\.safetensors.*make model") as found:
        profile.check_files(tmp_path)
    assert sha256_file(weights)[:12] in found.value.reason
    weights.unlink()
    with pytest.raises(ModelCorruptError, match="missing"):
        profile.check_files(tmp_path)


def test_a_directory_without_a_model_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="make model"):
        Profile.load(tmp_path)


@pytest.mark.parametrize(
    "other",
    [{"layout": 3}, {"layout": None, "graph_layout": 3}, {"backend": "onnx"}, {"backend": 1}],
)
def test_a_model_of_another_version_says_what_to_run(
    tmp_path: Path, other: dict[str, object]
) -> None:
    PROFILE.save(tmp_path)
    path = tmp_path / PROFILE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | other))
    with pytest.raises(ModelOutdatedError, match="run `make model`"):
        Profile.load(tmp_path)


@pytest.fixture(scope="module")
def real(gemma: LoadModel, gemma_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a prepared model whose weights have changed."""
    gemma("fp32")
    copy = tmp_path_factory.mktemp("changed") / "model"
    shutil.copytree(gemma_directory, copy)
    (copy / WEIGHTS_FILE).write_bytes(b"changed")
    return copy


def loaded(directory: Path) -> Profile | str:
    """A profile, or why it is refused."""
    try:
        return Profile.load(directory)
    except ModelLoadError as error:
        return str(error)


@pytest.mark.parametrize("with_its_checksum", [False, True])
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_changed_profile_is_refused_or_serves_no_changed_weights(
    real: Path, tmp_path: Path, data: st.DataObject, with_its_checksum: bool
) -> None:
    original = json.loads((real / PROFILE_FILE).read_text())
    way = data.draw(st.sampled_from(list(places(original))))
    changed = replaced(original, way, data.draw(st.just(...) | st.just({}) | st.just([]) | JSON))
    if with_its_checksum and isinstance(changed, dict):
        changed.pop(CHECKSUM, None)
        changed[CHECKSUM] = checksum(changed)
    (tmp_path / PROFILE_FILE).write_text(json.dumps(changed))
    profile = loaded(tmp_path)
    if isinstance(profile, str):
        assert "run `make model`" in profile
        assert len(profile.splitlines()) == 1
    else:
        assert with_its_checksum or profile == Profile.load(real)
        assert profile.names.keys() >= {profile.model_id}
        assert profile.size_of(None) == profile.matryoshka[0]
        with pytest.raises(ModelCorruptError):
            profile.check_files(real)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_profile_with_other_bytes_is_refused(
    real: Path, tmp_path: Path, data: st.DataObject
) -> None:
    original = (real / PROFILE_FILE).read_bytes().rstrip()
    place = data.draw(st.integers(0, len(original) - 1))
    put = data.draw(st.binary(max_size=4))
    cut = data.draw(st.integers(0, len(original)) | st.just(1))
    changed = original[:place] + put + original[place + cut :]
    (tmp_path / PROFILE_FILE).write_bytes(changed)
    try:
        same = json.loads(changed) == json.loads(original)
    except ValueError:
        same = False
    if same:
        return
    with pytest.raises(ModelLoadError, match="run `make model`"):
        Profile.load(tmp_path)


def test_an_unreadable_profile_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / PROFILE_FILE).mkdir()
    with pytest.raises(ModelCorruptError, match=r"Is a directory.*run `make model`"):
        Profile.load(tmp_path)


def test_a_file_added_to_a_torch_model_is_refused(tmp_path: Path) -> None:
    """sentence-transformers loads files that it finds."""
    (tmp_path / TORCH_DIRECTORY).mkdir()
    config = tmp_path / TORCH_DIRECTORY / "config.json"
    config.write_text("{}")
    name = f"{TORCH_DIRECTORY}/config.json"
    profile = dataclasses.replace(PROFILE, backend="torch", files={name: sha256_file(config)})
    profile.check_files(tmp_path)
    (tmp_path / TORCH_DIRECTORY / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelCorruptError, match=r"adapter_config\.json"):
        profile.check_files(tmp_path)


def test_a_profile_without_a_checksum_is_outdated(tmp_path: Path) -> None:
    PROFILE.save(tmp_path)
    path = tmp_path / PROFILE_FILE
    fields = json.loads(path.read_text())
    del fields[CHECKSUM]
    path.write_text(json.dumps(fields))
    with pytest.raises(ModelOutdatedError):
        Profile.load(tmp_path)


@given(
    st.text(max_size=200),
    st.sampled_from(["int8", "fp16", "fp32"]),
    st.sampled_from(["native", "torch"]),
)
def test_every_model_name_has_a_tag_the_store_accepts(
    name: str, quantization: str, backend: str
) -> None:
    tag = model_tag(name, quantization, backend)
    assert Tag(tag).name == tag


def test_tags_are_readable_and_distinct() -> None:
    assert model_tag(None, "int8", "native") == "all-minilm-l6-v2-int8"
    assert (
        model_tag("sentence-transformers/all-MiniLM-L6-v2", "fp32", "native")
        == "all-minilm-l6-v2-fp32"
    )
    assert (
        model_tag("google/embeddinggemma-300m", "int8", "native")
        == "google--embeddinggemma-300m-int8"
    )
    assert model_tag("/a/model", "int8", "native") != model_tag("/b/model", "int8", "native")
    assert model_tag("/a/b/../model", "int8", "native") == model_tag("/a/model", "int8", "native")
