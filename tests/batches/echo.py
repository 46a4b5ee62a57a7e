"""An answerer whose answers are known beforehand, and a store to run it on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from batches.answering import Answered, LineTokens
from batches.directory import Directory
from batches.errors import LineFault, NotNow
from batches.records import Batch, StoredFile
from batches.space import Space
from batches.store import Store
from batches.work import Work
from quota.errors import QuotaExceeded
from quota.memory import MemoryQuota
from quota.receipt import Limits

ENDPOINT = "/v1/embeddings"
MB = 1_000_000


class Echo:
    """Answers `{"input": TEXT}` with TEXT, at one token per character; "bad" is an error of 422."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.busy = 0  # so many requests are told to come back
        self.full: set[str] = set()  # texts that find the queue full after they were charged

    async def decode(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise LineFault("invalid_json_line", "not JSON") from None

    def n_texts(self, body: Mapping[str, Any]) -> int:
        return int(body.get("n_texts", 1))

    def most_bytes(self, body: Mapping[str, Any]) -> int:
        return 1_000

    async def answer(
        self, body: Mapping[str, Any], *, user_id: str, caller: str, tokens: LineTokens
    ) -> Answered:
        text = body["input"]
        if self.busy:
            self.busy -= 1
            raise NotNow(0.001)
        if text == "bad":
            return Answered(422, "r", partial(_json, {"error": {"message": "bad"}}))
        try:
            await tokens.spend(tokens.receipt, tokens=len(text))
        except QuotaExceeded as refused:
            raise NotNow(refused.retry_after, spent=True) from None
        await asyncio.sleep(0)
        if text in self.full:
            await tokens.refund_all()
            raise NotNow(0.001)
        self.answered.append(text)
        return Answered(200, "r", partial(_json, {"text": text}), prompt_tokens=len(text))


def _json(body: Mapping[str, Any]) -> Iterator[bytes]:
    yield json.dumps(body).encode()


def make_quota(per_day: int | None = None, clock: Callable[[], float] | None = None) -> MemoryQuota:
    limits = Limits(requests=None, window=60.0, tokens_per_day=per_day)
    return MemoryQuota(limits) if clock is None else MemoryQuota(limits, clock=clock)


def make_store(path: Path, clock: Callable[[], float], **changes: Any) -> Store:
    bounds = {"total": 100 * MB, "per_user": 50 * MB} | changes
    space = Space(total=bounds["total"], per_user=bounds["per_user"])
    return Store(Directory(path), space, max_file_bytes=MB, retention=3_600, clock=clock)


def make_work(
    store: Store,
    answerer: Echo,
    quota: MemoryQuota,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> Work:
    return Work(
        store,
        answerer,
        quota,
        longest_body=10_000,
        stopping=stopping,
        report=lambda batch, before: None,
    )


def lines_of(*texts: str) -> bytes:
    """An input file with one request for each text; the custom_id is its place."""
    return b"".join(map(line_of, map(str, range(len(texts))), texts))


def line_of(custom_id: str, text: str, **changes: Any) -> bytes:
    fields = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": {"input": text}}
    return json.dumps(fields | changes).encode() + b"\n"


async def uploaded(store: Store, content: bytes, *, user: str = "anna") -> StoredFile:
    upload = await store.files.upload(user)
    try:
        await upload.write(content)
        return await upload.complete(
            filename="in.jsonl",
            purpose="batch",
            created_at=int(store.clock()),
            expires_at=store.expiry(),
        )
    finally:
        upload.discard()


async def created(
    store: Store, content: bytes, *, user: str = "anna", seconds: int = 86_400
) -> Batch:
    file = await uploaded(store, content, user=user)
    return await store.create(
        file, caller="user", endpoint=ENDPOINT, window="24h", seconds=seconds, metadata=None
    )


async def finished(work: Work, batch: Batch, *, turns: int = 10_000) -> Batch:
    """The batch after as many turns as it takes."""
    for _ in range(turns):
        if batch.finished:
            return batch
        await work.step(batch)
    raise AssertionError(f"not finished after {turns} turns: {batch}")


def content_of(store: Store, batch: Batch, file_id: str) -> list[dict[str, Any]]:
    """The lines of a file that a batch has written; none if it has none."""
    files = {file.id for file in store.files.of(batch.user_id)}
    if file_id not in files:
        return []
    content = store.directory.content(file_id).read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def outcome(store: Store, batch: Batch) -> dict[str, str]:
    """custom_id -> what became of it, after a check that each is told of once."""
    answers = content_of(store, batch, batch.output_file_id)
    errors = content_of(store, batch, batch.error_file_id)
    told: dict[str, str] = {}
    for line in (*answers, *errors):
        assert line["custom_id"] not in told
        response = line["response"]
        told[line["custom_id"]] = (
            line["error"]["code"]
            if response is None
            else response["body"].get("text", response["status_code"])
        )
    return told
