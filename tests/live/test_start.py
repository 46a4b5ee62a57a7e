"""Starting: mistakes end it with one line that says what to do; what is well starts light."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from lab.server import SOURCE, Server, bare_environment, copy_source, free_port, serve

FP32 = {"MODEL_QUANTIZATION": "fp32"}


def refused_start(environment: Mapping[str, str], *command: str, directory: Path = SOURCE) -> str:
    """What a start that ends by itself says."""
    bentoml = (str(Path(sys.executable).with_name("bentoml")), "serve", "--port", str(free_port()))
    ended = subprocess.run(
        command or bentoml,
        cwd=directory,
        env={**bare_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return str(ended.stderr.strip())


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RATE_LIMIT_PER_MIN": "many"}, "RATE_LIMIT_PER_MIN: .*integer"),
        ({"RATE_LIMIT_PER_MINUTE": "5"}, "did you mean RATE_LIMIT_PER_MIN"),
        ({"MODEL_QUANTIZATION": "int4"}, "MODEL_QUANTIZATION: .*int8"),
        ({"SUPABASE_URL": "my-project"}, "SUPABASE_URL: .*https://"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL: .*redis://"),
        ({"SUPABASE_JWT_SECRET": "short"}, "SUPABASE_JWT_SECRET .*32"),
        ({"SUPABASE_JWT_SECRET": ""}, "SUPABASE_JWT_SECRET"),
        (
            {"SUPABASE_JWT_SECRET": "super-secret-jwt-token-with-at-least-32-characters-long"},
            "SUPABASE_JWT_SECRET",
        ),
        ({"MODEL_NAME": "/no/such/model"}, "make model"),
        ({"MODEL_ALIASES": "text-embedding-3-small=query"}, "MODEL_ALIASES: .*without one"),
        ({"SUBJECT": "any"}, "SUPABASE_JWT_ISSUER and SUPABASE_JWT_AUDIENCE"),
        ({"ALLOWED_ROLES": "anon"}, "ALLOWED_ROLES"),
        ({"REDIS_URL": "redis://:hunter/2@localhost:6379"}, "REDIS_URL: .*%2F"),
        ({"FORWARDED_ALLOW_IPS": "my-proxy"}, "FORWARDED_ALLOW_IPS"),
        ({"CORS_ALLOW_ORIGINS": "app.example.com"}, "CORS_ALLOW_ORIGINS"),
    ],
)
def test_a_mistake_ends_the_start_and_says_what_to_do(
    model_store: Path, environment: Mapping[str, str], told: str
) -> None:
    said = refused_start({**FP32, **environment})
    assert re.search(told, said), said
    assert len(said.splitlines()) <= 2
    assert environment.get("SUPABASE_JWT_SECRET") not in said.split()  # a secret is not repeated
    assert "hunter" not in said


def test_a_file_of_settings_that_all_users_can_read_is_told_of(
    model_store: Path, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("RATE_LIMIT_PER_MIN=5\n")
    (tmp_path / ".env").chmod(0o644)
    hub = {"HF_TOKEN": "hf_of-the-one-who-prepares", "BENTOML_CONTAINERIZED": "true"}
    with serve(tmp_path / "log", FP32 | hub, target=str(SOURCE), directory=tmp_path) as running:
        assert f"chmod 600 {tmp_path}/.env" in running.log()
        assert "start the container with -e HF_TOKEN=" in running.log()
        assert "hf_of-the-one" not in running.log()


class EmptyKeySet(BaseHTTPRequestHandler):
    """A project that signs with its secret alone."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"keys": []}')

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@contextmanager
def key_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyKeySet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


def test_a_port_in_use_is_said_in_one_line(
    model_store: Path, server: Server, tmp_path: Path
) -> None:
    port = str(httpx.URL(server.url).port)
    said = refused_start(
        FP32 | {"PORT": port}, sys.executable, "-m", "dev.serve", directory=copy_source(tmp_path)
    )
    assert said.splitlines()[-1].startswith(f"embedding-api: cannot listen on 127.0.0.1:{port}")
    assert "PORT=" in said


@contextmanager
def make_serve(
    directory: Path, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    """`make serve` with a copy of the source, ended with Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-m", "dev.serve"],
        cwd=copy_source(directory),
        env=bare_environment() | FP32 | {"PORT": str(free_port()), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def said_until(process: "subprocess.Popen[str]", last: str) -> str:
    """What a process says, up to the line that begins with `last`."""
    assert process.stdout is not None
    lines = []
    for line in iter(process.stdout.readline, ""):
        lines.append(line)
        if line.startswith(last):
            break
    return "".join(lines)


def test_make_serve_prints_a_call_that_works_and_leaves_nothing_beside_the_server(
    model_store: Path, tmp_path: Path
) -> None:
    with make_serve(tmp_path, {"SUPABASE_JWT_SECRET": ""}) as process:
        said = said_until(process, "Vectors: ")
        assert "Wrote .env with a new secret." in said
        assert not (tmp_path / ".env").stat().st_mode & 0o077
        [_, call, _] = said.split("\n\n")[-3:]
        assert said.split("\n\n")[-3].endswith("Ready. Compare a text with two others:")
        answer = subprocess.run(["bash", "-c", call], capture_output=True, text=True, timeout=30)
        similar, other = json.loads(answer.stdout)["similarities"]
        assert similar > 0.5 > other
        assert len(answer.stdout) < 500
        assert '"status":503' not in said  # what is still loading is no fault
        [worker] = psutil.Process(process.pid).children()
        assert not worker.children()


def test_make_serve_serves_machines_alone_when_it_has_keys_of_them(
    model_store: Path, tmp_path: Path
) -> None:
    keys = {"SUPABASE_JWT_SECRET": "", "SERVICE_KEYS": f"indexer:{'0' * 64}"}
    with make_serve(tmp_path, keys) as process:
        said = said_until(process, "Documentation: ")
        assert "Send a service key as Authorization: Bearer TOKEN." in said
        assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"SUPABASE_JWT_SECRET": "short"}, "SUPABASE_JWT_SECRET is 5 bytes"),
        ({"REDIS_URL": "redis://localhost:99999"}, "REDIS_URL"),
        ({"CORS_ALLOW_ORIGINS": "app.example.com"}, "CORS_ALLOW_ORIGINS"),
    ],
)
def test_settings_are_looked_at_before_a_model_is_prepared(
    environment: Mapping[str, str], told: str, tmp_path: Path
) -> None:
    there = {"BENTOML_HOME": str(tmp_path / "home"), "PORT": str(free_port()), **environment}
    command = (sys.executable, "-m", "dev.serve")
    said = refused_start(FP32 | there, *command, directory=copy_source(tmp_path / "source"))
    [line] = said.splitlines()
    assert line.startswith("embedding-api: ")
    assert told in line


def test_make_serve_is_not_ready_with_an_empty_key_set(model_store: Path, tmp_path: Path) -> None:
    with key_server() as url:
        environment = {
            "SUPABASE_JWT_SECRET": "",
            "SUPABASE_JWKS_URL": url,
            "PORT": str(free_port()),
        }
        command = (sys.executable, "-m", "dev.serve")
        said = refused_start(FP32 | environment, *command, directory=copy_source(tmp_path))
    assert "set SUPABASE_JWT_SECRET" in said.splitlines()[-1]
    assert "Ready" not in said


def test_make_serve_is_not_ready_without_its_key_set(model_store: Path, tmp_path: Path) -> None:
    environment = {"SUPABASE_JWT_SECRET": "", "SUPABASE_URL": "http://127.0.0.1:9"}
    with make_serve(tmp_path, environment) as process:
        said = said_until(process, "Serving on ")
        assert "the project's key set cannot be fetched" in said
        assert "Ready" not in said


def test_a_damaged_model_is_not_served(model_store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "home"
    subprocess.run(["cp", "-r", str(model_store), str(copy)], check=True)
    [weights] = copy.glob("models/all-minilm-l6-v2-fp32/*/model.safetensors")
    with weights.open("r+b") as file:
        file.seek(weights.stat().st_size // 2)
        file.write(b"damage")
    said = refused_start(FP32 | {"BENTOML_HOME": str(copy)})
    assert "model.safetensors" in said
    assert "make model" in said


def test_without_redis_the_service_starts_degraded_and_says_so(
    model_store: Path, tmp_path: Path
) -> None:
    environment = FP32 | {
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        "RATE_LIMIT_PER_MIN": "2",
    }
    with serve(tmp_path / "log", environment) as running:
        assert httpx.get(f"{running.url}/health").json()["redis"] == "degraded"
        assert "REDIS_URL" in running.log()
        with running.client() as client:
            statuses = [client.post("/embed", json={"text": "a"}).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]


def test_the_running_service_holds_no_torch(server: Server) -> None:
    processes = [
        psutil.Process(server.process.pid),
        *psutil.Process(server.process.pid).children(recursive=True),
    ]
    loaded = {Path(entry.path).name for process in processes for entry in process.memory_maps()}
    assert any("libembedder" in name for name in loaded)
    assert not [name for name in loaded if "torch" in name or "onnxruntime" in name]


def test_bentoml_reports_nothing_even_if_it_asked_before_our_settings_were_read() -> None:
    """As `bentoml serve` does: it remembers the first answer."""
    script = (
        "from bentoml._internal.utils.analytics.usage_stats import do_not_track\n"
        "assert not do_not_track()\n"
        "import service\n"
        "assert do_not_track()"
    )
    environment = bare_environment()
    assert "BENTOML_DO_NOT_TRACK" not in environment
    command = [sys.executable, "-c", script]
    subprocess.run(command, cwd=SOURCE, env=environment, check=True, timeout=60)


def test_an_environment_file_is_read(tmp_path: Path) -> None:
    """The one of the working directory."""
    script = "from settings import load_settings; print(load_settings().rate_limit_per_min)"
    (tmp_path / ".env").write_text("RATE_LIMIT_PER_MIN=77\n")
    environment = bare_environment() | {"PYTHONPATH": str(SOURCE)}
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == "77", said.stderr
