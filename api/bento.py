"""A BentoML service with our own front: its pages, its model, and the application that serves it.

BentoML 1.4's stock endpoint answers a validation error with a bare list, replaces the text of 401, 403
and 5xx, and logs the caller's text; its stock middlewares cost more than the gate. What is replaced is
the application; services, `/schema.json`, stores, Bentos and clients stay BentoML's.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from _bentoml_sdk import Service
from bentoml import Bento
from bentoml._internal.utils.analytics import usage_stats
from starlette.types import ASGIApp

from api.application import Application
from api.model_info import ModelInfo
from api.model_store import PreparedModel
from api.openapi import document
from settings import VERSION, load_settings

# `bentoml serve` has asked the environment already, before our settings said no.
usage_stats.do_not_track.cache_clear()

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Page:
    """One GET path and the method of the service that answers it."""

    path: str
    method: str
    protected: bool
    fixed: bool


def page(*paths: str, protected: bool = False, fixed: bool = False) -> Callable[[Handler], Handler]:
    """Mark a method of the service as the GET page at `paths`.

    Args:
        protected: for users alone.
        fixed: the method answers the same JSON each time, so it is called once.
    """

    def mark(method: Handler) -> Handler:
        pages = [Page(path, method.__name__, protected, fixed) for path in paths]
        method.__dict__["pages"] = pages
        return method

    return mark


def pages(service: Service, *, models: Iterable[str]) -> Iterator[Page]:
    """Every page of a service; one whose path says {model} is there once for each name in `models`."""
    for member in vars(service.inner).values():
        for page in getattr(member, "pages", ()):
            paths = dict.fromkeys(page.path.replace("{model}", model) for model in models)
            yield from (replace(page, path=path) for path in paths)


class EmbeddingService(Service):
    """A BentoML service whose class wraps its whole application in `guard`."""

    @property
    def openapi_spec(self) -> dict[str, Any]:
        """The document of /openapi.json, which `bentoml build` packs too; BentoML's own rejects `examples`."""
        return document(self, version=VERSION, model_info=self.model_info)

    @property
    def model_info(self) -> ModelInfo:
        """What the model offers, known before it is loaded."""
        model_info: ModelInfo = self.inner.model_info(Path(self.models[0].stored.path))
        return model_info

    def on_load_bento(self, bento: Bento) -> None:
        """Serve the model that the Bento was built with, unless MODEL_NAME asks for another."""
        super().on_load_bento(bento)
        [packed] = bento.info.all_models
        if load_settings().model_name is None or self.inner.prepared.tag.name == packed.tag.name:
            self.inner.prepared = PreparedModel(packed.tag).or_another_version()
        self.models[:] = [self.inner.prepared]
        for service in bento.info.services:  # BentoML would fetch what is listed there
            service.models[:] = [self.inner.prepared.to_info()]

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that the worker serves."""
        self.inject_config()
        found = pages(self, models=self.model_info.models)
        application = Application(self, ((page.path, page.method, page.fixed) for page in found))
        build_app: ASGIApp = self.inner.build_app(application, self)
        return build_app
