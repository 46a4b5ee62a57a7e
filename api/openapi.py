"""The OpenAPI 3.1 document, made from the routes, the schemas and the table of errors."""

from collections import defaultdict
from typing import Any

from _bentoml_sdk import Service
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.dialects.native import ErrorResponse
from api.dialects.openai import ModelCard, ModelsResponse
from api.error_forms import error_form
from api.errors import ERRORS, INTERNAL, MalformedFormError
from api.model_info import ModelInfo
from api.openapi_batches import batch_bodies, batch_paths
from api.options import MOST_TEXTS, Limits
from api.routes import Page, marked_pages
from api.status import HealthResponse, UsageResponse
from batches.errors import BatchError

_NEVER_SENT = {405, 499}  # of another method, and to clients that have left
_REF = "#/components/schemas/{model}"
_BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "An access token: `session.access_token` of a user who has signed in to "
    "Supabase, or, on the machine that serves, what `make token` prints. Machines send a service "
    "key, here or in the header `apikey`",
}
_PAGE_MODELS: tuple[type[BaseModel], ...] = (
    UsageResponse,
    HealthResponse,
    ErrorResponse,
    ModelsResponse,
    ModelCard,
)
_PROBES = {
    "/livez": "Whether the process should be kept",
    "/readyz": "Whether requests may be sent here",
    "/healthz": "The same as /livez",
    "/tei/health": "The same as /readyz",
}
_NOT_MODIFIED = {"description": "As it was at the ETag of If-None-Match"}
_FINGERPRINT = {"description": "Names the vector space", "schema": {"type": "string"}}
_RETRY_AFTER = {
    "description": "Seconds to wait before the next try",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS = {
    200: {"X-Embedding-Fingerprint": _FINGERPRINT},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}


def document(
    service: Service,
    *,
    version: str,
    model_info: ModelInfo,
    limits: Limits,
    batches: bool = False,
) -> dict[str, Any]:
    """The whole document, as plain data; with `batches` their routes too."""
    pages = [*marked_pages(service.inner)] if batches else []
    of_batches = batch_paths(pages, errors=_errors(names_model=True, of_batches=True))
    apis = sorted(service.apis.values(), key=lambda api: len(api.route))
    paths = {api.route: {"post": _operation(api, model_info)} for api in apis}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.name,
            "version": version,
            "description": "Text embeddings. Send the access token of a signed-in Supabase user as "
            "the bearer token.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": _dialect_pages(service)
        | paths
        | of_batches
        | _models_paths(model_info)
        | _open_paths(),
        "components": {
            "schemas": _schemas(service, model_info, limits, batch_bodies(pages)),
            "securitySchemes": {"bearer": _SCHEME},
        },
    }


def _schemas(
    service: Service, model_info: ModelInfo, limits: Limits, more: list[type[BaseModel]]
) -> dict[str, Any]:
    """Every schema by its name, as narrow as the served model and the settings are."""
    models = [*_PAGE_MODELS, *more]
    for api in service.apis.values():
        models += [api.input_spec, api.output_spec, error_form(api.route).model]
    described = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    schemas = _narrowed(described[1]["$defs"], model_info)
    return {name: _required_first(_within(limits, schema)) for name, schema in schemas.items()}


def _narrowed(schemas: dict[str, Any], model_info: ModelInfo) -> dict[str, Any]:
    """All schemas, with those that depend on the model as narrow as it is."""
    narrow = {
        "Task": {"type": ["string", "null"], "enum": [*model_info.tasks, None]},
        "Dimensions": {"type": ["integer", "null"], "enum": [*model_info.dimensions, None]},
        "ModelName": {"type": "string", "enum": list(model_info.models)},
    }
    if not model_info.titles:
        narrow["Titles"] = _no_title(model_info.blank)
    return {
        name: _with_model(model_info.name, schema) for name, schema in (schemas | narrow).items()
    }


def _with_model(model: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose examples name the served model, if they have to name one."""
    if "examples" not in schema or "model" not in schema.get("required", ()):
        return schema
    return schema | {"examples": [{"model": model, **example} for example in schema["examples"]]}


def _within(limits: Limits, schema: Any) -> Any:
    """A schema whose lists have at most `limits.max_texts` items."""
    if isinstance(schema, list):
        return [_within(limits, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = {name: _within(limits, value) for name, value in schema.items()}
    if isinstance(schema.get("maxItems"), int):
        bounded["maxItems"] = min(schema["maxItems"], limits.max_texts)
    return bounded


def _no_title(blank: str) -> dict[str, Any]:
    """The schema of titles for a model without titles: null, and what counts as null."""
    nothing = {"type": ["string", "null"], "pattern": blank, "maxLength": 1000}
    return {
        "description": "This model's prompts have no place for a title",
        "anyOf": [nothing, {"type": "array", "items": nothing, "maxItems": MOST_TEXTS}],
    }


def _required_first(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its required fields first; pydantic begins with the inherited options."""
    required = schema.get("required", [])
    properties = dict(
        sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required)
    )
    return schema | ({"properties": properties} if properties else {})


def _operation(api: Any, model_info: ModelInfo) -> dict[str, Any]:
    names_model = "model" in api.input_spec.model_fields
    fingerprint = {
        "name": "If-Fingerprint",
        "in": "header",
        "description": "The vector space of your index; 409 if another one is served here",
        "schema": {"type": "string", "enum": [model_info.fingerprint]},
    }
    return {
        "operationId": api.name,
        "summary": (api.doc or api.name).strip().splitlines()[0],
        "tags": ["embeddings"],
        "security": _BEARER,
        "parameters": [fingerprint],
        "requestBody": {"required": True, "content": _json(api.input_spec)},
        "responses": {
            "200": _response(200, "Done", api.output_spec),
            **_errors(names_model=names_model, path=api.route),
        },
    }


def _dialect_pages(service: Service) -> dict[str, Any]:
    """The protected pages that no other function here describes in more detail."""
    return {
        page.path: _dialect_page(page)
        for page in marked_pages(service.inner)
        if page.protected and "{" not in page.path and not page.charged
    }


def _dialect_page(page: Page) -> dict[str, Any]:
    answer = {"description": "JSON", "content": {"application/json": {"schema": {}}}}
    described = _get(page.summary, {"200": answer, **_errors(path=page.path)})
    described["get"] |= {"security": _BEARER, "tags": ["embeddings"]}
    if page.fixed:
        described["get"]["responses"]["304"] = _NOT_MODIFIED
    return described


def _models_paths(model_info: ModelInfo) -> dict[str, Any]:
    """The paths of the list of models and of one model."""
    every = _get(
        "The model that serves here, by all its names",
        {"200": _response(200, "Models", ModelsResponse)},
    )
    one = _get("One name of the model", {"200": _response(200, "The model", ModelCard)})
    name = {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": list(model_info.models)},
    }
    one["get"]["parameters"] = [name]
    one["get"]["responses"] |= _errors(names_model=True)
    every["get"]["responses"] |= _errors()
    for operation in (every["get"], one["get"]):
        operation["responses"]["304"] = _NOT_MODIFIED
        operation |= {"security": _BEARER, "tags": ["embeddings"]}
    return {"/v1/models": every, "/v1/models/{model}": one}


def _open_paths() -> dict[str, Any]:
    probes = {
        path: _get(summary, {"200": {"description": "Yes"}, **_errors(503, path=path)})
        for path, summary in _PROBES.items()
    }
    health = _get(
        "What serves here", {"200": _response(200, "Ready", HealthResponse), **_errors(503)}
    )
    text = {
        "description": "Prometheus text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    usage = _get(
        "The caller's limits and what is left",
        {"200": _response(200, "Limits", UsageResponse), **_errors()},
    )
    usage["get"]["security"] = _BEARER
    return {
        "/usage": usage,
        "/health": health,
        **probes,
        "/metrics": _get("Metrics for Prometheus", {"200": text}),
    }


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {"summary": summary, "tags": ["operation"], "security": [], "responses": responses}
    }


def _errors(
    *only: int, names_model: bool = False, of_batches: bool = False, path: str = "/"
) -> dict[str, Any]:
    """Every error status that a call of a path can end in, or those in `only`."""
    never = _NEVER_SENT if names_model else _NEVER_SENT | {404}
    model = error_form(path).model
    told = defaultdict(list)
    of_others = () if of_batches else (BatchError, MalformedFormError)
    specs = [spec for cls, spec in ERRORS.items() if not issubclass(cls, of_others)]
    for spec in (*specs, INTERNAL):
        if spec.status not in never and (not only or spec.status in only):
            told[spec.status].append(spec.description)
    return {
        str(status): _response(status, "; ".join(dict.fromkeys(told[status])), model)
        for status in sorted(told)
    }


def _response(status: int, description: str, model: type[BaseModel]) -> dict[str, Any]:
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {"description": description, **headers, "content": _json(model)}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model.__name__)}}}
