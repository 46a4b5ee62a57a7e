"""A project with signing keys: `SUPABASE_URL` is enough, and both kinds of key work at once."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import jwt
import pytest

from lab.server import SECRET, USER, serve, token
from lab.signing import ec_key, jwks, public_jwk

KEYS_PATH = "/auth/v1/.well-known/jwks.json"


EMPTY_PATH = f"/legacy{KEYS_PATH}"


class KeyHandler(BaseHTTPRequestHandler):
    """Answers as a Supabase project does at its key set's path, and as one without signing keys."""

    def do_GET(self) -> None:
        bodies = {KEYS_PATH: jwks(public_jwk(ec_key(), kid="live-1")), EMPTY_PATH: jwks()}
        body = bodies.get(self.path, b"{}")
        self.send_response(200 if self.path in bodies else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def project_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), KeyHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def signed(project_url: str, *, key: str = "first", **changes: object) -> str:
    now = int(time.time())
    claims = {
        "iss": f"{project_url}/auth/v1",
        "sub": USER,
        "aud": "authenticated",
        "role": "authenticated",
    }
    return jwt.encode(
        {**claims, "iat": now, "exp": now + 600, **changes}, ec_key(key), "ES256", {"kid": "live-1"}
    )


def statuses(url: str, *tokens: str) -> list[int]:
    headers = [{"Authorization": f"Bearer {one}"} for one in tokens]
    return [
        httpx.post(f"{url}/embed", json={"text": "a"}, headers=one).status_code for one in headers
    ]


def test_the_url_alone_is_enough(model_store: Path, project_url: str, tmp_path: Path) -> None:
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "SUPABASE_URL": project_url,
        "SUPABASE_JWT_SECRET": "",
    }
    with serve(tmp_path / "log", environment) as server:
        good, forged = signed(project_url), signed(project_url, key="another")
        elsewhere = signed(project_url, iss="https://example.com/auth/v1")
        assert statuses(server.url, good, forged, elsewhere, token()) == [200, 401, 401, 401]


def test_secret_and_key_set_are_live_at_once(
    model_store: Path, project_url: str, tmp_path: Path
) -> None:
    environment = {"MODEL_QUANTIZATION": "fp32", "SUPABASE_URL": project_url}
    with serve(tmp_path / "log", environment) as server:
        old = token(iss=f"{project_url}/auth/v1")
        assert statuses(server.url, signed(project_url), old) == [200, 200]


def test_a_legacy_project_without_its_secret_is_told_at_start(
    model_store: Path, project_url: str, tmp_path: Path
) -> None:
    environment = {
        "MODEL_QUANTIZATION": "fp32",
        "SUPABASE_JWT_SECRET": "",
        "SUPABASE_JWKS_URL": project_url + EMPTY_PATH,
    }
    with serve(tmp_path / "log", environment) as server:
        assert "key_set_is_empty" in server.log()
        assert "set SUPABASE_JWT_SECRET" in server.log()


def test_users_of_third_party_auth_are_served_by_the_providers_keys(
    model_store: Path, project_url: str, tmp_path: Path
) -> None:
    provider = {
        "SUPABASE_JWKS_URL": project_url + KEYS_PATH,
        "SUPABASE_JWT_ISSUER": "https://clerk.example.com",
        "SUPABASE_JWT_AUDIENCE": "my-app",
        "SUBJECT": "any",
        "ALLOWED_ROLES": "authenticated,editor",
    }
    environment = {"MODEL_QUANTIZATION": "fp32", "SUPABASE_JWT_SECRET": "", **provider}
    theirs = {"iss": "https://clerk.example.com", "aud": "my-app", "sub": "user_2NNEqL2nrIRd"}
    with serve(tmp_path / "log", environment) as server:
        editor, supabases = signed(project_url, **theirs, role="editor"), signed(project_url)
        assert statuses(server.url, signed(project_url, **theirs), editor, supabases) == [
            200,
            200,
            401,
        ]
        assert "issuer_mismatch" in server.log()


def test_keys_that_cannot_be_had_are_503_and_not_401(model_store: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    with serve(tmp_path / "log", {"MODEL_QUANTIZATION": "fp32", "SUPABASE_URL": nowhere}) as server:
        answer = httpx.post(
            f"{server.url}/embed",
            json={"text": "a"},
            headers={"Authorization": f"Bearer {signed(nowhere)}"},
        )
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert statuses(server.url, token(iss=f"{nowhere}/auth/v1")) == [200]
        assert "SUPABASE_URL" in server.log()


def test_the_wrong_anon_key_ends_the_start(model_store: Path, tmp_path: Path) -> None:
    anon = jwt.encode(
        {"iss": "supabase", "ref": "x", "role": "anon", "exp": int(time.time()) + 600},
        "y" * 40,
        "HS256",
    )
    environment = {"MODEL_QUANTIZATION": "fp32", "SUPABASE_ANON_KEY": anon}
    with serve(tmp_path / "log", environment, ready=False) as server:
        assert server.process.wait(60) != 0
        assert "SUPABASE_ANON_KEY" in server.log()
        assert SECRET not in server.log()
