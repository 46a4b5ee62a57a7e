"""What `bentoml build` packs, and which model a Bento serves."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from dev.sbom import shipped
from embedder.native_engine import LIBRARY
from lab.server import ROOT, SECRET, SOURCE, bare_environment, copy_source, free_port, serve
from settings import VERSION
from tests.live.test_start import refused_start
from tests.test_architecture import FOLDERS

BENTOML = str(Path(sys.executable).with_name("bentoml"))


LITTER = (
    ".env",
    "api/.env",
    "result.json",
    "scratch.py",
    "auth/result.json",
    "embedder/__pycache__/old.pyc",
    "tests/test_own.py",
)


@pytest.fixture(scope="module")
def packed(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Bento of a checkout lies in which somebody has worked."""
    source = copy_source(tmp_path_factory.mktemp("worked-in") / "source")
    for name in LITTER:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("RATE_LIMIT_PER_MIN=7\n")
    command = [BENTOML, "build", "-o", "tag"]
    environment = bare_environment() | {"MODEL_QUANTIZATION": "fp32"}
    built = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    tag = built.stdout.strip().removeprefix("__tag__:")
    return Path(os.environ["BENTOML_HOME"], "bentos", *tag.split(":"))


def test_it_holds_what_runs_and_nothing_else(packed: Path) -> None:
    files = {
        str(path.relative_to(packed / "src"))
        for path in (packed / "src").rglob("*")
        if path.is_file()
    }
    assert {
        "service.py",
        "quota/quota.lua",
        "cache/store.lua",
        "api/bento.py",
        "embedder/native_engine.py",
        "LICENSE",
    } <= files
    modules = {f"{name}.py" for name in FOLDERS} - {"download_model.py"}
    assert {name for name in files if "/" not in name} == {
        *(module for module in modules if (ROOT / module).exists()),
        "LICENSE",
        "bentofile.yaml",
    }
    assert {name.split("/")[0] for name in files if "/" in name} == {
        "api",
        "auth",
        "batches",
        "cache",
        "container",
        "embedder",
        "gate",
        "quota",
        "requirements",
    }
    assert not files & {*LITTER, "download_model.py"}
    assert not [
        name for name in files if "prepare" in name or name.endswith((".env", ".json", ".pyc"))
    ]
    libraries = {
        f"embedder/native/lib/linux-{machine}/libembedder.so" for machine in ("x86_64", "aarch64")
    }
    native = {name for name in files if name.startswith("embedder/native/")}
    assert native <= libraries
    assert f"embedder/native/lib/{LIBRARY.parent.name}/libembedder.so" in native


def test_its_packages_are_pinned_by_hash_and_hold_no_torch(packed: Path) -> None:
    lock = (packed / "src" / "requirements" / "run.txt").read_text()
    assert lock == (ROOT / "requirements" / "run.txt").read_text()
    pins = [
        line
        for line in lock.replace("\\\n", "").splitlines()
        if line and not line.lstrip().startswith("#")
    ]
    assert pins
    assert not [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin]
    assert not shipped(lock).keys() & {"torch", "transformers", "ziglang", "sentence-transformers"}


def test_its_name_labels_and_model_come_from_the_service(packed: Path) -> None:
    about = yaml.safe_load((packed / "bento.yaml").read_text())
    assert about["name"] == "embedding-api"
    assert about["labels"] == {"version": VERSION, "licence": "MIT"}
    [service] = about["services"]
    [model] = service["models"]
    assert model["tag"].startswith("all-minilm-l6-v2-fp32:")


def test_the_printed_line_serves_it_where_the_settings_of_that_directory_say(
    bento: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    [line] = re.findall(r"(?m)^\.venv/bin/bentoml serve (\S+)$", page)
    assert line == "embedding-api:latest"
    port = free_port()
    (tmp_path / ".env").write_text(f"SUPABASE_JWT_SECRET={SECRET}\nPORT={port}\n")
    environment = {"PORT": "", "SUPABASE_JWT_SECRET": ""}
    with serve(tmp_path / "log", environment, target=line, directory=tmp_path, port=port) as server:
        [worker] = psutil.Process(server.process.pid).children()
        listening = {item.laddr for item in worker.net_connections() if item.status == "LISTEN"}
        assert listening == {("127.0.0.1", port)}
        with server.client() as client:
            assert client.post("/embed", json={"text": "a"}).status_code == 200


def test_without_a_word_about_it_it_listens_on_this_machine_alone(model_store: Path) -> None:
    """The port of a test cannot be the one of everybody: what BentoML is told stands for it."""
    script = "import service; print(service.EmbeddingAPI.config['http'])"
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=SOURCE, env=bare_environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "{'host': '127.0.0.1', 'port': 8000}"


def test_a_model_that_is_asked_for_and_not_there_ends_the_start(bento: str, tmp_path: Path) -> None:
    """It does not serve another one instead."""
    said = refused_start(
        {"MODEL_NAME": "google/embeddinggemma-300m"}, BENTOML, "serve", bento, directory=tmp_path
    )
    assert (
        "google--embeddinggemma-300m-int8 is not in the BentoML model store"
        in said.splitlines()[-1]
    )


def test_the_same_model_prepared_elsewhere_is_served(
    bento: str, model_store: Path, tmp_path: Path
) -> None:
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
