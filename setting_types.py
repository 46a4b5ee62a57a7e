"""Types of settings that are text: their form, and the message for any other."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, IPvAnyAddress

_ALIAS = re.compile(r"[\w.:/-]{1,256}(=[\w-]+)?", re.ASCII)
_REDIS = re.compile(
    r"(rediss?://([^/?#\s]*@)?(\[[\da-fA-F:.]+\]|[^/?#@:\s\[\]]+)(:\d+)?(/\d*)?|unix://[^?#\s]+)"
    r"(\?\w+=[^&#\s]*(&\w+=[^&#\s]*)*)?"
)


def _url(schemes: str) -> AfterValidator:
    pattern = re.compile(rf"({schemes})://[^\s/]+.*")

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"should look like {schemes.split('|')[0]}://host")
        return value.rstrip("/")

    return AfterValidator(check)


def _redis(value: str) -> str:
    """Refuses a password with / # or ?, which would be parsed as the end of the host."""
    if not _REDIS.fullmatch(value):
        raise ValueError(
            "should look like redis://user:password@host:6379/0; write / # ? and % of a password "
            "as %2F %23 %3F %25"
        )
    return value


def _without_path(value: str) -> str:
    """Refuses a URL with a path: those of key set and issuer are appended to it."""
    parts = urlsplit(value)
    if parts.path or parts.query or parts.fragment:
        host = parts.netloc.rpartition("@")[2]  # before it may be a password
        raise ValueError(f"should end after the host: {parts.scheme}://{host}")
    return value


def _aliases(value: str) -> str:
    if not all(_ALIAS.fullmatch(alias.strip()) for alias in value.split(",") if alias.strip()):
        raise ValueError("should be names separated by commas, each alone or as name=task")
    return value


def _absolute(value: Path) -> Path:
    """Refuses a path that depends on where the service was started."""
    if not value.is_absolute():
        raise ValueError("should be an absolute path")
    return value


def _localhost(value: object) -> object:
    return "127.0.0.1" if value == "localhost" else value


def _not_onnx(value: object) -> object:
    if value == "onnx":
        raise ValueError("the onnx backend was removed: use native, and run `make model`")
    return value


Url = Annotated[str, _url("https|http")]
UrlOfHost = Annotated[Url, AfterValidator(_without_path)]
RedisUrl = Annotated[str, AfterValidator(_redis)]
Aliases = Annotated[str, AfterValidator(_aliases)]
Directory = Annotated[Path, AfterValidator(_absolute)]
Address = Annotated[IPvAnyAddress, BeforeValidator(_localhost)]
Backend = Annotated[Literal["native", "torch"], BeforeValidator(_not_onnx)]
