"""A request as the edge records it, for the tests of the log and of the metrics."""

from api.edge import RequestRecord


def request_record(**changes: object) -> RequestRecord:
    """A POST of a user that was served, but for `changes`."""
    fields = {
        "request_id": "r",
        "method": "POST",
        "route": "/recorded",
        "status": 200,
        "seconds": 0.00123,
        "tokens": 3,
        "caller": "user",
        "user": "u",
        "reason": None,
        "error": None,
    }
    return RequestRecord(**(fields | changes))  # type: ignore[arg-type]
