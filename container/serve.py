"""The program of the service's image: waits for the model if told to, then serves.

    python -m container.serve [--wait-for-model] [--secret-in DIRECTORY] TARGET [OPTION ...]

    --wait-for-model  answer 503 until another container has prepared the model
    --secret-in       where no setting names users or machines, serve those who have a token that is
                      signed with a random secret, which is kept there; for development

TARGET and further options are those of `bentoml serve`.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from access import make_access
from api.access_log import configure_log
from container import development
from container.status import wanted_model
from container.waiting import wait_for_model
from errors import ConfigurationError
from settings import Settings, load_settings

URL = "http://127.0.0.1:8000"  # where docker-compose.yml publishes the service
STOP = "docker compose stop"


def main(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the server, once it can serve."""
    options, bentoml = _parser().parse_known_args(arguments)
    own_secret = options.secret_in is not None and not development.has_callers()
    if own_secret:
        os.environ[development.SETTING] = development.own_secret(options.secret_in)
    if options.wait_for_model or own_secret:
        settings = load_settings()
        _check(settings)
    if options.wait_for_model and not _wait(settings, bentoml):
        sys.exit(0)
    if own_secret:
        text = development.first_call(settings, URL, another=development.ANOTHER, stop=STOP)
        development.print_when_ready(text, f"http://127.0.0.1:{_address(bentoml).port}")
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", *bentoml])  # noqa: S606


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--wait-for-model", action="store_true")
    parser.add_argument("--secret-in", type=Path)
    return parser


def _address(bentoml: Sequence[str]) -> argparse.Namespace:
    """Host and port among the options of `bentoml serve`."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    return parser.parse_known_args(bentoml)[0]


def _check(settings: Settings) -> None:
    """End with one line about a wrong setting now, not once the model is there."""
    try:
        make_access(settings)
    except ConfigurationError as error:
        sys.exit(f"embedding-api: {error}")


def _wait(settings: Settings, bentoml: Sequence[str]) -> bool:
    """Whether the model is there; False after a signal to stop."""
    configure_log(settings.log_format)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it once more when it has ended
        signal.signal(number, lambda *_: None)
    address = _address(bentoml)
    store, name = wanted_model(settings)
    waiting = wait_for_model(
        store,
        name,
        host=address.host,
        port=address.port,
        answer_timeout=settings.answer_timeout,
    )
    return asyncio.run(waiting)


if __name__ == "__main__":
    main(sys.argv[1:])
