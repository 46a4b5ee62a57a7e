"""OpenAI's batches: files of requests that are answered when nothing more urgent waits."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request

from api.dialects.openai_answerer import ENDPOINT, EmbeddingsAnswerer
from api.dialects.openai_files import FileRoutes, listed, page_of
from api.options import Body, Limits
from api.routes import call
from batches.errors import NoSuchFileError
from batches.records import STATUSES, Batch, Problem
from request_state import state_of

LISTED = 20  # batches, unless the caller asks for more
LONGEST_WINDOW = 604_800  # seconds
_PATTERN = "^([1-9][0-9]{0,5})([smh])$"
_WINDOW = re.compile(_PATTERN, re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


def _window(value: str) -> str:
    """Raises ValueError for anything but a number of hours, minutes or seconds."""
    if not 0 < window_seconds(value) <= LONGEST_WINDOW:
        raise ValueError("send a time up to 168h, such as 24h, 90m or 30s")
    return value


def window_seconds(value: str) -> int:
    """The seconds of a completion window; 0 for anything else."""
    found = _WINDOW.fullmatch(value)
    return int(found[1]) * _SECONDS[found[2]] if found else 0


class ExpiresAfter(Body):
    """When the answers of a batch are deleted."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3_600, le=2_592_000)


class BatchBody(Body):
    """A batch to make. Other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    input_file_id: Annotated[str, Field(max_length=64)]
    endpoint: Literal["/v1/embeddings"]
    completion_window: Annotated[
        str, AfterValidator(_window), WithJsonSchema({"type": "string", "pattern": _PATTERN})
    ]
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    output_expires_after: ExpiresAfter | None = None


def batch_object(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI's clients read it."""
    progress = batch.progress
    problems = [*map(_problem, batch.problems)]
    shown = batch.finished
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id if shown and progress.output_bytes else None,
        "error_file_id": batch.error_file_id if shown and progress.error_bytes else None,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **{f"{status}_at": batch.times.get(status) for status in STATUSES[1:]},
        "request_counts": {
            "total": batch.total,
            "completed": progress.completed,
            "failed": progress.failed,
        },
        "usage": {
            "input_tokens": progress.prompt_tokens,
            "input_tokens_details": {"cached_tokens": progress.cached_tokens},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": progress.prompt_tokens,
        },
        "metadata": batch.metadata,
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
        "line": problem.line,
    }


class BatchRoutes(FileRoutes):
    """`/v1/batches`."""

    async def start_batches(self) -> None:
        """Open the directory of batches, if there is one, and run what is in it."""
        if self.batches is not None:
            limits = Limits(self.model_info.max_texts)
            await self.batches.start(EmbeddingsAnswerer(self, limits))

    @call("POST", "/v1/batches", body=BatchBody)
    async def create_batch(self, request: Request, body: BatchBody) -> dict[str, Any]:
        """Have the requests of a file answered within a time."""
        state = state_of(request.scope)
        try:
            file = self.store.files.get(state.user_id, body.input_file_id)
        except NoSuchFileError as error:
            error.param = "input_file_id"
            raise
        kept = body.output_expires_after
        batch = await self.store.create(
            file,
            caller=state.caller or "",
            endpoint=ENDPOINT,
            window=body.completion_window,
            seconds=window_seconds(body.completion_window),
            metadata=body.metadata,
            kept_seconds=kept and kept.seconds,
        )
        return self._changed(batch)

    @call("GET", "/v1/batches")
    async def list_batches(self, request: Request) -> dict[str, Any]:
        """The caller's batches, the newest first."""
        batches = self.store.of(state_of(request.scope).user_id)[::-1]
        page, has_more = page_of(batches, request, default=LISTED)
        return await listed(request, page, batch_object, has_more=has_more)

    @call("GET", "/v1/batches/{batch_id}")
    async def retrieve_batch(self, request: Request) -> dict[str, Any]:
        """One batch: how far it is, and where its answers are."""
        return batch_object(self._batch(request))

    @call("POST", "/v1/batches/{batch_id}/cancel")
    async def cancel_batch(self, request: Request) -> dict[str, Any]:
        """End a batch; what was answered is kept."""
        batch = self._batch(request)
        await self.store.cancel(batch)
        return self._changed(batch)

    def _changed(self, batch: Batch) -> dict[str, Any]:
        if self.batches is not None:
            self.batches.schedule(batch)
        return batch_object(batch)

    def _batch(self, request: Request) -> Batch:
        """The batch that the path names. Raises NoSuchBatchError."""
        batch_id = request.scope["path"].split("/")[3]
        return self.store.get(state_of(request.scope).user_id, batch_id)
