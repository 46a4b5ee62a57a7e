"""From the service's routes to what the gate lets through."""

from collections.abc import Iterable
from dataclasses import replace

from api.application import SCHEMA_PATH
from api.bento import EmbeddingService
from api.playground.page import is_playground
from api.routes import Page, pages
from gate.gate import Route
from settings import Settings


def served_pages(
    settings: Settings, service: EmbeddingService, *, models: Iterable[str]
) -> list[Page]:
    """The pages of the service that the settings do not switch off."""
    found = pages(service.inner, models=models)
    return [page for page in found if settings.playground or not is_playground(page.path)]


def gate_routes(
    service: EmbeddingService, found: list[Page], *, form_bytes: int
) -> dict[str, Route]:
    """What the gate lets through: each path, its methods, and whether it needs a token."""
    routes = {SCHEMA_PATH: Route(frozenset({"GET"}), protected=False)}
    for page in found:
        before = routes.get(page.path, Route(frozenset(), protected=page.protected))
        routes[page.path] = replace(
            before,
            methods=before.methods | {page.verb},
            charged=page.charged,
            form_bytes=form_bytes if page.form else before.form_bytes,
        )
    for api in service.apis.values():
        routes[api.route] = Route(frozenset({"POST"}), protected=True)
    return routes
