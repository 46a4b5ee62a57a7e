"""Bring the compose file up with podman-compose, and check what the runbook says about it.

    make test-compose

Runs inside deploy/image/lab.sh, in its own network namespace, where ports 80 and 8000 are free. It
needs no registry: the images of Redis, Prometheus and Caddy are made from Debian's packages, with
the names that the compose file gives. Debian has no package of Grafana, which is left out.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from lab.server import ROOT, SECRET, assert_nothing_leaked, token

DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]
# The instructions of the real images.
RECIPES = {
    "redis": "RUN mkdir /data && chown 999:1000 /data\nWORKDIR /data\n"
    """ENTRYPOINT ["sh", "-c", "exec \\"$@\\" --protected-mode no", "--"]""",
    "prometheus": "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
    'ENTRYPOINT ["prometheus"]',
    "caddy": "ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config\n"
    'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
}
STARTED = ("embedding-api", *RECIPES)
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
PACKAGES = "base-files,busybox,ca-certificates,netcat-openbsd,redis-server,prometheus,caddy"
# Programs for the recipes and health checks; packages are unpacked and not configured.
TOOLS = """
for tool in sh wget touch mkdir chown; do
  [ -e "$1/usr/bin/$tool" ] || ln -s busybox "$1/usr/bin/$tool"
done
ln -s nc.openbsd "$1/usr/bin/nc"
mkdir -p "$1/tmp"
"""
CLONE_NEWNET = 0x40000000  # of linux/sched.h; os.unshare needs Python 3.12
READ_BY_MAKE_ALONE = "hf_token-for-preparing-the-model"


def run(*command: str | Path, timeout: float = 600, **options: Any) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=timeout, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return str(done.stdout).strip()


def name_of(service: str) -> str:
    return str(SERVICES[service].get("container_name", f"deploy_{service}_1"))


def about(service: str) -> dict[str, Any]:
    [found] = json.loads(run("podman", "inspect", name_of(service)))
    return dict(found)


def inside(service: str, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["podman", "exec", name_of(service), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with the model store in ~/bentoml, after `make image`."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"BENTOML_HOME": str(home / "bentoml"), "HF_HUB_OFFLINE": "1"}
    command = ("make", "image", "ENGINE=podman", "OPTIONS=--opt network=host")
    run(*command, cwd=ROOT, env=environment, timeout=1800)
    return home


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> None:
    tar = tmp_path_factory.mktemp("packages") / "root.tar"
    merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    chosen = ("--variant=extract", f"--include={PACKAGES}", merged, f"--extract-hook={TOOLS}")
    sources = [path for path in map(Path, SOURCES) if path.exists() and "deb" in path.read_text()]
    run("mmdebstrap", "--quiet", *chosen, "bookworm", tar, *sources, timeout=900)
    run("podman", "import", "-q", tar, "localhost/packages")
    tar.unlink()
    for service, recipe in RECIPES.items():
        tag = SERVICES[service]["image"]
        name = f"docker.io/{tag if '/' in tag else 'library/' + tag}"
        content = f"FROM localhost/packages\n{recipe}\n"
        run("podman", "build", "-q", "-t", name, "-f", "-", input=content)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """podman-compose in its own directory, apart from the project's packages."""
    directory = tmp_path_factory.mktemp("tools")
    outer = Path(sys.executable).resolve()  # the virtual environment has no pip
    install = ("-m", "pip", "install", "--quiet", "--target", directory, "podman-compose==1.6.0")
    run(outer, *install, timeout=300)
    return directory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/, as on a server."""
    folder = tmp_path_factory.mktemp("server") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    folder.joinpath(".env").write_text(
        f"SUPABASE_JWT_SECRET={SECRET}\nHF_TOKEN={READ_BY_MAKE_ALONE}\n"
    )
    return folder


@pytest.fixture(scope="module")
def alone(
    home: Path, stand_ins: None, tools: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Move this process into a network namespace without a network, once all is downloaded."""
    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
    run("ip", "link", "set", "lo", "up")
    networks = f'\n[network]\nnetwork_config_dir = "{tmp_path_factory.mktemp("networks")}"\n'
    with Path(os.environ["CONTAINERS_CONF"]).open("a") as file:
        file.write(networks)


@pytest.fixture(scope="module", autouse=True)
def compose(alone: None, home: Path, tools: Path, folder: Path) -> Iterator[Callable[..., str]]:
    """Fill the model volume as the runbook says, bring the services up, and finally down."""
    environment = os.environ | {"PYTHONPATH": str(tools), "HOME": str(home)}

    def compose(*arguments: str) -> str:
        command = (sys.executable, "-m", "podman_compose", "--profile", "https", *arguments)
        return run(*command, cwd=folder, env=environment, timeout=300)

    [fill] = re.findall(
        r"(?m)^docker (run .*--entrypoint cp .*\\\n.*)$", (DEPLOY / "RUNBOOK.md").read_text()
    )
    run("bash", "-c", f"podman {fill}", env=environment)
    try:
        compose("up", "-d", *STARTED)
        yield compose
        log = subprocess.run(
            ["podman", "logs", "embedding-api"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        compose("down", "-v")
    assert_nothing_leaked(log.stdout + log.stderr)


@pytest.mark.parametrize("service", STARTED)
def test_it_comes_up_and_its_health_check_says_so(service: str) -> None:
    """Each health check is run by hand, as there may be no systemd to run it."""

    def healthy() -> bool:
        return not subprocess.run(
            ["podman", "healthcheck", "run", name_of(service)], capture_output=True, timeout=60
        ).returncode

    assert eventually(healthy), run("podman", "logs", name_of(service))


def call(url: str, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token()}"}
    return httpx.post(
        f"{url}/embed", json={"text": "still here"}, headers=headers, timeout=30, **options
    )


def test_a_call_is_served_and_counted_in_redis() -> None:
    answer = call("http://127.0.0.1:8000")
    assert answer.status_code == 200, answer.text
    assert httpx.get("http://127.0.0.1:8000/health", timeout=10).json()["redis"] == "ok"
    assert inside("redis", "redis-cli", "dbsize").stdout.strip() != "0"


def test_prometheus_reads_the_service_and_knows_the_rules() -> None:
    def up() -> bool:
        targets = httpx.get("http://127.0.0.1:9090/api/v1/targets", timeout=10).json()["data"][
            "activeTargets"
        ]
        return [target["health"] for target in targets] == ["up"]

    assert eventually(up)
    groups = httpx.get("http://127.0.0.1:9090/api/v1/rules", timeout=10).json()["data"]["groups"]
    assert any(rule["name"] == "EmbeddingDown" for group in groups for rule in group["rules"])


def test_caddy_lets_calls_through_and_no_metrics() -> None:
    for path, status in (("/readyz", 200), ("/metrics", 404)):
        assert (
            httpx.get(f"https://localhost{path}", verify=False, timeout=30).status_code == status
        )  # its own CA
    assert call("https://localhost", verify=False).status_code == 200


@pytest.mark.parametrize("service", STARTED)
def test_limits_are_in_force(service: str) -> None:
    config = about(service)["HostConfig"]
    limits = SERVICES[service]["deploy"]["resources"]["limits"]
    size, unit = re.search(r"(\d+)([MG])\b", limits["memory"]).groups()  # type: ignore[union-attr]
    assert config["Memory"] == int(size) << {"M": 20, "G": 30}[unit]
    assert config["NanoCpus"] == float(limits["cpus"]) * 1e9
    assert config["PidsLimit"] == SERVICES[service]["pids_limit"]


@pytest.mark.parametrize("service", STARTED)
def test_nothing_is_written_but_where_it_may_be(service: str) -> None:
    write = (
        ("python", "-c", "open('{}/x', 'w').close()")
        if service == "embedding-api"
        else ("touch", "{}/x")
    )
    for directory, allowed in (("/", False), ("/usr", False), ("/tmp", True)):
        done = inside(service, *(word.format(directory) for word in write))
        assert (done.returncode == 0) is allowed, (directory, done.stderr)


def test_the_service_does_not_have_the_token_that_models_are_fetched_with() -> None:
    environment = inside(
        "embedding-api", "python", "-c", "print(open('/proc/1/environ').read())"
    ).stdout
    assert SECRET in environment
    assert READ_BY_MAKE_ALONE not in environment


def test_redis_is_reached_by_the_service_alone() -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://127.0.0.1:6379")
    assert inside("prometheus", "nc", "-z", "-w", "3", "embedding-api", "8000").returncode == 0
    assert inside("prometheus", "nc", "-z", "-w", "3", "redis", "6379").returncode != 0
    [address] = (
        network["IPAddress"] for network in about("redis")["NetworkSettings"]["Networks"].values()
    )
    assert inside("prometheus", "nc", "-z", "-w", "3", address, "6379").returncode != 0


def test_the_service_goes_on_without_redis_and_counts_there_again(
    compose: Callable[..., str],
) -> None:
    def redis_is(state: str) -> Callable[[], bool]:
        return lambda: (
            httpx.get("http://127.0.0.1:8000/health", timeout=10).json()["redis"] == state
        )

    compose("stop", "redis")
    assert call("http://127.0.0.1:8000").status_code == 200
    assert eventually(redis_is("degraded"))
    compose("start", "redis")
    assert eventually(redis_is("ok"))


def test_it_stops_within_its_grace_having_said_good_bye(compose: Callable[..., str]) -> None:
    compose("stop", "embedding-api")
    assert about("embedding-api")["State"]["ExitCode"] == 0
