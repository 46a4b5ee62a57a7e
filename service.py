"""embedding-api: texts in, vectors out.

`api/dialects/` has the routes that embed. Here is what they call, and the pages of the service.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import bentoml
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Scope
from typing_extensions import override

import metrics
import startup
import tracing
from api.arbiter import replace_arbiter
from api.bento import EmbeddingService
from api.cache_control import asks_no_store
from api.dialects.cohere import CohereRoutes
from api.dialects.dialect import AskedTexts, EmbeddedTexts
from api.dialects.native import NativeRoutes
from api.dialects.ollama import OllamaRoutes
from api.dialects.openai_batches import BatchRoutes
from api.dialects.tei import TeiRoutes
from api.model_store import PreparedModel
from api.openapi import document
from api.options import DocumentOptions, Limits, TaskOptions, VectorOptions
from api.pages import DOCS_PATHS, docs_page
from api.playground.page import Playground
from api.routes import page
from api.status import usage_answer
from embedder.errors import EmbedderError, TextFault
from embedder.overflow import Overflow
from embedder.postprocess import Vectors, encoded, truncate_vectors
from embedder.profile import model_tag
from embedder.tasks import prompts_for
from embedder.tokenized_text import TokenizedText
from embedder.versions import version_to_serve
from errors import ConfigurationError
from quota.receipt import part_of, set_quota_headers, without
from request_state import RequestState, state_of
from settings import VERSION, load_settings
from wiring import Parts, build_app, read_model_info

# At import, and nowhere else in the project: BentoML's decorator takes host and port.
SETTINGS = load_settings()


class _Service(EmbeddingService):
    """The BentoML service of the class below."""

    @property
    def openapi_spec(self) -> dict[str, Any]:
        """The document of /openapi.json, which `bentoml build` packs too.

        BentoML's own generator rejects `examples`.
        """
        return document(
            self,
            version=VERSION,
            model_info=read_model_info(SETTINGS, self.directory),
            limits=Limits(SETTINGS.max_texts_per_request),
            batches=SETTINGS.batch_directory is not None,
        )

    @override
    def version_to_serve(self, versions: Path) -> Path | None:
        return version_to_serve(versions)

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that the worker serves."""
        self.inject_config()
        return build_app(SETTINGS, self)


@bentoml.service(
    name="embedding-api",
    labels={"version": VERSION, "licence": "MIT"},
    service_class=_Service,
    workers=1,
    http={"host": str(SETTINGS.host), "port": SETTINGS.port},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class EmbeddingAPI(NativeRoutes, BatchRoutes, CohereRoutes, OllamaRoutes, TeiRoutes, Playground):
    """Text embeddings for the users of a Supabase project."""

    prepared = PreparedModel(
        model_tag(SETTINGS.model_name, SETTINGS.model_quantization, SETTINGS.model_backend)
    )

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.model_info, self.playground = parts.model_info, parts.playground
        self.embedder, self.cached = parts.embedder, parts.cached
        self.quota, self.batches = parts.access.quota, parts.batches

    # --- what the dialects call ---------------------------------------------------------------

    @override
    async def embed_texts(
        self, request: VectorOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> EmbeddedTexts:
        self.require_space(_texts(request, field), scope, overflow=request.long_texts)
        texts = await self.read(request, field, scope, task=task)
        vectors = await self.vectors(texts, scope, dimensions=request.dimensions)
        cached = state_of(scope).cached_tokens
        about = self.about(texts, cached_tokens=cached) | {"dimensions": vectors.shape[1]}
        encoding = partial(encoded, vectors)
        return EmbeddedTexts(encoding(request.encoding_format), texts, about, encoding)

    @override
    def require_space(self, texts: Sequence[str], scope: Scope, *, overflow: Overflow) -> None:
        state = state_of(scope)
        self.embedder.require_space(texts, user=state.user_id, bulk=state.bulk, overflow=overflow)

    @override
    async def read(
        self, request: TaskOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> list[TokenizedText]:
        texts = _texts(request, field)
        is_list = isinstance(getattr(request, field), list)
        setattr(request, field, None)
        prompts = prompts_for(
            self.embedder.model.profile.tasks,
            request.task if task is None else task,
            titles=request.title if isinstance(request, DocumentOptions) else None,
            n_texts=len(texts),
        )
        try:
            with tracing.span("tokenise"):
                return await self.embedder.tokenise(
                    texts,
                    prompts,
                    user=state_of(scope).user_id,
                    overflow=request.long_texts,
                    cut_start=isinstance(request, AskedTexts) and request.cut_start,
                    located=request.located,
                )
        except TextFault as fault:
            fault.param = f"{field}.{fault.index}" if is_list else field
            raise

    @override
    async def vectors(
        self, texts: Sequence[TokenizedText], scope: Scope, *, dimensions: int | None
    ) -> Vectors:
        state = state_of(scope)
        state.release_body()
        size = self.embedder.model.profile.size_of(dimensions)
        state.n_tokens = _count_tokens(texts)
        keep = not asks_no_store(scope)
        found = await self.cached.look_up(texts, user=state.user_id, store=keep)
        charged = found.missing_tokens
        if charged:
            state.receipt = await (state.tokens or self.quota).spend(state.charged, tokens=charged)
        vectors, spared = await self.cached.complete(found, bulk=state.bulk)
        if spared:
            await self._give_back(state, spared)
        state.cached_tokens = state.n_tokens - charged + spared
        metrics.TEXTS.inc(len(texts))
        metrics.TOKENS.inc(charged - spared)
        state.answer_bytes = vectors.nbytes
        return truncate_vectors(vectors, size)

    async def _give_back(self, state: RequestState, tokens: int) -> None:
        """Refund tokens that were charged and then not needed."""
        part = part_of(state.charged, tokens=tokens)
        left = await (state.tokens or self.quota).refund(part)
        state.receipt = without(state.charged, part, left=left)

    @override
    def about(self, texts: Sequence[TokenizedText], *, cached_tokens: int = 0) -> dict[str, Any]:
        profile = self.embedder.model.profile
        n_tokens = _count_tokens(texts)
        return {
            "model": profile.model_id,
            "fingerprint": profile.fingerprint,
            "usage": {
                "prompt_tokens": n_tokens,
                "total_tokens": n_tokens,
                "cached_tokens": cached_tokens,
            },
        }

    # --- pages --------------------------------------------------------------------------------

    @page("/usage", protected=True)
    async def usage(self, request: Request) -> dict[str, Any]:
        """The caller's limits and what is left of them; costs nothing."""
        state = state_of(request.scope)
        receipt = await self.quota.usage(state.user_id)
        set_quota_headers(state.answer_headers, receipt)
        of_batches = await self.batches.usage(state.user_id) if self.batches else None
        return usage_answer(state.caller, receipt, of_batches)

    @page("/health", audience="probe")
    async def health(self, _: Request) -> dict[str, Any]:
        """Model, precision, fingerprint of the vector space and state of Redis; 503 until ready."""
        self.parts.lifecycle.refuse_when_stopping()
        model = self.embedder.model
        self.embedder.require_running()
        if self.quota.state == "degraded":
            await self.quota.ping()  # recovery is noticed here, not with the next caller
        return {
            "status": "ok",
            "model": model.profile.model_id,
            "quantization": model.profile.quantization,
            "kernel": model.engine.kernel,
            "fingerprint": model.profile.fingerprint,
            "redis": self.quota.state,
            "version": VERSION,
        }

    @page("/readyz", "/tei/health", audience="probe")
    async def readyz(self, request: Request) -> Response:
        """200 when a request would be served: a real forward pass has worked."""
        await self.health(request)
        return Response("\n", media_type="text/plain")

    @page("/livez", "/healthz", audience="probe")
    async def livez(self, _: Request) -> Response:
        """200 while the process works; it may still be loading the model."""
        self.embedder.require_running()
        return Response("\n", media_type="text/plain")

    @page("/metrics", audience="internal")
    async def metrics(self, _: Request) -> Response:
        """Metrics in Prometheus's text format; proxies should not let it through."""
        content, media_type = metrics.render()
        return Response(content, media_type=media_type)

    @page("/openapi.json", fixed=True)
    async def openapi(self, _: Request) -> dict[str, Any]:
        """The OpenAPI document."""
        spec: dict[str, Any] = _service().openapi_spec
        return spec

    @page(*DOCS_PATHS)
    async def docs(self, request: Request) -> ASGIApp:
        """Documentation: Swagger UI and ReDoc, with all their files from this server."""
        return docs_page(request.url.path)

    @page("/")
    async def index(self, _: Request) -> Response:
        """Redirects to the documentation."""
        return RedirectResponse("/docs")

    # --- start and end ------------------------------------------------------------------------

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """In the supervisor, before any worker starts: a mistake ends the start with one line."""
        replace_arbiter()
        directory: Path = _service().directory
        try:
            startup.check_model(SETTINGS, directory)
            asyncio.run(startup.check_settings(SETTINGS))
        except (ConfigurationError, EmbedderError) as error:
            sys.exit(f"embedding-api: {error}")

    @bentoml.on_startup
    async def start(self) -> None:
        """Load in the background, so that probes are answered meanwhile."""
        metrics.TASKS.set_function(lambda: len(asyncio.all_tasks()))
        self.parts.lifecycle.start(
            check=self.embedder.require_running, abandon=self.embedder.abandon
        )
        work = startup.start(self.parts, start_batches=self.start_batches)
        self.starting = asyncio.create_task(work, name="start")

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Every request has been answered by now."""
        await startup.stop(self.parts)


def _service() -> EmbeddingService:
    """What the decorator made of the class above."""
    return cast(EmbeddingService, EmbeddingAPI)


def _texts(request: TaskOptions, field: str) -> list[str]:
    """The text, or the list of texts, in a field; nothing where it holds None."""
    value: str | list[str] | None = getattr(request, field)
    return [value] if isinstance(value, str) else value or []


def _count_tokens(texts: Sequence[TokenizedText]) -> int:
    return sum(len(text.ids) for text in texts)
