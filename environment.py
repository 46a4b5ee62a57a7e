"""Where settings come from: environment variables, and `.env` where the service was started."""

import difflib
import stat
import sys
from collections.abc import Container, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails

ENV_FILE = ".env"
# Of docker-compose.yml alone; it looks like a misspelt SUBJECT.
COMPOSE_NAMES = frozenset({"SUBNET"})
# Passwords in URLs, and keys in the wrong setting.
_SECRET_MARKS = ("@", "eyJ", "sb_secret_", "embk_", "hf_")


@cache
def env_file() -> Path | None:
    """The `.env` of the working directory, or of the directory that the service was started in.

    The first call decides: BentoML changes the working directory later.
    """
    places = (directory / ENV_FILE for directory in _directories())
    return next((path for path in places if path.is_file()), None)


def file_values() -> dict[str, str | None]:
    """The variables in that `.env`; none without one."""
    path = env_file()
    return dotenv_values(path) if path else {}


def is_open_to_all(path: Path) -> bool:
    """Whether every user of the machine can read the file."""
    return bool(path.stat().st_mode & stat.S_IROTH)


def misspelt(names: Iterable[str], known: frozenset[str], *, cutoff: float) -> list[str]:
    """Complaints about names that are almost one of `known`.

    Args:
        names: of variables.
        known: the names that are settings.
        cutoff: likeness from 0 to 1 above which a name counts as misspelt.
    """
    others = set(names) - known - COMPOSE_NAMES
    unknown = sorted(name for name in others if not name.startswith("OTEL_"))  # read by the SDK
    close = ((name, difflib.get_close_matches(name, known, n=1, cutoff=cutoff)) for name in unknown)
    return [f"{name} is not a setting; did you mean {match[0]}?" for name, match in close if match]


def wrong(error: ValidationError, *, secret: Container[str]) -> list[str]:
    """What is wrong with settings, by variable.

    Args:
        error: of their fields.
        secret: fields whose values are not shown.
    """
    found = ((str(item["loc"][0]), item) for item in error.errors())
    return [_complaint(field, item, secret=field in secret) for field, item in found]


def _complaint(field: str, item: ErrorDetails, *, secret: bool) -> str:
    message = item["msg"].removeprefix("Value error, ")
    value = str(item["input"])
    hidden = secret or any(mark in value for mark in _SECRET_MARKS)
    return f"{field.upper()}: {message}" + ("" if hidden else f" (it is {value[:64]!r})")


def _directories() -> Iterator[Path]:
    """The working directory, and the one that BentoML will return to.

    `bentoml serve TAG` imports the service in the Bento's directory. Where it was started is only
    in a local variable of BentoML's `import_service`.
    """
    yield Path.cwd()
    frame: FrameType | None = sys._getframe()
    while frame := frame and frame.f_back:
        if frame.f_code.co_name == "import_service" and (back := frame.f_locals.get("prev_cwd")):
            yield Path(back)
