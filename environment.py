"""Where settings come from: environment variables, and an `.env` where the service was started."""

import difflib
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType

ENV_FILE = ".env"
# Variables of deploy/docker-compose.yml alone.
COMPOSE_NAMES = frozenset({"SUBNET"})


@cache
def env_file() -> Path | None:
    """The `.env` of the working directory, or of the directory that the service was started in.

    The first call decides: BentoML changes the working directory.
    """
    places = (directory / ENV_FILE for directory in _directories())
    return next((path for path in places if path.is_file()), None)


def is_open_to_all(path: Path) -> bool:
    """Whether every user of the machine may read a file."""
    return bool(path.stat().st_mode & stat.S_IROTH)


def misspelt(names: Iterable[str], known: frozenset[str], *, cutoff: float) -> list[str]:
    """What to say of names that are almost one of `known`."""
    unknown = sorted(
        name for name in set(names) - known - COMPOSE_NAMES if not name.startswith("OTEL_")
    )  # those are the SDK's
    close = ((name, difflib.get_close_matches(name, known, n=1, cutoff=cutoff)) for name in unknown)
    return [f"{name} is not a setting; did you mean {match[0]}?" for name, match in close if match]


def _directories() -> Iterator[Path]:
    """`bentoml serve TAG` is in the Bento's directory while it imports the service.

    BentoML says nowhere where it will go back to, but in this variable of its own.
    """
    yield Path.cwd()
    frame: FrameType | None = sys._getframe()
    while frame := frame and frame.f_back:
        if frame.f_code.co_name == "import_service" and (back := frame.f_locals.get("prev_cwd")):
            yield Path(back)
