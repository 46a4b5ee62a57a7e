"""`make bundle`, then install and serve it in a network namespace with nothing but a loopback.

make test-bundle
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.server import ROOT, SECRET, token

# Runs in the namespace: install from the bundle, start, ask, and say what the network is like.
SCRIPT = """
set -eu
ip link set lo up
if ip route get 192.0.2.1 2> /dev/null; then echo "there is a network"; exit 1; fi
cd "$1"
./install.sh
./serve.sh --port 18099 > log 2>&1 &
server=$!
for i in $(seq 300); do curl -sf -m 5 -o answer 127.0.0.1:18099/readyz && break; sleep 0.2; done
curl -sf 127.0.0.1:18099/embed -H "Authorization: Bearer $2" -H 'Content-Type: application/json' \
  -d '{"text": "A man is playing a guitar"}'
kill $server
wait $server
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made from a store of its own, unpacked."""
    directory = tmp_path_factory.mktemp("bundle")
    home = directory / "home"
    environment = os.environ | {"BENTOML_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    subprocess.run(["make", "bundle", f"BUNDLE={directory}/bundle.tar"], cwd=ROOT, env=environment, check=True)
    shutil.rmtree(home)
    subprocess.run(["tar", "xf", "bundle.tar"], cwd=directory, check=True)
    return directory / "embedding-api"


def test_it_installs_and_serves_without_a_network(bundle: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"SUPABASE_JWT_SECRET": SECRET, "PYTHON": sys._base_executable}  # type: ignore[attr-defined]
    command = ["unshare", "--net", "sh", "-c", SCRIPT, "sh", str(bundle), token()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    log = bundle / "log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert '"embedding":[' in done.stdout


def test_a_damaged_bundle_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy", ignore=shutil.ignore_patterns(".venv", "home"))
    [graph] = copy.rglob("model.onnx")
    graph.write_bytes(graph.read_bytes() + b" ")
    done = subprocess.run(["./install.sh"], cwd=copy, capture_output=True, text=True)
    assert done.returncode != 0
    assert "the bundle is damaged" in done.stderr
    assert not (copy / ".venv").exists()
