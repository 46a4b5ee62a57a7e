"""The compose file: its containers are limited, confined, and reachable only where necessary."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from environment import misspelt
from lab.server import ROOT
from settings import NAMES, Settings
from tests.deploy.promql import DEPLOY

LIMITS = {"cpus", "memory"}
LAST_STEPS = 10  # seconds that the service may take from its last answer to its exit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ as on a server, with the `.env` of the example."""
    folder = Path(shutil.copytree(DEPLOY, tmp_path_factory.mktemp("server") / "deploy"))
    shutil.copy(ROOT / ".env.example", folder / ".env")
    return folder


def compose(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """The configuration as the real docker-compose resolves it."""
    command = ["docker-compose", *arguments, "config"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ended = subprocess.run(
        command, cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return dict(yaml.safe_load(ended.stdout))


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    return dict(compose(folder, "--profile", "https")["services"])


def test_it_has_the_service_redis_monitoring_and_a_proxy(services: dict[str, Any]) -> None:
    assert services.keys() == {"embedding-api", "redis", "prometheus", "grafana", "caddy"}


def test_every_container_is_limited_and_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"].keys() == LIMITS, name
        assert 0 < service["pids_limit"] <= 256, name
        assert all("size=" in mounted for mounted in service["tmpfs"]), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert "privileged" not in service, name


def test_only_caddy_runs_as_root_for_its_low_ports(services: dict[str, Any]) -> None:
    users = {
        name: str(service.get("user", "root")).split(":")[0] for name, service in services.items()
    }
    assert [name for name, user in users.items() if user in ("root", "0")] == ["caddy"]
    assert services["caddy"]["cap_add"] == ["NET_BIND_SERVICE"]


def test_the_service_has_the_agreed_name_cpus_memory_and_redis(services: dict[str, Any]) -> None:
    limits = services["embedding-api"]["deploy"]["resources"]["limits"]
    assert (float(limits["cpus"]), limits["memory"]) == (2.0, "4G")
    assert services["embedding-api"]["container_name"] == "embedding-api"
    assert services["embedding-api"]["environment"]["REDIS_URL"] == "redis://redis:6379"


def test_a_smaller_machine_gives_the_service_less(folder: Path) -> None:
    service = compose(folder, MEMORY="2560M")["services"]["embedding-api"]
    assert service["deploy"]["resources"]["limits"]["memory"] == "2560M"


def test_the_advice_for_a_machine_of_4_gb_leaves_memory_to_its_system(folder: Path) -> None:
    [advised] = set(re.findall(r"MEMORY=(\d+M)", (DEPLOY / "docker-compose.yml").read_text()))
    services = compose(folder, "--profile", "https", MEMORY=advised)["services"].values()
    limits = [service["deploy"]["resources"]["limits"]["memory"] for service in services]
    assert sum(int(limit.removesuffix("M")) for limit in limits) == 4096 - 256
    assert f"MEMORY={advised}" in (DEPLOY / "RUNBOOK.md").read_text()


def test_the_service_has_time_to_stop(services: dict[str, Any]) -> None:
    grace = float(services["embedding-api"]["stop_grace_period"].removesuffix("s"))
    assert grace >= Settings.model_fields["shutdown_timeout"].default + LAST_STEPS


def test_the_service_does_not_get_the_token_for_downloading_models(folder: Path) -> None:
    assert "HF_TOKEN=" in (folder / ".env").read_text()
    assert compose(folder)["services"]["embedding-api"]["environment"]["HF_TOKEN"] == ""


def test_only_the_service_can_reach_redis(folder: Path) -> None:
    everything = compose(folder, "--profile", "https")
    services = everything["services"]
    assert "ports" not in services["redis"]
    [network] = services["redis"]["networks"]
    assert everything["networks"][network]["internal"]
    members = [name for name in services if network in services[name].get("networks", ())]
    assert members == ["embedding-api", "redis"]


def test_only_caddy_listens_beyond_the_machine() -> None:
    services = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published.pop("caddy") == ["80:80", "443:443", "443:443/udp"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_caddy_starts_when_https_is_asked_for(services: dict[str, Any]) -> None:
    assert services["caddy"]["profiles"] == ["https"]


def test_proxies_in_the_network_of_caddy_are_trusted(folder: Path) -> None:
    everything = compose(folder, SUBNET="10.9.8.0/24")
    assert everything["networks"]["default"]["ipam"]["config"] == [{"subnet": "10.9.8.0/24"}]
    assert (
        everything["services"]["embedding-api"]["environment"]["FORWARDED_ALLOW_IPS"]
        == "10.9.8.0/24"
    )


def test_the_model_comes_from_a_volume_or_a_directory(folder: Path) -> None:
    for store, expected in (
        ("", "models:/bentoml/models:ro"),
        ("/srv/models", "/srv/models:/bentoml/models:ro"),
    ):
        service = compose(folder, **({"MODEL_STORE": store} if store else {}))["services"][
            "embedding-api"
        ]
        assert service["volumes"] == [expected]


def test_every_file_that_is_mounted_exists() -> None:
    services = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    ]
    files = [name for name in mounted if name.startswith("./")]
    assert len(files) == 4
    assert all((DEPLOY / name).exists() for name in files)


def test_variables_of_the_compose_file_are_not_taken_for_misspelt_settings() -> None:
    names = (
        "IMAGE",
        "MODEL_STORE",
        "MEMORY",
        "DOMAIN",
        "SUBNET",
        "UPSTREAM",
        "PATIENCE",
        "COMPOSE_PROJECT_NAME",
    )
    assert misspelt(names, NAMES, cutoff=0.7) == []
