"""Bounds on what one connection may cost, and the errors of requests beyond them."""

import resource

import httptools

from errors import GateError
from gate.errors import BadHeader, BodyTimeout

PIECE = 16_384  # bytes that are parsed between two checks of the bounds
LARGE_PIECE = 65_536  # the same within a body
READS_PER_TURN = 8  # of up to LARGE_PIECE bytes, on all connections together
MAX_OVERHEAD = 32_768  # bytes of a head; of a body's framing, on top of as many as its content
MAX_HEADER_LINES = 128
MAX_URL_BYTES = 8_192
MAX_PIPELINED = 16  # requests that wait behind the one being answered
MAX_CONNECTIONS = 4_096  # 7 to 40 KB each; beyond it the one that has waited longest is closed
MAX_WAITING_BYTES = 16_777_216  # of heads that are not complete, on all connections
MAX_HELD_BYTES = 67_108_864  # that connections of one user have read, waiting for their turn
HEAD_TIMEOUT = 10.0  # seconds from the first byte of a head to its last
UNSENT = 65_536  # bytes of an answer that the kernel buffers; its default is 4 MB


def connections_allowed() -> int:
    """At most MAX_CONNECTIONS, and half of the files that this process may open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)


class TooManyPipelinedError(Exception):
    """Too many requests are pipelined; the client sends the rest again (RFC 9112 §9.3.2)."""


def reason_of_parser(error: httptools.HttpParserError) -> GateError | None:
    """The error of a request that the parser refused; None if the requests so far were good."""
    cause = error.__context__
    if isinstance(cause, TooManyPipelinedError):
        return None
    return cause if isinstance(cause, GateError) else not_http()


def not_http() -> BadHeader:
    """The request cannot be parsed."""
    return BadHeader("This is not a request of HTTP/1.1. Send one.", reason="not_http")


def bad_framing() -> BadHeader:
    """A body in tiny chunks, with extensions or trailers."""
    return BadHeader(
        "The body has more framing than content. Send it in larger chunks, without extensions or "
        "trailers.",
        reason="bad_framing",
    )


def late_head() -> BodyTimeout:
    """A head that took longer than HEAD_TIMEOUT."""
    return BodyTimeout(
        f"The head of the request did not arrive within {HEAD_TIMEOUT:g} seconds. Send it at once.",
        reason="head_timeout",
    )


def offers_upgrade() -> BadHeader:
    """A request with a body and Upgrade."""
    return BadHeader(
        "This server speaks HTTP/1.1 only. Send the request without Upgrade "
        "(in Java: HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)).",
        reason="upgrade",
    )
