"""The part of the OpenAPI document about files and batches."""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from api.routes import Page

MOST = 10_000  # that a client may ask for at once
_REF = "#/components/schemas/{model}"
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "JSON lines"},
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
    },
}
_PAGING = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MOST}},
    {"name": "after", "in": "query", "schema": {"type": "string"}},
]


def batch_paths(pages: Iterable[Page], *, errors: dict[str, Any]) -> dict[str, Any]:
    """The paths of charged pages.

    Args:
        pages: of a service.
        errors: the responses that every one of them may end in.
    """
    paths: dict[str, Any] = {}
    for page in pages:
        if page.charged:
            operation = _operation(page, errors)
            paths.setdefault(page.path, {})[page.verb.lower()] = operation
    return paths


def batch_bodies(pages: Iterable[Page]) -> list[type[BaseModel]]:
    """What charged pages take as JSON."""
    return [page.body for page in pages if page.charged and page.body is not None]


def _operation(page: Page, errors: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", page.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    if page.verb == "GET" and not names:
        parameters += _PAGING
    media = "application/jsonl" if page.path.endswith("/content") else "application/json"
    operation: dict[str, Any] = {
        "operationId": page.method,
        "summary": page.summary,
        "tags": ["batches"],
        "security": [{"bearer": []}],
        "parameters": parameters,
        "responses": {"200": {"description": "Done", "content": {media: {"schema": {}}}}, **errors},
    }
    if page.form:
        content: dict[str, Any] = {"multipart/form-data": {"schema": _FORM}}
        operation["requestBody"] = {"required": True, "content": content}
    elif page.body is not None:
        reference = {"$ref": _REF.format(model=page.body.__name__)}
        content = {"application/json": {"schema": reference}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
