"""The log: one JSON object a line, nothing in it that a client could forge or a reader should not see."""

import logging
import sys
import traceback
from typing import Any

import orjson

from api.edge import RequestRecord
from api.errors import INTERNAL, spec_of
from embedder.errors import ModelLoadingError

LOG = logging.getLogger("embedding_api")


class JsonLine(logging.Formatter):
    """Time, level, message and whatever was given as `extra={"fields": {...}}`; JSON escapes line breaks."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return orjson.dumps(line).decode()


class TextLine(logging.Formatter):
    """The same for people: `time LEVEL message name=value ...`, values as JSON, so still one line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = [
            f"{k}={orjson.dumps(v).decode()}"
            for k, v in getattr(record, "fields", {}).items()
            if v is not None
        ]
        message = record.getMessage().replace("\n", "\\n").replace("\r", "\\r")
        return " ".join([self.formatTime(record, "%H:%M:%S"), record.levelname, message, *fields])


FORMATS: dict[str, type[logging.Formatter]] = {"json": JsonLine, "text": TextLine}


def configure_log(log_format: str) -> None:
    """Send the project's own lines to standard output as `json` or `text`, past BentoML's formatter."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(FORMATS[log_format]())
    for name in ("embedding_api", "auth", "gate", "quota"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def write_request(record: RequestRecord) -> None:
    """One line per request, but none for a probe that found all well, or the model still loading.

    A fault of ours adds where it happened, without the values that were involved.
    """
    as_expected = record.status == 200 or record.reason == ModelLoadingError.reason
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
        fields["at"] = [
            f"{f.name} {f.filename}:{f.lineno}"
            for f in traceback.extract_tb(record.error.__traceback__)
        ]
    LOG.info("request", extra={"fields": fields})
