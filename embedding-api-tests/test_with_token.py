"""Call a running service with a token, and check what it answers.

    export JWT_TOKEN=...
    python test_with_token.py [http://127.0.0.1:8000]

Needs Python alone. Spends 5 requests of the user's limit, and waits when those of a minute are
spent. Prints one line per check, and ends with status 1 if one failed.
"""

import json
import math
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT = 60  # seconds
URL = "http://127.0.0.1:8000"
TEXTS = ("첫 번째", "두 번째", "세 번째")
OK, UNAUTHORIZED, INVALID, LIMITED = 200, 401, 422, 429
MINUTE = 60  # seconds; a refusal that asks for a longer wait is the answer


@dataclass(frozen=True)
class Answer:
    """Status, headers, and the JSON of the body."""

    status: int
    headers: Any
    body: Any


@dataclass(frozen=True)
class Service:
    """A service, and the token that it is called with; None for no token."""

    url: str
    token: str | None

    def call(self, path: str, body: object = None) -> Answer:
        """GET, or POST with a body; waits once if the requests of a minute are spent."""
        answer = self._call(path, body)
        wait = int(answer.headers.get("Retry-After", 0)) if answer.status == LIMITED else 0
        if not 0 < wait <= MINUTE:
            return answer
        print(f"The limit of requests is reached: waiting {wait} s.", file=sys.stderr)
        time.sleep(wait)
        return self._call(path, body)

    def _call(self, path: str, body: object) -> Answer:
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return Answer(answer.status, answer.headers, json.load(answer))
        except urllib.error.HTTPError as refusal:
            return Answer(refusal.code, refusal.headers, json.load(refusal))


def expect(what: str, found: object, expected: object) -> None:
    """Raises AssertionError if they differ."""
    if found != expected:
        raise AssertionError(f"{what} is {found!r} instead of {expected!r}")


def expect_unit_vector(vector: Sequence[float]) -> None:
    """Raises AssertionError if its length is not 1."""
    length = math.sqrt(math.fsum(value * value for value in vector))
    if not math.isclose(length, 1, abs_tol=1e-3):
        raise AssertionError(f"a vector has the length {length}")


def embed(service: Service, text: str) -> list[float]:
    """The vector of one text."""
    answer = service.call("/embed", {"text": text})
    expect("the status", answer.status, OK)
    vector: list[float] = answer.body["embedding"]
    return vector


def the_service_is_well(service: Service) -> None:
    """GET /health."""
    answer = service.call("/health")
    expect("the status", answer.status, OK)
    expect("the state", answer.body["status"], "ok")


def a_call_without_a_token_is_refused(service: Service) -> None:
    """POST /embed."""
    answer = Service(service.url, None).call("/embed", {"text": TEXTS[0]})
    expect("the status", answer.status, UNAUTHORIZED)


def one_text_has_a_unit_vector(service: Service) -> None:
    """POST /embed."""
    expect_unit_vector(embed(service, "안녕하세요, 반갑습니다!"))


def texts_have_the_vectors_that_they_have_alone(service: Service) -> None:
    """POST /batch-embed."""
    answer = service.call("/batch-embed", {"texts": TEXTS})
    expect("the status", answer.status, OK)
    vectors = answer.body["embeddings"]
    expect("the number of vectors", len(vectors), len(TEXTS))
    if vectors[0] != embed(service, TEXTS[0]):
        raise AssertionError("a text has another vector in a batch")


def a_body_without_a_text_is_refused(service: Service) -> None:
    """POST /embed."""
    expect("the status", service.call("/embed", {}).status, INVALID)


def the_limit_is_told(service: Service) -> None:
    """POST /embed."""
    answer = service.call("/embed", {"text": TEXTS[0]})
    expect("the status", answer.status, OK)
    if int(answer.headers["X-RateLimit-Remaining"]) >= int(answer.headers["X-RateLimit-Limit"]):
        raise AssertionError("the call was not counted")


CHECKS: tuple[Callable[[Service], None], ...] = (
    the_service_is_well,
    a_call_without_a_token_is_refused,
    one_text_has_a_unit_vector,
    texts_have_the_vectors_that_they_have_alone,
    a_body_without_a_text_is_refused,
    the_limit_is_told,
)


def main(arguments: Sequence[str]) -> int:
    """Run every check; returns an exit status."""
    token = os.environ.get("JWT_TOKEN")
    if not token:
        sys.exit("set JWT_TOKEN to an access token: ./get_token.sh prints one")
    service = Service(arguments[0] if arguments else URL, token)
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check(service)
            print(f"ok   {name}")
        except (AssertionError, OSError, ValueError, KeyError) as error:
            failed += 1
            print(f"FAIL {name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
