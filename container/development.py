"""For development: a secret of the machine's own, tokens signed with it, and a first call.

python -m container.development prints another token, in a container that has such a secret.
"""

import contextlib
import os
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path

import jwt

from environment import file_values
from settings import Settings, load_settings

LIFETIME = 24 * 3600  # seconds
SETTING = "SUPABASE_JWT_SECRET"
DIRECTORY = Path("/development")  # a volume of docker-compose.yml
ANOTHER = "docker compose exec embedding-api python -m container.development"
_CALLERS = ("SUPABASE_", "SERVICE_KEYS")  # each setting that begins so says who is served
_FILE = "jwt-secret"
_FIRST_CALL = """
Ready. Compare a text with two others:

curl {url}/similarity \\
  -H 'Authorization: Bearer {token}' \\
  -H 'Content-Type: application/json' \\
  -d '{{"text": "A man plays a guitar", "texts": ["Someone plays an instrument", "It rained"]}}'

Vectors: POST /embed{playground}    Documentation: {url}/docs
Another token: {another}    Stop: {stop}
"""


def has_callers() -> bool:
    """Whether the environment or the `.env` names callers."""
    return names_callers(os.environ) or names_callers(file_values())


def names_callers(environment: Mapping[str, str | None]) -> bool:
    """Whether a setting says whose users or machines are served."""
    given = (name.upper() for name, value in environment.items() if value)
    return any(name.startswith(_CALLERS) for name in given)


def own_secret(directory: Path) -> str:
    """The random secret in a directory, which is written if there is none.

    Only its owner can read the file. A process that is killed leaves none or a whole one.

    Raises:
        SystemExit: the directory is not there, or cannot be written to.
    """
    path = directory / _FILE
    try:
        if not path.exists():
            unfinished = directory / f"{_FILE}.{os.getpid()}"
            unfinished.touch(mode=0o600)
            unfinished.write_text(secrets.token_urlsafe(48))
            os.replace(unfinished, path)
        return path.read_text()
    except OSError as error:
        sys.exit(
            f"embedding-api: no secret can be kept in {directory} ({error.strerror}): set "
            "SUPABASE_JWT_SECRET, or mount a directory there that this user may write to"
        )


def development_token(settings: Settings, user_id: str | None = None) -> str:
    """An access token for `user_id`, or for a new user.

    Raises:
        SystemExit: there is no secret to sign with, or the user id is not a UUID.
    """
    if settings.supabase_jwt_secret is None:
        sys.exit(
            "SUPABASE_JWT_SECRET is not set: sign in to Supabase for a token, "
            "or run `make serve` once for a secret."
        )
    try:
        subject = str(uuid.UUID(user_id)) if user_id else str(uuid.uuid4())
    except ValueError:
        sys.exit(f"USER_ID should be a UUID such as {uuid.uuid4()}")
    now = int(time.time())
    claims = {
        "sub": subject,
        "aud": "authenticated",
        "role": "authenticated",
        "iat": now,
        "exp": now + LIFETIME,
    }
    issuer = settings.supabase_jwt_issuer or (
        settings.supabase_url and f"{settings.supabase_url}/auth/v1"
    )
    if issuer:
        claims["iss"] = issuer
    return jwt.encode(claims, settings.supabase_jwt_secret.get_secret_value(), algorithm="HS256")


def first_call(settings: Settings, url: str, *, another: str, stop: str) -> str:
    """A call to paste into a terminal.

    Args:
        settings: have the secret that its token is signed with.
        url: of the service.
        another: the command that prints another token.
        stop: how to stop the service.
    """
    token = development_token(settings)
    playground = f"    In a browser: {url}/playground" if settings.playground else ""
    return _FIRST_CALL.format(
        url=url, token=token, playground=playground, another=another, stop=stop
    )


def print_when_ready(text: str, url: str) -> None:
    """Fork a process that prints `text` once `url` is ready, and ends with the process above it.

    The caller becomes the server, and its supervisor reaps this child.
    """
    server = os.getpid()
    sys.stdout.flush()
    if os.fork():
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while os.getppid() == server:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{url}/readyz", timeout=2),
        ):
            print(text, flush=True)
            break
        time.sleep(0.05)
    os._exit(0)


def main() -> None:
    """Print a token, unless the service has callers of its own."""
    if has_callers():
        sys.exit("This service has callers of its own: sign in to Supabase for a token.")
    os.environ[SETTING] = own_secret(DIRECTORY)
    print(development_token(load_settings(), *sys.argv[1:2]))


if __name__ == "__main__":
    main()
