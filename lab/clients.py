"""Clients of other APIs, as their users set them up.

`docs/clients.md` prints these lines, and `tests/live/test_dialect_clients.py` runs them.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lab.server import ROOT

SOURCE = Path(__file__).with_name("clients.toml")
LOCKS = {
    "clients": ROOT / "requirements" / "clients.txt",
    "dev": ROOT / "requirements" / "dev.txt",
    "npm": ROOT / "tests" / "live" / "javascript" / "package-lock.json",
    "examples": ROOT / "examples" / "javascript" / "package-lock.json",
}


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        name: for readers.
        api: whose API it speaks.
        package: in its registry.
        lock: which of LOCKS has its version; "npm" and "examples" are JavaScript.
        lines: of a program in which `url`, `token` and `text` exist.
        vector: an expression of the text's vector after those lines.
    """

    name: str
    api: str
    package: str
    lock: str
    lines: tuple[str, ...]
    vector: str

    @property
    def version(self) -> str:
        """The version that is locked, which is the one tested."""
        return _locked(LOCKS[self.lock], self.package)


def _locked(lock: Path, package: str) -> str:
    name = re.escape(package)
    pattern = (
        rf'"node_modules/{name}": {{\s+"version": "([^"]+)"'
        if lock.suffix == ".json"
        else rf"(?m)^{name}==([^ ;\\]+)"
    )
    found = re.search(pattern, lock.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{package} is not in {lock.relative_to(ROOT)}: run `make lock`")
    return found[1]


def _read(fields: dict[str, str]) -> Client:
    return Client(**fields | {"lines": tuple(fields["lines"].splitlines())})  # type: ignore[arg-type]


CLIENTS = tuple(map(_read, tomllib.loads(SOURCE.read_text(encoding="utf-8"))["client"]))
