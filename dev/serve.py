"""`make serve`: write a secret, prepare a model, start the server and print a first call.

python -m dev.serve
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import bentoml

from access import make_access
from container.development import first_call, print_when_ready
from dev.env_file import ensure_env_file
from embedder.errors import ModelLoadError
from embedder.profile import Profile, model_tag
from errors import ConfigurationError
from settings import Settings, load_settings
from startup import check_keys, check_settings

ROOT = Path(__file__).parent.parent
KEEP_ALIVE = 75  # seconds; longer than the 60 s for which proxies keep an idle connection


def main() -> NoReturn:
    """Replace this process by the server; as its parent it would hold 60 MB."""
    if ensure_env_file(ROOT):
        print("Wrote .env with a new secret.", flush=True)
    settings = load_settings()
    _check_port(settings)
    has_keys = _check(settings)
    _ensure_model(settings)
    bentoml_command = str(Path(sys.executable).with_name("bentoml"))
    print_when_ready(_first_call(settings, has_keys=has_keys), _url(settings))
    os.chdir(ROOT)
    command = [bentoml_command, "serve", "--timeout-keep-alive", str(KEEP_ALIVE)]
    os.execv(bentoml_command, command)  # noqa: S606 (no shell is wanted)


def _check(settings: Settings) -> bool:
    """Check the settings before the model is prepared; returns whether the key set was fetched."""

    async def check() -> bool:
        await check_settings(settings)
        return await check_keys(make_access(settings).verifier.keys)

    try:
        return asyncio.run(check())
    except ConfigurationError as error:
        sys.exit(f"embedding-api: {error}")


def _ensure_model(settings: Settings) -> None:
    tag = model_tag(settings.model_name, settings.model_quantization, settings.model_backend)
    with contextlib.suppress(bentoml.exceptions.NotFound, ModelLoadError):
        Profile.load(Path(bentoml.models.get(tag).path))
        return
    status = subprocess.run([sys.executable, "download_model.py"], cwd=ROOT, check=False).returncode
    if status:
        sys.exit(status)


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if settings.host.version == 6 else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(settings.host), settings.port))
        except OSError as error:
            sys.exit(
                f"embedding-api: cannot listen on {settings.host}:{settings.port} "
                f"({error.strerror}). Stop the program that listens there, "
                "or choose another port: make serve PORT=8001"
            )


def _url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(str(settings.host), str(settings.host))  # noqa: S104
    return f"http://{host}:{settings.port}"


def _first_call(settings: Settings, *, has_keys: bool) -> str:
    url = _url(settings)
    if settings.supabase_jwt_secret is not None:
        return first_call(settings, url, another="make token", stop="Ctrl-C")
    if not has_keys:
        return (
            f"\nServing on {url}, but the project's key set cannot be fetched: "
            "every call gets 503 until it can. Check SUPABASE_URL.\n"
        )
    has_users = settings.supabase_url or settings.supabase_jwks or settings.supabase_jwks_url
    sign_in = "Sign in to Supabase and send the session's access_token"
    playground = f"    In a browser: {url}/playground" if settings.playground and has_users else ""
    return (
        f"\nReady: {url}. {sign_in if has_users else 'Send a service key'} as Authorization: "
        f"Bearer TOKEN.\nDocumentation: {url}/docs{playground}    Stop: Ctrl-C\n"
    )


if __name__ == "__main__":
    main()
