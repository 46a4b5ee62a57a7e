"""A Supabase project as its clients see it: sign-in, and functions of a real PostgreSQL.

It stands in for GoTrue and PostgREST, which no package index has. Tokens are signed with a real
key. A function runs as PostgREST runs it: in a transaction with the role and the claims of the
token, so that policies decide.
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import psycopg
from psycopg import sql

from lab.signing import ec_key, jwks, public_jwk

PUBLISHABLE_KEY = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
ROLES = {PUBLISHABLE_KEY: "anon", SECRET_KEY: "service_role"}
SCHEMA = Path(__file__).with_name("supabase.sql")
KEYS = "/auth/v1/.well-known/jwks.json"
SIGN_IN = "/auth/v1/token?grant_type=password"
SEND_LINK = "/auth/v1/otp"
LINK = "/auth/v1/verify"
SIGN_OUT = "/auth/v1/logout"
CALL = "/rest/v1/rpc/"
LIFETIME = 3600  # seconds
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "apikey, authorization, content-type",
}

Claims = Mapping[str, Any]
Answer = tuple[HTTPStatus, object]


@dataclass(frozen=True)
class User:
    """Somebody who has signed up; `id` is a UUID."""

    id: str
    email: str
    password: str


class Project:
    """A project whose database has the objects of SCHEMA.

    Attributes:
        links: those that were sent by e-mail and not opened yet, with the user of each.
        ended: tokens of sessions that users have ended.
    """

    def __init__(self, url: str, database_url: str | None, *users: User) -> None:
        self.url = url
        self.issuer = f"{url}/auth/v1"
        self._database_url = database_url
        self._users = {user.email: user for user in users}
        self.links: dict[str, User] = {}
        self.ended: list[str] = []

    def token(self, user: User) -> str:
        """An access token of a user who signs in now."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": user.id,
            "email": user.email,
            "aud": "authenticated",
            "role": "authenticated",
            "iat": now,
            "exp": now + LIFETIME,
        }
        return jwt.encode(claims, ec_key(), "ES256", {"kid": "first"})

    def sign_in(self, email: str, password: str) -> Answer:
        """A session as GoTrue gives it."""
        user = self._users.get(email)
        if user is None or user.password != password:
            message = "Invalid login credentials"
            refusal = {"code": 400, "error_code": "invalid_credentials", "msg": message}
            return HTTPStatus.BAD_REQUEST, refusal
        account = {"id": user.id, "aud": "authenticated", "email": email}
        return HTTPStatus.OK, self._session(user) | {"user": account}

    def _session(self, user: User) -> dict[str, Any]:
        return {
            "access_token": self.token(user),
            "token_type": "bearer",
            "expires_in": LIFETIME,
            "expires_at": int(time.time()) + LIFETIME,
            "refresh_token": "one-for-a-test",
        }

    def send_link(self, email: str, *, create_user: bool, back: str) -> Answer:
        """E-mail a link that leads to `back`, as GoTrue does where nobody may sign up."""
        user = self._users.get(email)
        if user is None or create_user:
            message = "Signups not allowed for otp"
            refusal = {"code": 422, "error_code": "otp_disabled", "msg": message}
            return HTTPStatus.UNPROCESSABLE_ENTITY, refusal
        asked = {"token": str(len(self.links)), "type": "magiclink", "redirect_to": back}
        self.links[f"{self.url}{LINK}?{urlencode(asked)}"] = user
        return HTTPStatus.OK, {}

    def open_link(self, link: str) -> str:
        """Where a link leads: back with a session, or with an error if it was opened before."""
        [back] = parse_qs(urlsplit(link).query)["redirect_to"]
        user = self.links.pop(link, None)
        brought: Mapping[str, object] = {
            "error": "access_denied",
            "error_code": "otp_expired",
            "error_description": "Email link is invalid or has expired",
        }
        if user is not None:
            brought = self._session(user) | {"type": "magiclink"}
        return f"{back}#{urlencode(brought)}"

    def claims(self, bearer: str) -> Claims:
        """Of a user's token, or of a key of the project. Raises jwt.PyJWTError."""
        if bearer in ROLES:
            return {"role": ROLES[bearer]}
        key = ec_key().public_key()
        checks: dict[str, Any] = {"audience": "authenticated", "issuer": self.issuer}
        return dict(jwt.decode(bearer, key, ["ES256"], **checks))

    def call(self, function: str, arguments: Mapping[str, Any], claims: Claims) -> Answer:
        """The value or the rows that a function returns to a caller with these claims."""
        given = {
            name: json.dumps(value) if isinstance(value, list) else value
            for name, value in arguments.items()
        }
        named = [
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in given
        ]
        name = sql.Identifier("public", function)
        query = sql.SQL(
            "SELECT coalesce(json_agg(found), '[]'), "
            "(SELECT proretset FROM pg_proc WHERE oid = to_regproc({})) FROM {}({}) found"
        ).format(sql.Literal(name.as_string(None)), name, sql.SQL(", ").join(named))
        try:
            with psycopg.connect(self._database_url or "") as connection:
                role = sql.Identifier(claims["role"])
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
                connection.execute(
                    "SELECT set_config('request.jwt.claims', %s, true)", [json.dumps(claims)]
                )
                [(rows, is_set)] = connection.execute(query, given).fetchall()
        except psycopg.Error as error:
            return HTTPStatus.BAD_REQUEST, {"code": error.sqlstate, "message": str(error)}
        return HTTPStatus.OK, rows if is_set else rows[0]


class _Handler(BaseHTTPRequestHandler):
    project: Project

    def do_OPTIONS(self) -> None:
        self._send(HTTPStatus.NO_CONTENT, b"")

    def do_GET(self) -> None:
        if self.path.startswith(LINK):
            to = self.project.open_link(f"{self.project.url}{self.path}")
            self._send(HTTPStatus.SEE_OTHER, b"", {"Location": to})
            return
        found = self.path == KEYS
        body = jwks(public_jwk(ec_key(), kid="first")) if found else b"{}"
        self._send(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, content = self._answer(body)
        self._send(status, b"" if content is None else json.dumps(content).encode())

    def _answer(self, body: Mapping[str, Any]) -> Answer:
        if self.headers["apikey"] not in ROLES:
            return HTTPStatus.UNAUTHORIZED, {"message": "Invalid API key"}
        if self.path.startswith("/auth/"):
            return self._sign_in_or_out(body)
        if not self.path.startswith(CALL):
            return HTTPStatus.NOT_FOUND, {"message": self.path}
        try:
            claims = self.project.claims(self._bearer)
        except jwt.PyJWTError as error:
            return HTTPStatus.UNAUTHORIZED, {"code": "PGRST301", "message": str(error)}
        return self.project.call(self.path.removeprefix(CALL), body, claims)

    def _sign_in_or_out(self, body: Mapping[str, Any]) -> Answer:
        path, _, query = self.path.partition("?")
        if self.path == SIGN_IN:
            return self.project.sign_in(body["email"], body["password"])
        if path == SEND_LINK:
            [back] = parse_qs(query)["redirect_to"]
            new = body["create_user"]
            return self.project.send_link(body["email"], create_user=new, back=back)
        if path == SIGN_OUT:
            self.project.ended.append(self._bearer)
            return HTTPStatus.NO_CONTENT, None
        return HTTPStatus.NOT_FOUND, {"message": self.path}

    @property
    def _bearer(self) -> str:
        return str(self.headers["Authorization"]).removeprefix("Bearer ")

    def _send(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] = CORS) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _fill(database_url: str, users: Iterable[User]) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(SCHEMA.read_bytes())
        for user in users:
            connection.execute("INSERT INTO auth.users VALUES (%s, %s)", [user.id, user.email])


@contextmanager
def running_project(database_url: str | None, *users: User) -> Iterator[Project]:
    """A project over an empty database, with these users; without functions if that is None."""
    if database_url is not None:
        _fill(database_url, users)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        project = Project(f"http://127.0.0.1:{server.server_port}", database_url, *users)
        server.RequestHandlerClass = type("Handler", (_Handler,), {"project": project})
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield project
        server.shutdown()
