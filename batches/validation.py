"""Checks an input file before any of its requests is answered."""

from __future__ import annotations

from hashlib import blake2b

from batches.answering import Answerer
from batches.errors import LineFault
from batches.lines import Line
from batches.records import Problem
from batches.requests import BatchRequest, request_of

MAX_REQUESTS = 50_000  # of one batch, as at OpenAI
MAX_PROBLEMS = 50  # that are told of one batch
_LINE = 256  # bytes of an output line without custom_id and body
_ESCAPED = 6  # bytes of a character of custom_id, at most


class Validation:
    """What the lines so far have and lack.

    Attributes:
        problems: why the batch cannot be run.
        total: its requests.
        most_bytes: that its answers may take.
        model: that its first request names.
    """

    def __init__(self, answerer: Answerer, *, endpoint: str, longest: int) -> None:
        self._answerer = answerer
        self._endpoint = endpoint
        self._longest = longest
        self._seen: set[bytes] = set()
        self.problems: list[Problem] = []
        self.total = self.most_bytes = 0
        self.model: str | None = None

    @property
    def full(self) -> bool:
        """Whether enough is wrong to stop."""
        return len(self.problems) >= MAX_PROBLEMS or self.total > MAX_REQUESTS

    async def take(self, line: Line) -> None:
        """Check the next line."""
        if not line.content and not line.too_long:
            return
        self.total += 1
        try:
            request = await self._request(line)
        except LineFault as fault:
            self.problems.append(Problem(fault.code, str(fault), fault.param, line.number))
            return
        around = _LINE + _ESCAPED * len(request.custom_id)
        self.most_bytes += around + self._answerer.most_bytes(request.body)
        name = request.body.get("model")
        if self.model is None and isinstance(name, str):
            self.model = name[:256]

    def end(self) -> None:
        """Check what only the whole file shows."""
        if not self.total:
            self.problems.append(Problem("empty_file", "The input file has no request."))
        elif self.total > MAX_REQUESTS:
            message = f"The input file has more than {MAX_REQUESTS} requests. Split it."
            self.problems.append(Problem("too_many_tasks", message))

    async def _request(self, line: Line) -> BatchRequest:
        if line.too_long:
            raise LineFault(
                "line_too_large",
                f"This line is longer than {self._longest} bytes. Send fewer texts in it.",
            )
        fields = await self._answerer.decode(line.content)
        request = request_of(fields, endpoint=self._endpoint)
        mark = blake2b(request.custom_id.encode(), digest_size=16).digest()
        if mark in self._seen:
            raise LineFault(
                "duplicate_custom_id",
                f"custom_id: {request.custom_id[:64]!r} is that of an earlier line. Change one.",
                param="custom_id",
            )
        self._seen.add(mark)
        return request
