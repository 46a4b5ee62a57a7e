"""The OpenAPI 3.1 document, made from the service's routes, the schemas and the table of errors."""

from collections import defaultdict
from typing import Any

from _bentoml_sdk import Service
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.errors import INTERNAL, KINDS
from api.schemas import ErrorResponse, HealthResponse, UsageResponse

_NEVER_HERE = {404, 405, 499}  # another path, another method, and what nobody is there to read
_REF = "#/components/schemas/{model}"
_PROBES = {
    "/livez": "Whether the process should be kept",
    "/readyz": "Whether requests may be sent here",
    "/healthz": "The same as /livez",
}


def document(service: Service, *, version: str) -> dict[str, Any]:
    """The whole document, as plain data."""
    apis = service.apis.values()
    models: list[type[BaseModel]] = [UsageResponse, HealthResponse, ErrorResponse]
    models += [spec for api in apis for spec in (api.input_spec, api.output_spec)]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.name,
            "version": version,
            "description": "Text embeddings. Send the access token of a signed-in Supabase user as the bearer token.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            **{api.route: {"post": _operation(api)} for api in sorted(apis, key=lambda api: len(api.route))},
            **_open_paths(),
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A Supabase access token: `session.access_token` after sign-in",
                }
            },
        },
    }


def _operation(api: Any) -> dict[str, Any]:
    return {
        "operationId": api.name,
        "summary": (api.doc or api.name).strip().splitlines()[0],
        "tags": ["embeddings"],
        "security": [{"bearer": []}],
        "requestBody": {"required": True, "content": _json(api.input_spec)},
        "responses": {"200": _response("The vectors", api.output_spec), **_errors()},
    }


def _open_paths() -> dict[str, Any]:
    probes = {path: _get(summary, {"200": {"description": "Yes"}, **_errors(503)}) for path, summary in _PROBES.items()}
    health = _get("What serves here", {"200": _response("Ready", HealthResponse), **_errors(503)})
    text = {
        "description": "Prometheus text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    usage = _get("The caller's limits and what is left", {"200": _response("Limits", UsageResponse), **_errors()})
    usage["get"]["security"] = [{"bearer": []}]
    return {"/usage": usage, "/health": health, **probes, "/metrics": _get("Metrics for Prometheus", {"200": text})}


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "tags": ["operation"], "security": [], "responses": responses}}


def _errors(*only: int) -> dict[str, Any]:
    """Every error status that a call of a path here can end in, or `only` those."""
    told = defaultdict(list)
    for kind in (*KINDS.values(), INTERNAL):
        if kind.status not in _NEVER_HERE and (not only or kind.status in only):
            told[kind.status].append(kind.description)
    return {str(status): _response("; ".join(dict.fromkeys(told[status])), ErrorResponse) for status in sorted(told)}


def _response(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, "content": _json(model)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
