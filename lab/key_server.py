"""The key server of a Supabase project, which can be stopped and made to hang."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

from lab.server import USER, free_port
from lab.signing import ec_key, jwks, public_jwk

PATH = "/auth/v1/.well-known/jwks.json"


class KeyServer:
    """Publishes public keys by name, and signs tokens with the private ones."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._server: ThreadingHTTPServer | None = None
        self._hangs = threading.Event()

    def hang(self) -> None:
        """Accept connections from now on, but answer none."""
        self._hangs.set()

    def start(self, *names: str) -> None:
        """Start to publish the keys with these names."""
        body = jwks(*(public_jwk(ec_key(name), kid=name) for name in names))
        hangs = self._hangs

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                while hangs.is_set():
                    time.sleep(0.1)
                self.send_response(200 if self.path == PATH else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def sign(self, key: str = "first", user: str = USER) -> str:
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/auth/v1",
            "sub": user,
            "aud": "authenticated",
            "role": "authenticated",
        }
        return jwt.encode(
            {**claims, "iat": now, "exp": now + 3600}, ec_key(key), "ES256", {"kid": key}
        )
