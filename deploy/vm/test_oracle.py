"""docs/oracle.md, run from an empty machine to HTTPS.

    make test-vm

The tests depend on those before them, as the page's sections do.
"""

import os
import subprocess

import httpx
import numpy as np
import pytest

from deploy.compose.stack import eventually, repeated
from deploy.vm.conftest import Repository
from deploy.vm.machine import HTTPS, SSH, commands, is_up, run, status
from embedder.model import EmbeddingModel
from lab.models import prepared
from lab.server import SECRET, token

SETTINGS = f"""
SUPABASE_JWT_SECRET={SECRET}
REDIS_URL=redis://redis:6379
RATE_LIMIT_PER_MIN=100000
MODEL_STORE=/home/ubuntu/models
MEMORY=2560M
COMPOSE_PROFILES=https
DOMAIN=localhost
PATIENCE=600s
"""
# Images are built elsewhere, and no package of Debian has Grafana.
UP = "up -d --no-build embedding-api redis prometheus caddy"
TEXTS = ("still here", "안녕하세요, 반갑습니다!", "word " * 100)
HEADERS = {"Authorization": f"Bearer {token()}"}
LISTENER = "sudo systemd-run --quiet --unit=listener python3 -m http.server 443"
IN_CLONE = "cd embedding-api\n"


def test_docker_runs_without_root_after_the_next_login(docker: None) -> None:
    assert run("docker version --format '{{.Server.Arch}}'") == "arm64"
    assert " 2." in run("docker compose version")


def test_swap_is_added(docker: None) -> None:
    run(commands("sudo fallocate"))
    assert run("sudo swapon --show=NAME --noheadings") == "/swapfile"


def test_oracles_firewall_refuses_a_proxy_of_the_machine_until_its_ports_are_opened() -> None:
    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{os.environ['VM_HTTPS']}", timeout=10).is_success
        except httpx.TransportError:
            return False

    run(LISTENER)
    assert eventually(lambda: "200" in run("curl -sI localhost:443 || true"), 60)
    assert not answers()
    run(commands("sudo iptables"))
    assert answers()
    run("sudo systemctl stop listener")
    assert "--dports 80,443" in run("sudo grep 443 /etc/iptables/rules.v4")
    run("sudo iptables -D INPUT 5 && sudo iptables -D INPUT 5 && sudo netfilter-persistent save")


@pytest.fixture(scope="module")
def served(repository: Repository, images: None) -> None:
    """The page's section about the service."""
    run(commands("git clone").replace("REPOSITORY", repository.url))
    run(f"{IN_CLONE}cat > .env <<'FILE'\n{SETTINGS}FILE")
    rules = "deploy/prometheus/rules/embedding-api.yml"
    run(f"{IN_CLONE}sed -i 's/4 \\* 1024 ^ 3/2560 * 1024 ^ 2/' {rules}")
    [up, *_] = commands("docker compose up --build").splitlines()
    run(IN_CLONE + up.replace("up --build -d", UP), 1200)


def embed() -> httpx.Response:
    body = {"texts": TEXTS}
    return httpx.post(f"{HTTPS}/batch-embed", json=body, headers=HEADERS, verify=False, timeout=900)


def test_the_service_answers_from_outside_with_the_vectors_of_x86(served: None) -> None:
    log = "docker compose logs embedding-api"
    assert eventually(lambda: status("/readyz") == 200, 2400), run(IN_CLONE + log)
    assert "model_loaded_successfully" in run(IN_CLONE + log)
    found = np.asarray(embed().json()["embeddings"], dtype=np.float32)
    here = EmbeddingModel.load(prepared(None, "int8"), num_threads=1)
    np.testing.assert_array_equal(found, here.embed(TEXTS))  # to the bit


def test_only_caddy_is_reached_from_outside(served: None) -> None:
    listening = run("sudo ss -Hltn | awk '{print $4}'").split()
    public = {one.rsplit(":", 1)[1] for one in listening if not one.startswith("127.")}
    assert public == {"22", "80", "443"}
    assert status("/metrics") == 404


def test_an_update_loses_no_call(served: None, repository: Repository) -> None:
    """To a version whose compose file makes the container of the service again.

    For a moment, which is long under emulation, the old one may answer 503 with Retry-After.
    """
    file = repository.tree / "docker-compose.yml"
    file.write_text(
        file.read_text().replace('HF_TOKEN: ""', 'HF_TOKEN: ""\n      SHUTDOWN_TIMEOUT: 29')
    )
    repository.publish("Version two")
    update = commands("git pull").replace("up -d", UP)
    for elsewhere in ("docker compose build &&\n", "docker compose run --rm model &&\n"):
        assert elsewhere in update
        update = update.replace(elsewhere, "")
    with repeated(embed, pause=1) as answers:
        run(IN_CLONE + update, 1200)
        assert eventually(lambda: status("/readyz") == 200, 1200)
    assert len(answers) > 3
    refused = [answer for answer in answers if answer.status_code != 200]
    assert all((one.status_code, "retry-after" in one.headers) == (503, True) for one in refused)
    assert answers[-1].status_code == 200
    chosen = run(f"{IN_CLONE}docker compose exec -T embedding-api printenv SHUTDOWN_TIMEOUT")
    assert chosen == "29"
    assert "2560 * 1024 ^ 2" in run(f"{IN_CLONE}git diff")


def test_a_restored_backup_of_redis_has_its_blocked_users(served: None) -> None:
    command = f"{IN_CLONE}docker compose exec -T redis redis-cli"
    run(f"{command} sadd blocked_users somebody")
    run(IN_CLONE + commands("docker compose stop redis\ndocker run --rm -v"))
    run(f"{command} flushall")
    run(IN_CLONE + commands("docker compose stop redis\ngunzip"))
    assert eventually(lambda: run(f"{command} smembers blocked_users") == "somebody", 120)


def test_all_is_back_after_a_restart_of_the_machine(served: None) -> None:
    subprocess.run([*SSH, "sudo systemctl reboot"], check=False, timeout=60)
    assert eventually(lambda: not is_up(), 120)
    assert eventually(is_up, 600)
    assert run("sudo swapon --show=NAME --noheadings") == "/swapfile"
    assert "icmp-host-prohibited" in run("sudo iptables -S INPUT")
    running = "docker ps --filter status=running --format '{{.Names}}'"
    services = ("redis", "prometheus", "caddy")
    names = {"embedding-api", *(f"embedding-api-{service}-1" for service in services)}
    assert eventually(lambda: set(run(running).split()) == names, 300)
    assert eventually(lambda: embed().status_code == 200, 1200)


def test_the_firewall_of_oracle_linux_lets_calls_through_too(served: None) -> None:
    """Its commands, with the same program from Debian."""
    run("sudo systemctl disable --now -q netfilter-persistent")
    run("sudo apt-get install -y firewalld && sudo systemctl enable --now firewalld", 1200)
    run(commands("sudo firewall-cmd"))
    assert "https" in run("sudo firewall-cmd --list-services")
    run("sudo systemctl restart docker", 900)
    assert eventually(lambda: status("/readyz") == 200, 1200)
