"""The compose file: its containers are limited, confined, and reachable only where necessary."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedder.profile import model_tag
from environment import misspelt
from lab.server import ROOT
from settings import NAMES, Settings
from tests.deploy.promql import DEPLOY
from tests.printed import printed_commands

# Version 1 is Debian 12's, version 2 that which `make test` unpacks.
VERSIONS = (
    "docker-compose",
    str(ROOT / "build/compose/usr/libexec/docker/cli-plugins/docker-compose"),
)
PREPARATION = "model"  # ends when it is done
LAST_STEPS = 10  # seconds that the service may take from its last answer to its exit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a server, with the `.env` of the example."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(DEPLOY, folder / "deploy")
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copy(ROOT / ".env.example", folder / ".env")
    return folder


def compose(
    folder: Path, *arguments: str, program: str = VERSIONS[0], **environment: str
) -> dict[str, Any]:
    """The configuration as the real docker-compose resolves it."""
    command = [program, *arguments, "config"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ended = subprocess.run(
        command, cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return dict(yaml.safe_load(ended.stdout))


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Any]:
    return dict(compose(folder, "--profile", "https")["services"])


@pytest.mark.parametrize("program", VERSIONS, ids=["1", "2"])
def test_every_version_of_compose_takes_it_with_its_limits(folder: Path, program: str) -> None:
    """Version 2 refuses a whole file for what version 1 does not see."""
    taken = compose(folder, "--profile", "https", program=program)["services"]
    for name, service in taken.items():
        assert service["pids_limit"], name
        assert service["cpus"], name
        assert service["mem_limit"], name


def test_it_has_the_service_redis_monitoring_and_a_proxy(services: dict[str, Any]) -> None:
    running = {"embedding-api", "redis", "prometheus", "grafana", "caddy"}
    assert services.keys() == running | {PREPARATION}


def test_every_container_is_limited_and_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        ends = name == PREPARATION
        assert service["cpus"] > 0, name
        assert service["mem_limit"], name
        assert 0 < service["pids_limit"] <= 256, name
        assert all("size=" in mounted for mounted in service["tmpfs"]), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == ("no" if ends else "unless-stopped"), name
        assert service["logging"]["options"]["max-size"], name
        assert ends or service["healthcheck"]["test"][0] == "CMD", name
        assert "privileged" not in service, name


def test_only_caddy_runs_as_root_for_its_low_ports(services: dict[str, Any]) -> None:
    users = {
        name: str(service.get("user", "root")).split(":")[0] for name, service in services.items()
    }
    assert [name for name, user in users.items() if user in ("root", "0")] == ["caddy"]
    assert services["caddy"]["cap_add"] == ["NET_BIND_SERVICE"]


def test_the_service_has_the_agreed_name_cpus_memory_and_redis(services: dict[str, Any]) -> None:
    service = services["embedding-api"]
    assert (service["cpus"], service["mem_limit"]) == (2.0, "4G")
    assert services["embedding-api"]["container_name"] == "embedding-api"
    assert services["embedding-api"]["environment"]["REDIS_URL"] == "redis://redis:6379"


def test_a_smaller_machine_gives_the_service_less(folder: Path) -> None:
    service = compose(folder, MEMORY="2560M")["services"]["embedding-api"]
    assert service["mem_limit"] == "2560M"


def test_the_advice_for_a_machine_of_4_gb_leaves_memory_to_its_system(folder: Path) -> None:
    [advised] = set(re.findall(r"MEMORY=(\d+M)", (ROOT / "docker-compose.yml").read_text()))
    services = compose(folder, "--profile", "https", MEMORY=advised)["services"]
    limits = [service["mem_limit"] for name, service in services.items() if name != PREPARATION]
    assert sum(int(limit.removesuffix("M")) for limit in limits) == 4096 - 256
    assert f"MEMORY={advised}" in (DEPLOY / "RUNBOOK.md").read_text()


def test_the_service_has_time_to_stop(services: dict[str, Any]) -> None:
    grace = float(services["embedding-api"]["stop_grace_period"].removesuffix("s"))
    assert grace >= Settings.model_fields["shutdown_timeout"].default + LAST_STEPS


def test_only_the_preparation_gets_the_token_for_downloading_models(folder: Path) -> None:
    [token] = re.findall(r"(?m)^HF_TOKEN=(.+)$", (folder / ".env").read_text())
    services = compose(folder)["services"]
    assert services["embedding-api"]["environment"]["HF_TOKEN"] == ""
    assert services[PREPARATION]["environment"]["HF_TOKEN"] == token


def test_the_preparation_knows_nothing_of_users_and_their_secrets(folder: Path) -> None:
    (folder / ".env").write_text("SUPABASE_JWT_SECRET=secret\nSERVICE_KEYS=a:b\n")
    try:
        preparation = compose(folder)["services"][PREPARATION]
    finally:
        shutil.copy(ROOT / ".env.example", folder / ".env")
    assert preparation["environment"].keys() == {
        "MODEL_NAME", "MODEL_QUANTIZATION", "MODEL_BACKEND", "HF_TOKEN", "HTTPS_PROXY",
    }  # fmt: skip
    assert "env_file" not in preparation
    assert list(preparation["networks"]) == ["default"]


@pytest.mark.parametrize(
    "settings",
    [{}, {"MODEL_NAME": "google/embeddinggemma-300m"}, {"MODEL_QUANTIZATION": "fp32"}],
    ids=str,
)
def test_what_is_prepared_is_what_is_served(folder: Path, settings: dict[str, str]) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    try:
        services = compose(folder)["services"]
    finally:
        shutil.copy(ROOT / ".env.example", folder / ".env")
    prepared, served = (services[name]["environment"] for name in (PREPARATION, "embedding-api"))
    chosen = ("MODEL_NAME", "MODEL_QUANTIZATION", "MODEL_BACKEND")
    assert [prepared[name] for name in chosen] == [served[name] for name in chosen]
    default = {"MODEL_NAME": "all-MiniLM-L6-v2", "MODEL_QUANTIZATION": "int8"} | settings
    assert {name: served[name] for name in default} == default
    assert model_tag(None, "int8", "native") == model_tag("all-MiniLM-L6-v2", "int8", "native")


def test_only_the_service_can_reach_redis(folder: Path) -> None:
    everything = compose(folder, "--profile", "https")
    services = everything["services"]
    assert "ports" not in services["redis"]
    [network] = services["redis"]["networks"]
    assert everything["networks"][network]["internal"]
    members = [name for name in services if network in services[name].get("networks", ())]
    assert members == ["embedding-api", "redis"]


def test_only_caddy_listens_beyond_the_machine() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    published = {name: service.get("ports", []) for name, service in services.items()}
    assert published.pop("caddy") == ["80:80", "443:443", "443:443/udp"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_caddy_starts_when_https_is_asked_for(services: dict[str, Any]) -> None:
    assert services["caddy"]["profiles"] == ["https"]


def test_a_line_in_the_settings_adds_caddy(folder: Path, tmp_path: Path) -> None:
    """The lines that docs/deploy.md prints. Version 1 lists services of all profiles."""
    server = Path(shutil.copytree(folder, tmp_path / "server"))
    program = VERSIONS[1]
    assert "caddy" not in compose(server, program=program)["services"]
    lines = printed_commands(ROOT / "docs" / "deploy.md", "COMPOSE_PROFILES")
    (server / ".env").write_text(lines)
    caddy = compose(server, program=program)["services"]["caddy"]
    assert caddy["environment"]["DOMAIN"] == "api.example.org"


def test_proxies_in_the_network_of_caddy_are_trusted(folder: Path) -> None:
    everything = compose(folder, SUBNET="10.9.8.0/24")
    assert everything["networks"]["default"]["ipam"]["config"] == [{"subnet": "10.9.8.0/24"}]
    assert (
        everything["services"]["embedding-api"]["environment"]["FORWARDED_ALLOW_IPS"]
        == "10.9.8.0/24,127.0.0.1"
    )
    further = compose(folder, FORWARDED_ALLOW_IPS="192.0.2.1")["services"]["embedding-api"]
    assert further["environment"]["FORWARDED_ALLOW_IPS"] == "172.30.64.0/24,192.0.2.1"


def test_the_cores_of_the_service_are_a_setting(folder: Path) -> None:
    for chosen, expected in (({}, 2.0), ({"CPUS": "1.5"}, 1.5)):
        services = compose(folder, **chosen)["services"]
        for name in ("embedding-api", PREPARATION):
            assert float(services[name]["cpus"]) == expected


def test_the_model_comes_from_a_volume_or_a_directory(folder: Path) -> None:
    for store, expected in (
        ("", "models:/bentoml/models"),
        ("/srv/models", "/srv/models:/bentoml/models"),
    ):
        services = compose(folder, **({"MODEL_STORE": store} if store else {}))["services"]
        assert f"{expected}:ro" in services["embedding-api"]["volumes"]
        assert f"{expected}:rw" in services[PREPARATION]["volumes"]


def test_both_images_are_built_from_one_dockerfile(services: dict[str, Any], folder: Path) -> None:
    built = {name: service["build"] for name, service in services.items() if "build" in service}
    assert built == {
        PREPARATION: {"context": str(folder), "target": "prepare"},
        "embedding-api": {"context": str(folder)},
    }
    assert all(services[name]["pull_policy"] == "never" for name in built)


def test_every_file_that_is_mounted_exists() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
    ]
    files = [name for name in mounted if name.startswith("./")]
    assert len(files) == 4
    assert all((ROOT / name).exists() for name in files)


def test_variables_of_the_compose_file_are_not_taken_for_misspelt_settings() -> None:
    names = (
        "IMAGE",
        "PREPARE_IMAGE",
        "PULL_POLICY",
        "MODEL_STORE",
        "CPUS",
        "MEMORY",
        "PREPARE_MEMORY",
        "DOMAIN",
        "SUBNET",
        "UPSTREAM",
        "PATIENCE",
        "COMPOSE_PROFILES",
        "COMPOSE_PROJECT_NAME",
    )
    assert misspelt(names, NAMES, cutoff=0.7) == []
