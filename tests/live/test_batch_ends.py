"""How batches end, on the real service: killed, cancelled, expired, out of tokens."""

import signal
import time
import uuid

import openai
import pytest
from openai.types import Batch

from lab.redis_server import RedisServer
from lab.server import Server
from tests.live.batch_calls import (
    LIMITED,
    begun,
    client_of,
    ended,
    line,
    lines_of,
    told,
    when,
)
from tests.live.test_lifecycle import wait_for_another_than, worker

MANY_LINES = 600
MANY = b"".join(line(str(number), f"word word {number} " * 8) for number in range(MANY_LINES))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_loses_no_request_and_answers_none_twice(
    batching: Server, batch_redis: RedisServer, number: signal.Signals
) -> None:
    user = str(uuid.uuid4())
    client = client_of(batching, user)
    batch = begun(client, MANY)
    batch = when(client, batch, lambda now: counts(now) > 0)
    assert batch.status == "in_progress"
    gone = worker(batching)
    gone.send_signal(number)
    wait_for_another_than(gone, batching, 60)
    batching.wait_until_ready()
    done = ended(client, batch)
    assert done.status == "completed"
    assert told(client, done) == [str(number) for number in range(MANY_LINES)]
    assert done.usage is not None
    used = tokens_of(batch_redis, user)
    assert used <= done.usage.input_tokens
    assert used > done.usage.input_tokens * (0.8 if number == signal.SIGKILL else 0.999)


def counts(batch: Batch) -> int:
    return batch.request_counts.completed if batch.request_counts else 0


def tokens_of(redis_server: RedisServer, user: str) -> int:
    """What Redis has charged to the batches of a user."""
    answer = redis_server.command("HGET", f"quota:batches:{{{user}}}:tokens", "used")
    return int(answer.split(b"\r\n")[1])


def test_a_cancelled_batch_keeps_its_answers(batching: Server) -> None:
    client = client_of(batching)
    batch = when(client, begun(client, MANY), lambda now: counts(now) > 0)
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch)
    assert done.status == "cancelled"
    answers = lines_of(client, done.output_file_id)
    errors = lines_of(client, done.error_file_id)
    assert 0 < len(answers) < MANY_LINES
    assert len(told(client, done)) == MANY_LINES == len(set(told(client, done)))
    assert {error["error"]["code"] for error in errors} == {"batch_cancelled"}
    with pytest.raises(openai.BadRequestError):
        client.batches.cancel(batch.id)


def test_a_batch_that_takes_longer_than_its_window_expires(batching: Server) -> None:
    client = client_of(batching)
    done = ended(client, begun(client, MANY, window="1s"))
    assert done.status == "expired"
    assert done.expired_at is not None
    assert len(told(client, done)) == MANY_LINES == len(set(told(client, done)))
    errors = lines_of(client, done.error_file_id)
    assert {error["error"]["code"] for error in errors} == {"batch_expired"}


def test_tokens_of_batches_are_counted_apart_and_a_batch_waits_for_more(batching: Server) -> None:
    client = client_of(batching, key=LIMITED)
    content = b"".join(line(str(number), f"word {number}") for number in range(40))
    batch = begun(client, content)
    batch = when(client, batch, lambda now: counts(now) > 0)
    time.sleep(0.5)
    waiting = client.batches.retrieve(batch.id)
    assert waiting.status == "in_progress"
    assert waiting.usage is not None
    assert 90 < waiting.usage.input_tokens <= 100
    with batching.client(LIMITED) as caller:
        usage = caller.get("/usage").json()
    assert (usage["tokens"]["limit"], usage["tokens"]["remaining"]) == (100, 100)
    of_batches = usage["batch_tokens"]
    assert (of_batches["limit"], of_batches["remaining"]) == (100, 100 - waiting.usage.input_tokens)
    client.batches.cancel(batch.id)
    assert ended(client, batch).status == "cancelled"
