"""Real Caddy and nginx with the shipped configuration, and calls through them."""

import getpass
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.server import free_port, token
from tests.deploy.processes import answers, running
from tests.deploy.promql import DEPLOY

READ_BODY = "read_body 45s"  # in the Caddyfile
READ_SECONDS = 12  # instead, so that tests are short
SPILLS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # temporary directories of nginx
ENVELOPE = {"message", "type", "code", "param"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Proxy:
    """A running proxy, and the certificates that its callers trust."""

    port: int
    trust: ssl.SSLContext

    def client(self, address: str = "127.0.0.1", bearer: str | None = None) -> httpx.Client:
        """A client at the local address `address`, with `bearer` or a valid token."""
        return httpx.Client(
            base_url=f"https://localhost:{self.port}",
            headers={"Authorization": f"Bearer {bearer or token()}"},
            transport=httpx.HTTPTransport(local_address=address, verify=self.trust),
            timeout=30,
        )


@contextmanager
def caddy(directory: Path, origin: int, patience: str = "30s") -> Iterator[Proxy]:
    """The shipped Caddyfile with a shorter time for bodies, configured by the environment.

    Caddy signs its own certificate for localhost.
    """
    port = free_port()
    store = directory / "store"
    settings = {
        "HTTPS_PORT": port,
        "HTTP_PORT": free_port(),
        "UPSTREAM": f"127.0.0.1:{origin}",
        "XDG_DATA_HOME": store,
        "PATIENCE": patience,
    }
    text = (DEPLOY / "caddy" / "Caddyfile").read_text()
    assert text.count(READ_BODY) == 1
    (directory / "Caddyfile").write_text(text.replace(READ_BODY, f"read_body {READ_SECONDS}s"))
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), "caddy", "run"]
    command += ["--config", str(directory / "Caddyfile"), "--adapter", "caddyfile"]
    authority = store / "caddy" / "pki" / "authorities" / "local" / "root.crt"

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(authority))

    url = f"https://localhost:{port}/nothing"
    with running(command, directory, lambda: authority.exists() and answers(url, trust(), 404)):
        yield Proxy(port, trust())


@contextmanager
def nginx(directory: Path, origin: int) -> Iterator[Proxy]:
    """The shipped nginx.conf with the changes that it asks for, and other ports."""
    port = free_port()
    certificate = directory / "fullchain.pem"
    key = directory / "privkey.pem"
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
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    private = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    end = now + timedelta(days=1)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), serial, now, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, *form))


def assert_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"].keys() == ENVELOPE
    assert answer.json()["error"]["code"] == code


def connect(proxy: Proxy) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    return proxy.trust.wrap_socket(plain, server_hostname="localhost")


def head_of_a_body_of(size: int) -> bytes:
    head = f"POST /embed HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token()}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()


def read_answer(connection: ssl.SSLSocket) -> httpx.Response:
    answer = HTTPResponse(connection)
    answer.begin()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
