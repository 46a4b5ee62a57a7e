"""Batches by OpenAI's unmodified client: calls that several test files make."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import openai
from openai.types import Batch

from auth.service_key_format import new_key
from lab.server import Server, token
from tests.live.client_texts import MODEL

FILE_BYTES = 3_000_000
LIMITED = new_key()  # may spend 100 tokens a day
KEYS = f"limited:{hashlib.sha256(LIMITED.encode()).hexdigest()}:requests=none:tokens=100"
WINDOW: Any = "24h"
#: Settings of a server with batches, besides its directory.
BATCHING = {
    "MODEL_QUANTIZATION": "fp32",
    "BATCH_FILE_BYTES": str(FILE_BYTES),
    "BATCH_BYTES_PER_USER": "40000000",
    "BATCH_TOKENS_PER_DAY": "1000000",
    "SERVICE_KEYS": KEYS,
}


def client_of(server: Server, user: str | None = None, *, key: str | None = None) -> openai.OpenAI:
    bearer = key or token(user or str(uuid.uuid4()))
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=bearer, max_retries=0)


def line(custom_id: str, text: Any, **options: Any) -> bytes:
    body = {"model": MODEL, "input": text, **options}
    fields = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(fields).encode() + b"\n"


def begun(client: openai.OpenAI, content: bytes, window: str = WINDOW, **more: Any) -> Batch:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/embeddings",
        completion_window=window,  # type: ignore[arg-type]
        **more,
    )


def when(client: openai.OpenAI, batch: Batch, holds: Callable[[Batch], bool]) -> Batch:
    deadline = time.monotonic() + 60
    while not holds(batch):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    ends = ("completed", "failed", "expired", "cancelled")
    return when(client, batch, lambda now: now.status in ends)


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def told(client: openai.OpenAI, batch: Batch) -> list[str]:
    """custom_ids of the answers and errors of a batch."""
    found = (batch.output_file_id, batch.error_file_id)
    return [line["custom_id"] for file_id in found for line in lines_of(client, file_id)]
