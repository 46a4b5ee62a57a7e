"""What `bentoml build` packs, and which model a Bento serves."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from dev.sbom import shipped
from settings import VERSION
from tests.live.server import ROOT, serve
from tests.live.test_start import refused_start

BENTOML = str(Path(sys.executable).with_name("bentoml"))


@pytest.fixture
def packed(bento: str) -> Path:
    """Where the Bento lies."""
    return Path(os.environ["BENTOML_HOME"], "bentos", *bento.split(":"))


def test_it_holds_what_runs_and_nothing_else(packed: Path) -> None:
    files = {str(path.relative_to(packed / "src")) for path in (packed / "src").rglob("*") if path.is_file()}
    assert {"service.py", "auth/quota.lua", "api/bento.py", "embedder/onnx_engine.py", "LICENSE"} <= files
    assert {name.split("/")[0] for name in files if "/" in name} == {"api", "auth", "embedder", "requirements"}
    assert not [name for name in files if "prepare" in name or name.endswith((".env", ".pyc"))]
    assert "download_model.py" not in files


def test_its_packages_are_pinned_by_hash_and_hold_no_torch(packed: Path) -> None:
    lock = (packed / "src" / "requirements" / "run.txt").read_text()
    assert lock == (ROOT / "requirements" / "run.txt").read_text()
    assert lock.count("==") <= lock.count("--hash=sha256:")
    assert not shipped(lock).keys() & {"torch", "transformers", "onnx", "sentence-transformers"}


def test_its_name_labels_and_model_come_from_the_service(packed: Path) -> None:
    about = yaml.safe_load((packed / "bento.yaml").read_text())
    assert about["name"] == "embedding-api"
    assert about["labels"] == {"version": VERSION, "licence": "MIT"}
    [service] = about["services"]
    [model] = service["models"]
    assert model["tag"].startswith("all-minilm-l6-v2-fp32:")


def test_a_model_that_is_asked_for_and_not_there_ends_the_start(bento: str, tmp_path: Path) -> None:
    """It does not serve another one instead."""
    said = refused_start({"MODEL_NAME": "google/embeddinggemma-300m"}, BENTOML, "serve", bento, directory=tmp_path)
    assert "google--embeddinggemma-300m-int8 is not in the BentoML model store" in said.splitlines()[-1]


def test_the_same_model_prepared_elsewhere_is_served(bento: str, model_store: Path, tmp_path: Path) -> None:
    """A volume has another version of it than the machine that built the Bento."""
    [stored] = model_store.glob("models/all-minilm-l6-v2-fp32/*/")
    home = tmp_path / "home"
    models = home / "models" / stored.parent.name
    shutil.copytree(stored, models / "elsewhere", copy_function=os.symlink)
    (models / "latest").write_text("elsewhere")
    about = models / "elsewhere" / "model.yaml"
    text = about.read_text().replace(f"version: {stored.name}", "version: elsewhere")
    about.unlink()
    about.write_text(text)
    bentos = home / "bentos"
    bentos.symlink_to(model_store / "bentos")
    running = serve(tmp_path / "log", {"BENTOML_HOME": str(home)}, target=bento, directory=tmp_path)
    with running as server, server.client() as client:
        assert client.post("/embed", json={"text": "a"}).status_code == 200
