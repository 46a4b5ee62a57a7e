import dataclasses
import json
from pathlib import Path

import pytest
from bentoml import Tag
from hypothesis import given
from hypothesis import strategies as st

from embedder.errors import ModelCorruptError, ModelNotFoundError, ModelOutdatedError
from embedder.profile import PROFILE_FILE, Profile, model_tag, sha256_file

PROFILE = Profile(
    model_id="organisation/model", revision="abc", architecture="bert", backend="native", quantization="int8",
    dimensions=8, matryoshka=(8, 4), max_tokens=16, prompts={"query": "q: "}, files={},
    verification={"to_original": {"min_cosine": 0.99}},
)  # fmt: skip


def test_a_saved_profile_loads_as_it_was(tmp_path: Path) -> None:
    PROFILE.save(tmp_path)
    assert Profile.load(tmp_path) == PROFILE


def test_the_fingerprint_names_the_vector_space_and_nothing_else() -> None:
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


def test_tags_are_readable_and_apart() -> None:
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
