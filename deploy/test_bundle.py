"""`make bundle`, then `make install-bundle` in a network namespace with only a loopback interface.

make test-bundle
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.server import ROOT, SECRET, token

# Runs in the namespace: check that there is no network, install the bundle, start it, send a call.
SCRIPT = """
set -eu
ip link set lo up
if ip route get 192.0.2.1 2> /dev/null; then echo "there is a network"; exit 1; fi
make install-bundle BUNDLE="$1" DIRECTORY="$2" > "$2/log" 2>&1 &
server=$!
for i in $(seq 300); do curl -sf -m 5 -o /dev/null 127.0.0.1:8000/readyz && break; sleep 0.2; done
curl -sf 127.0.0.1:8000/embed -H "Authorization: Bearer $3" -H 'Content-Type: application/json' \\
  -d '{"text": "A man is playing a guitar"}' && answered=0 || answered=$?
kill $server
wait $server || true  # make fails because of the signal
exit $answered
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made from a new model store, which is then deleted."""
    directory = tmp_path_factory.mktemp("bundle")
    home = directory / "home"
    tarball = directory / "bundle.tar"
    environment = os.environ | {"BENTOML_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = ["make", "bundle", f"BUNDLE={tarball}"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=900)
    shutil.rmtree(home)
    return tarball


def test_it_installs_and_serves_without_a_network(bundle: Path, tmp_path: Path) -> None:
    there = tmp_path / "embedding-api"
    there.mkdir()
    (there / ".env").write_text(f"SUPABASE_JWT_SECRET={SECRET}\n")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHON": sys._base_executable}  # type: ignore[attr-defined]
    command = ["unshare", "--net", "sh", "-c", SCRIPT, "sh", str(bundle), str(tmp_path), token()]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "log").read_text()
    assert '"embedding":[' in done.stdout


def test_a_damaged_bundle_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", bundle], cwd=tmp_path, check=True, timeout=120)
    [weights] = tmp_path.rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes() + b" ")
    done = subprocess.run(
        ["./install.sh"],
        cwd=tmp_path / "embedding-api",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "the bundle is damaged" in done.stderr
    assert not (tmp_path / "embedding-api" / ".venv").exists()
