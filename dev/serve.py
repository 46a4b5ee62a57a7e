"""`make serve`: a secret, a model, a server, and a call that works when pasted.

python -m dev.serve
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn

import bentoml

from dev.env_file import ensure_env_file
from dev.token import development_token
from embedder.errors import ModelLoadError
from embedder.profile import Profile, model_tag
from settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
KEEP_ALIVE = 75  # seconds; longer than the 60 s for which proxies keep an idle connection


def main() -> NoReturn:
    """Become the server, and leave nothing beside it: this process would hold 60 MB."""
    if ensure_env_file(ROOT):
        print("Wrote .env with a new secret.", flush=True)
    settings = load_settings()
    _ensure_model(settings)
    _check_port(settings)
    bentoml_command = str(Path(sys.executable).with_name("bentoml"))
    address = ["--host", str(settings.host), "--port", str(settings.port)]
    if os.fork() == 0:
        _invite(settings, server=os.getppid())
        os._exit(0)
    os.chdir(ROOT)
    command = [bentoml_command, "serve", *address, "--timeout-keep-alive", str(KEEP_ALIVE)]
    os.execv(bentoml_command, command)  # noqa: S606 (no shell is wanted)


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
                f"embedding-api: cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
                "Stop what runs there, or choose another port: make serve PORT=8001"
            )


def _invite(settings: Settings, *, server: int) -> None:
    """Say what to do with the server once it is ready; `server` is the parent's process id."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while os.getppid() == server:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{_url(settings)}/readyz", timeout=2),
        ):
            print(_invitation(settings), flush=True)
            return
        time.sleep(0.05)


def _url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(str(settings.host), str(settings.host))  # noqa: S104
    return f"http://{host}:{settings.port}"


def _invitation(settings: Settings) -> str:
    if settings.supabase_jwt_secret is None:
        return f"Ready: {_url(settings)}/docs. Sign in to Supabase and send the session's access_token."
    return (
        f"\nReady. Try:\n\ncurl {_url(settings)}/embed \\\n"
        f"  -H 'Authorization: Bearer {development_token(settings)}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        """  -d '{"text": "안녕하세요, 반갑습니다!"}'\n\n"""
        f"Documentation: {_url(settings)}/docs    Another token: make token    Stop: Ctrl-C\n"
    )


if __name__ == "__main__":
    main()
