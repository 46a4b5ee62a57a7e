"""The log: one JSON object per line.

No client can forge a line, and no line holds a text, a token or a raw path.
"""

import logging
import sys
import traceback
from http import HTTPStatus
from typing import Any

import orjson

from api.edge import RequestRecord
from api.errors import INTERNAL, spec_of
from embedder.errors import ModelLoadingError

LOG = logging.getLogger("embedding_api")


class JsonLine(logging.Formatter):
    """Time, level, message and the fields of `extra={"fields": ...}`; JSON escapes line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line of JSON."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return orjson.dumps(line).decode()


class TextLine(logging.Formatter):
    """The same for people: `time LEVEL message name=value ...`, with values as JSON on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as one line of text."""
        fields = [
            f"{name}={orjson.dumps(value).decode()}"
            for name, value in getattr(record, "fields", {}).items()
            if value is not None
        ]
        message = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        return " ".join([self.formatTime(record, "%H:%M:%S"), record.levelname, message, *fields])


FORMATS: dict[str, type[logging.Formatter]] = {"json": JsonLine, "text": TextLine}


def configure_log(log_format: str) -> None:
    """Write the project's own lines to standard output as `json` or `text`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(FORMATS[log_format]())
    for name in ("embedding_api", "auth", "gate", "quota"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def write_request(record: RequestRecord) -> None:
    """Write one line per request, except for GETs answered 200 or while the model is loading.

    An unexpected error adds its type and where it was raised, without any values.
    """
    as_expected = record.status == HTTPStatus.OK or record.reason == ModelLoadingError.reason
    if record.method in ("GET", "HEAD") and as_expected:
        return
    fields: dict[str, Any] = {
        "request_id": record.request_id,
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "ms": round(record.seconds * 1000, 2),
        "tokens": record.tokens,
        "caller": record.caller,
        "user": record.user,
        "reason": record.reason,
    }
    if record.error is not None and spec_of(record.error) is INTERNAL:
        fields["error"] = type(record.error).__name__
        frames = traceback.extract_tb(record.error.__traceback__)
        fields["at"] = [f"{frame.name} {frame.filename}:{frame.lineno}" for frame in frames]
    LOG.info("request", extra={"fields": fields})
