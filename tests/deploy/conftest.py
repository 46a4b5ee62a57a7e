"""The live service behind real proxies, and a real Prometheus that reads it."""

import getpass
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.server import Server, free_port, serve, token
from tests.deploy.promql import DEPLOY

FAILURES = 5  # refused tokens of an address
BODY_SECONDS = 4  # for a body to arrive
SPILLS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # what nginx keeps directories for


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs, and the only certificates that its callers trust."""

    port: int
    trust: ssl.SSLContext

    def client(self, address: str = "127.0.0.1", bearer: str | None = None) -> httpx.Client:
        """A caller at `address`, with `bearer` or a valid token."""
        return httpx.Client(
            base_url=f"https://localhost:{self.port}",
            headers={"Authorization": f"Bearer {bearer or token()}"},
            transport=httpx.HTTPTransport(local_address=address, verify=self.trust),
            timeout=30,
        )


@pytest.fixture(scope="package")
def origin(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Server]:
    """The one service behind all of them; it believes what 127.0.0.1 says of a caller's address, as by default."""
    settings = {
        "MODEL_QUANTIZATION": "fp32",
        "RATE_LIMIT_PER_MIN": "100000",
        "FAILED_AUTH_PER_MIN": str(FAILURES),
    }
    settings |= {"BODY_TIMEOUT": str(BODY_SECONDS), "MAX_CONCURRENT_PER_USER": "100"}
    with serve(tmp_path_factory.mktemp("origin") / "log", settings) as running:
        yield running


@pytest.fixture(scope="package", params=["caddy", "nginx"])
def proxy(
    request: pytest.FixtureRequest, origin: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    start = {"caddy": caddy, "nginx": nginx}[request.param]
    with start(tmp_path_factory.mktemp(request.param), httpx.URL(origin.url).port or 0) as running:
        yield running


@contextmanager
def running(command: list[str], directory: Path, up: Callable[[], bool]) -> Iterator[None]:
    """`command` in `directory`, from when it is `up` until the block ends."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(directory)}
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 20
        while not up():
            assert process.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline, (directory / "output").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str, trust: ssl.SSLContext | None = None, status: int = 200) -> bool:
    """Whether a GET is answered with `status`."""
    try:
        return httpx.get(url, verify=trust or True, timeout=5).status_code == status
    except httpx.TransportError:
        return False


@contextmanager
def caddy(directory: Path, origin: int, patience: str = "30s") -> Iterator[Proxy]:
    """The Caddyfile as it is, told by the environment where to listen; for localhost it signs its own certificate."""
    port, store = free_port(), directory / "store"
    settings = {
        "HTTPS_PORT": port,
        "HTTP_PORT": free_port(),
        "UPSTREAM": f"127.0.0.1:{origin}",
        "XDG_DATA_HOME": store,
    }
    settings |= {"PATIENCE": patience}
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), "caddy", "run"]
    command += ["--config", str(DEPLOY / "caddy" / "Caddyfile"), "--adapter", "caddyfile"]
    authority = store / "caddy" / "pki" / "authorities" / "local" / "root.crt"

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(authority))

    url = f"https://localhost:{port}/nothing"
    with running(command, directory, lambda: authority.exists() and answers(url, trust(), 404)):
        yield Proxy(port, trust())


@contextmanager
def nginx(directory: Path, origin: int) -> Iterator[Proxy]:
    """nginx.conf with the few things changed that it asks to be changed, and the ports."""
    port, certificate, key = free_port(), directory / "fullchain.pem", directory / "privkey.pem"
    _self_signed(certificate, key)
    text = (DEPLOY / "nginx" / "nginx.conf").read_text()
    for ours, here in (
        ("127.0.0.1:8000", f"127.0.0.1:{origin}"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("api.example.org", "localhost"),
        ("/etc/ssl/embedding-api/fullchain.pem", str(certificate)),
        ("/etc/ssl/embedding-api/privkey.pem", str(key)),
        ("server_tokens off;", "".join(f"{kind}_temp_path {directory}/{kind};" for kind in SPILLS)),
    ):
        assert text.count(ours) == 1, ours
        text = text.replace(ours, here)
    (directory / "nginx.conf").write_text(text)
    trust = ssl.create_default_context(cafile=str(certificate))
    options = f"daemon off; user {getpass.getuser()}; pid {directory}/pid; error_log stderr;"
    command = ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-g", options]
    with running(
        command, directory, lambda: answers(f"https://localhost:{port}/nothing", trust, 404)
    ):
        yield Proxy(port, trust)


def _self_signed(certificate: Path, key: Path) -> None:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    private, serial, end = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.random_serial_number(),
        now + timedelta(days=1),
    )
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), serial, now, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, *form))


@pytest.fixture(scope="package")
def prometheus(origin: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prometheus_of(
        tmp_path_factory.mktemp("prometheus"), httpx.URL(origin.url).port or 0
    ) as address:
        yield address


@contextmanager
def prometheus_of(directory: Path, origin: int) -> Iterator[str]:
    """A real Prometheus with our rules that scrapes every second; its address."""
    port = free_port()
    shutil.copytree(DEPLOY / "prometheus" / "rules", directory / "rules")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    text = text.replace("embedding-api:8000", f"127.0.0.1:{origin}").replace(": 15s", ": 1s")
    (directory / "prometheus.yml").write_text(text)
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, directory, lambda: answers(f"http://127.0.0.1:{port}/-/ready")):
        yield f"http://127.0.0.1:{port}"
