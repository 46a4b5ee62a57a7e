"""OpenAI's files, for the inputs and outputs of batches."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dialects.openai import OpenAIRoutes
from api.disconnect import unless_gone
from api.errors import InvalidBodyError
from api.forms import Form, FormReader
from api.routes import call
from api.turns import Turns
from batches.batches import Batches
from batches.errors import BatchesOffError, NoSuchFileError
from batches.records import INPUT, Batch, StoredFile
from batches.store import Store
from request_state import state_of

SLICES_PER_TURN = 1
MOST_LISTED = 1_000
_SOONEST, _LATEST = 3_600, 2_592_000  # seconds of expires_after, as at OpenAI
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_RANGE = re.compile(r"bytes=(?=[0-9-]*[0-9])([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_JSONL = "application/jsonl"
Item = TypeVar("Item", StoredFile, Batch)


def file_object(file: StoredFile) -> dict[str, Any]:
    """A file as OpenAI's clients read it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.n_bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def number_of(value: str | None, *, name: str, default: int, least: int, most: int) -> int:
    """A whole number of a query or a form. Raises InvalidBodyError."""
    if value is None or value == "":
        return default
    number = int(value) if _NUMBER.fullmatch(value) else -1
    if not least <= number <= most:
        raise InvalidBodyError(f"{name}: send a number from {least} to {most}.", param=name)
    return number


def page_of(items: list[Item], request: Request, *, default: int) -> tuple[list[Item], bool]:
    """The items behind `after` in a query, at most `limit`; and whether there are more."""
    limit = number_of(
        request.query_params.get("limit"), name="limit", default=default, least=1, most=10_000
    )
    after = request.query_params.get("after")
    start = 0
    if after:
        places = (place for place, item in enumerate(items) if item.id == after)
        start = next(places, len(items)) + 1
    end = start + min(limit, MOST_LISTED)
    return items[start:end], end < len(items)


async def listed(
    request: Request,
    page: list[Item],
    form: Callable[[Item], dict[str, Any]],
    *,
    has_more: bool,
) -> dict[str, Any]:
    """A page of a list as OpenAI's clients read it; it is sent in pieces, and may take megabytes.

    Args:
        request: that asks for it, and has no body. From now on `receive` tells when it is left.
        page: the items.
        form: of one item in the answer.
        has_more: whether there are items behind.
    """
    await request.body()
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return {
        "object": "list",
        "data": map(form, page),
        "first_id": first,
        "last_id": last,
        "has_more": has_more,
    }


class FileRoutes(OpenAIRoutes):
    """`/v1/files`."""

    batches: Batches | None
    _slices = Turns(SLICES_PER_TURN)

    @property
    def store(self) -> Store:
        """Files and batches. Raises BatchesOffError."""
        if self.batches is None:
            raise BatchesOffError
        return self.batches.store

    @call("POST", "/v1/files", form=True)
    async def upload_file(self, request: Request) -> dict[str, Any]:
        """Upload the requests of a batch, as JSON lines."""
        user_id = state_of(request.scope).user_id
        turn = partial(self._slices.wait, user=user_id)
        reader = FormReader(request, file="file", turn=turn)
        try:
            return file_object(await self._upload(reader, user_id))
        except BaseException:
            await reader.drain()
            raise

    async def _upload(self, reader: FormReader, user_id: str) -> StoredFile:
        upload = await self.store.files.upload(user_id)
        try:
            form = await reader.read(upload.write)
            seconds = _checked(form)
            return await upload.complete(
                filename=form.filename or "",
                purpose=INPUT,
                created_at=int(self.store.clock()),
                expires_at=self.store.expiry(seconds),
            )
        finally:
            upload.discard()

    @call("GET", "/v1/files")
    async def list_files(self, request: Request) -> dict[str, Any]:
        """The caller's files of batches, the newest first."""
        query = request.query_params
        files = self.store.files.of(state_of(request.scope).user_id)
        if query.get("order") != "asc":
            files.reverse()
        if purpose := query.get("purpose"):
            files = [file for file in files if file.purpose == purpose]
        page, has_more = page_of(files, request, default=MOST_LISTED)
        return await listed(request, page, file_object, has_more=has_more)

    @call("GET", "/v1/files/{file_id}")
    async def retrieve_file(self, request: Request) -> dict[str, Any]:
        """One file: its size, and when it will be deleted."""
        return file_object(self._file(request))

    @call("DELETE", "/v1/files/{file_id}")
    async def delete_file(self, request: Request) -> dict[str, Any]:
        """Delete a file."""
        file = self._file(request)
        await self.store.delete(file)
        return {"id": file.id, "object": "file", "deleted": True}

    @call("GET", "/v1/files/{file_id}/content")
    async def file_content(self, request: Request) -> ASGIApp:
        """The content of a file: requests, answers or errors, as JSON lines."""
        file = self._file(request)
        await request.body()  # there is none; from now on `receive` tells that the client has left
        if not self.store.directory.content(file.id).is_file():
            raise NoSuchFileError(file.id)

        async def sent(scope: Scope, receive: Receive, send: Send) -> None:
            with self.store.files.reading(file) as path:
                answer = FileResponse(path, media_type=_JSONL, filename=f"{file.id}.jsonl")
                await unless_gone(answer(_one_range(scope), receive, send), receive)

        return sent

    def _file(self, request: Request) -> StoredFile:
        """The file that the path names. Raises NoSuchFileError."""
        file_id = request.scope["path"].split("/")[3]
        return self.store.files.get(state_of(request.scope).user_id, file_id)


def _one_range(scope: Scope) -> Scope:
    """A scope without a Range that is malformed or has several parts; RFC 9110 lets us ignore it.

    Starlette would answer it with 400 in a form of its own.
    """
    asked = Headers(scope=scope).getlist("range")
    found = _RANGE.fullmatch(asked[0]) if len(asked) == 1 else None
    if found and not (found[1] and found[2] and int(found[1]) > int(found[2])):
        return scope
    return {**scope, "headers": [line for line in scope["headers"] if line[0] != b"range"]}


def _checked(form: Form) -> int | None:
    """The seconds that a form asks a file to be kept; None if it does not say.

    Raises:
        InvalidBodyError: a field says something that is not done here.
    """
    fields = {name: bytes(value).decode(errors="replace") for name, value in form.fields.items()}
    if fields.get("purpose") != INPUT:
        raise InvalidBodyError("purpose: files are for batches here. Send batch.", param="purpose")
    if fields.get("expires_after[anchor]", "created_at") != "created_at":
        raise InvalidBodyError(
            "expires_after[anchor]: send created_at.", param="expires_after[anchor]"
        )
    name = "expires_after[seconds]"
    if name not in fields:
        return None
    return number_of(fields[name], name=name, default=_LATEST, least=_SOONEST, most=_LATEST)
