"""embedding-api: texts in, vectors out. Every route, and one request from top to bottom."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import bentoml
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Scope

import metrics
import tracing
import wiring
from api.access_log import LOG
from api.arbiter import replace_arbiter
from api.bento import EmbeddingService, page
from api.dialects import native as schemas
from api.dialects import openai as openai
from api.errors import NoSuchModelError
from api.model_store import PreparedModel
from api.options import DocumentOptions, TaskOptions
from api.pages import DOCS_PATHS, docs_page
from embedder.errors import EmbedderError, TextFault
from embedder.model import check_backend
from embedder.postprocess import Vectors, cut, encoded
from embedder.profile import Profile, model_tag
from embedder.tasks import prompts_for
from embedder.tokens import TokenizedText
from errors import ConfigurationError
from quota.receipt import set_quota_headers
from request_state import state_of
from settings import VERSION, load_settings

SETTINGS = load_settings()
LOADING = 5  # times ENGINE_TIMEOUT that a model may take to load: a disk that hangs raises nothing


@bentoml.service(
    name="embedding-api",
    labels={"version": VERSION, "licence": "MIT"},
    service_class=EmbeddingService,
    workers=1,
    http={"host": str(SETTINGS.host), "port": SETTINGS.port},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class EmbeddingAPI:
    """Text embeddings for the users of a Supabase project."""

    prepared = PreparedModel(model_tag(SETTINGS.model_name, SETTINGS.model_quantization, SETTINGS.model_backend))

    bento_service: EmbeddingService  # set by BentoML

    def __init__(self) -> None:
        directory = Path(self.prepared.path)
        self.embedder = wiring.served_model(directory)
        self.names = wiring.model_info(directory).models
        self.quota = wiring.quota()

    # --- embeddings ---------------------------------------------------------------------------

    @bentoml.api(route="/embed", input_spec=schemas.EmbedRequest, output_spec=schemas.EmbedResponse)
    async def embed(self, request: schemas.EmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed one text."""
        self.embedder.check_room([request.text], user=state_of(scope).user_id)
        tokens = await self._read(request, "text", scope)
        vectors = await self._vectors(tokens, scope, dimensions=request.dimensions)
        [embedding] = encoded(vectors, request.encoding_format)
        done = {"embedding": embedding, "truncated": tokens[0].truncated, "empty": tokens[0].blank}
        return done | self._about(tokens, vectors)

    @bentoml.api(route="/batch-embed", input_spec=schemas.BatchEmbedRequest, output_spec=schemas.BatchEmbedResponse)
    async def batch_embed(self, request: schemas.BatchEmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed several texts."""
        self.embedder.check_room(request.texts, user=state_of(scope).user_id)
        tokens = await self._read(request, "texts", scope)
        vectors = await self._vectors(tokens, scope, dimensions=request.dimensions)
        embeddings, counts = encoded(vectors, request.encoding_format), [len(text.ids) for text in tokens]
        done = {"embeddings": embeddings, "tokens": counts, **_remarks(tokens)}
        return done | self._about(tokens, vectors)

    @bentoml.api(route="/v1/embeddings", input_spec=openai.EmbeddingsRequest, output_spec=openai.EmbeddingsResponse)
    async def embeddings(self, request: openai.EmbeddingsRequest, scope: Scope) -> dict[str, Any]:
        """Embed texts as OpenAI's clients ask for it."""
        if request.model not in self.names:
            raise NoSuchModelError(request.model, self.names)
        self.embedder.check_room(request.input, user=state_of(scope).user_id)
        task = request.task or self.names[request.model]
        tokens = await self._read(request, "input", scope, task=task)
        vectors = await self._vectors(tokens, scope, dimensions=request.dimensions)
        rows, counts = encoded(vectors, request.encoding_format), [len(text.ids) for text in tokens]
        data = openai.embeddings(rows, tokens=counts, **_remarks(tokens))
        return {"object": "list", "data": data, **self._about(tokens, vectors)}

    @bentoml.api(route="/similarity", input_spec=schemas.SimilarityRequest, output_spec=schemas.SimilarityResponse)
    async def similarity(self, request: schemas.SimilarityRequest, scope: Scope) -> dict[str, Any]:
        """Compare one text with several, or several with one another."""
        self.embedder.check_room([request.text or "", *request.texts], user=state_of(scope).user_id)
        first = await self._read(request, "text", scope, task=request.text_task)
        rest = await self._read(request, "texts", scope)
        vectors = await self._vectors([*first, *rest], scope, dimensions=request.dimensions)
        cosines = vectors[1:] @ vectors[0] if first else vectors @ vectors.T
        of_text = {f"text_{name}": bool(indices) for name, indices in _remarks(first).items()}
        done = {"similarities": iter(cosines.clip(-1, 1)), **_remarks(rest), **of_text}
        return done | self._about([*first, *rest], vectors)

    @bentoml.api(route="/tokenize", input_spec=schemas.TokenizeRequest, output_spec=schemas.TokenizeResponse)
    async def tokenize(self, request: schemas.TokenizeRequest, scope: Scope) -> dict[str, Any]:
        """Count tokens: one request like any other, and none of the day's tokens."""
        tokens = await self._read(request, "texts", scope)
        state_of(scope).release_body()
        state_of(scope).answer_bytes = sum(text.ids.nbytes for text in tokens)
        texts = (
            {"ids": text.ids, "n_tokens": text.n_tokens, "truncated": text.truncated, "empty": text.blank}
            for text in tokens
        )
        return {"texts": texts, "max_tokens": self.embedder.model.max_tokens, **self._about(tokens)}

    async def _read(
        self, request: TaskOptions, field: str, scope: Scope, *, task: str | None = None
    ) -> list[TokenizedText]:
        """The text or texts of a field -> token ids, behind the prompt of `task` or of the request's.

        The request is left without them: they may be megabytes, and nobody needs them any more.
        """
        value: str | list[str] | None = getattr(request, field)
        setattr(request, field, None)
        texts = [value] if isinstance(value, str) else value or []
        task = request.task if task is None else task
        titles = request.title if isinstance(request, DocumentOptions) else None
        prompts = prompts_for(self.profile.tasks, task, titles=titles, n_texts=len(texts))
        user = state_of(scope).user_id
        try:
            with tracing.span("tokenise"):
                return await self.embedder.tokenise(texts, prompts, truncate=request.truncate, user=user)
        except TextFault as fault:
            fault.param = field if isinstance(value, str) else f"{field}.{fault.index}"
            raise

    async def _vectors(self, tokens: Sequence[TokenizedText], scope: Scope, *, dimensions: int | None) -> Vectors:
        """Token ids -> quota -> batcher -> vectors, (n_texts, dimensions) in the order of the texts."""
        state = state_of(scope)
        state.release_body()
        size = self.profile.size_of(dimensions)
        state.n_tokens = n_tokens = sum(len(text.ids) for text in tokens)
        state.receipt = await self.quota.spend(state.charged, tokens=n_tokens)
        vectors = await self.embedder.embed(tokens, user=state.user_id)
        metrics.TEXTS.inc(len(tokens))
        metrics.TOKENS.inc(n_tokens)
        state.answer_bytes = vectors.nbytes
        return cut(vectors, size)

    @property
    def profile(self) -> Profile:
        """What serves here. Raises ModelLoadingError."""
        return self.embedder.model.profile

    def _about(self, tokens: Sequence[TokenizedText], vectors: Vectors | None = None) -> dict[str, Any]:
        """What every answer about texts says."""
        n_tokens = sum(len(text.ids) for text in tokens)
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        about = {"model": self.profile.model_id, "fingerprint": self.profile.fingerprint, "usage": usage}
        return about if vectors is None else about | {"dimensions": vectors.shape[1]}

    @page("/v1/models", protected=True, fixed=True)
    async def models(self, _: Request) -> dict[str, Any]:
        """The model that serves here, by all its names."""
        return openai.model_list(self.bento_service.model_info)

    @page("/v1/models/{model}", protected=True, fixed=True)
    async def model(self, request: Request) -> dict[str, Any]:
        """The model that serves here, by one of its names."""
        name = request.scope["path"].removeprefix("/v1/models/")
        return openai.model_card(name, self.bento_service.model_info)

    @page("/usage", protected=True)
    async def usage(self, request: Request) -> dict[str, Any]:
        """The caller's limits and what is left of them; asking costs nothing."""
        receipt = await self.quota.usage(state_of(request.scope).user_id)
        set_quota_headers(state_of(request.scope).answer_headers, receipt)
        tokens = receipt.tokens_limit and schemas.allowance(
            receipt.tokens_limit, receipt.tokens_remaining, receipt.tokens_reset_after
        )
        return {"requests": schemas.allowance(receipt.limit, receipt.remaining, receipt.reset_after), "tokens": tokens}

    # --- pages --------------------------------------------------------------------------------

    @page("/health")
    async def health(self, _: Request) -> dict[str, Any]:
        """What serves here, once a real forward pass has worked."""
        wiring.lifecycle().refuse_when_stopping()
        profile = self.profile
        self.embedder.check()
        if self.quota.state == "degraded":
            await self.quota.ping()  # recovery is noticed here, not with the next caller
        return {
            "status": "ok",
            "model": profile.model_id,
            "quantization": profile.quantization,
            "kernel": self.embedder.model.engine.kernel,
            "fingerprint": profile.fingerprint,
            "redis": self.quota.state,
            "version": VERSION,
        }

    @page("/readyz")
    async def readyz(self, request: Request) -> Response:
        """200 when a request sent here would be served."""
        await self.health(request)
        return Response("\n", media_type="text/plain")

    @page("/livez", "/healthz")
    async def livez(self, _: Request) -> Response:
        """200 while the process is worth keeping; it may still be loading."""
        self.embedder.check()
        return Response("\n", media_type="text/plain")

    @page("/metrics")
    async def metrics(self, _: Request) -> Response:
        """Everything this process counts."""
        content, media_type = metrics.render()
        return Response(content, media_type=media_type)

    @page("/openapi.json", fixed=True)
    async def openapi(self, _: Request) -> dict[str, Any]:
        """The OpenAPI document."""
        return self.bento_service.openapi_spec

    @page(*DOCS_PATHS)
    async def docs(self, request: Request) -> ASGIApp:
        """Swagger UI, ReDoc and their files."""
        return docs_page(request.url.path)

    @page("/")
    async def index(self, _: Request) -> Response:
        """Newcomers land on the documentation."""
        return RedirectResponse("/docs")

    # --- life ---------------------------------------------------------------------------------

    build_app, model_info = staticmethod(wiring.build_app), staticmethod(wiring.model_info)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """In the supervisor, before any worker starts: a mistake ends the start with one line."""
        replace_arbiter()
        directory = Path(cast(EmbeddingService, EmbeddingAPI).models[0].stored.path)
        try:
            profile = Profile.load(directory)
            profile.check_files(directory)
            check_backend(profile.backend, kernel=SETTINGS.native_kernel)
            wiring.model_info(directory)
            asyncio.run(wiring.check())
        except (ConfigurationError, EmbedderError) as error:
            sys.exit(f"embedding-api: {error}")

    @bentoml.on_startup
    async def start(self) -> None:
        """Load in the background, so that probes are answered meanwhile."""
        metrics.TASKS.set_function(lambda: len(asyncio.all_tasks()))
        wiring.lifecycle().start(check=self.embedder.check, abandon=self.embedder.abandon)
        self.starting = asyncio.create_task(self._start(), name="start")

    async def _start(self) -> None:
        if not await self.quota.start():
            LOG.warning("redis_does_not_answer: check REDIS_URL; limits are counted as RATE_LIMIT_ON_ERROR says")
        await wiring.blocked_users().start()
        wiring.warn_of_secrets_within_reach()
        await wiring.fetch_keys()
        try:
            async with asyncio.timeout(LOADING * SETTINGS.engine_timeout):
                seconds = await self.embedder.start()
        except Exception as error:  # the next worker may have the memory, or the file, that this one lacked
            await wiring.lifecycle().give_up("model_cannot_be_loaded", error)
            raise
        model = self.embedder.model
        wiring.show_model(model)
        about = {"model": model.profile.model_id, "kernel": model.engine.kernel, "seconds": round(seconds, 2)}
        LOG.info("model_loaded_successfully", extra={"fields": about})

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Requests have been answered by now; end the engine's thread and let go of Redis."""
        await self.embedder.close()
        await self.quota.aclose()
        await wiring.blocked_users().aclose()
        await wiring.verifier().keys.aclose()
        await asyncio.to_thread(tracing.shutdown)


def _remarks(tokens: Sequence[TokenizedText]) -> dict[str, list[int]]:
    """What a caller should know of some texts, by their indices."""
    return {
        "truncated": [index for index, text in enumerate(tokens) if text.truncated],
        "empty": [index for index, text in enumerate(tokens) if text.blank],
    }
