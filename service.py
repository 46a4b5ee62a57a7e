"""embedding-api: texts in, vectors out. Every route, and one request from top to bottom."""

import asyncio
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import bentoml
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

import metrics
import wiring
from api.access_log import LOG
from api.bento import GuardedService, PreparedModel, page
from api.pages import DOCS_PATHS, docs_page
from api.schemas import BatchEmbedRequest, BatchEmbedResponse, EmbedRequest, EmbedResponse
from auth.errors import ConfigurationError, QuotaExceeded
from auth.receipt import Receipt, set_quota_headers
from embedder.errors import EmbedderError
from embedder.postprocess import Vectors
from embedder.profile import Profile, model_tag
from embedder.tokens import Tokens
from settings import VERSION, load_settings

SETTINGS = load_settings()


@bentoml.service(
    name="embedding-api",
    service_class=GuardedService,
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class EmbeddingAPI:
    """Text embeddings for the users of a Supabase project."""

    prepared = PreparedModel(model_tag(SETTINGS.model_name, SETTINGS.model_quantization, SETTINGS.model_backend))

    bento_service: GuardedService  # set by BentoML

    def __init__(self) -> None:
        self.embedder = wiring.served_model(Path(self.prepared.path))
        self.quota = wiring.quota()

    # --- embeddings ---------------------------------------------------------------------------

    @bentoml.api(route="/embed", input_spec=EmbedRequest, output_spec=EmbedResponse)
    async def embed(self, request: EmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed one text."""
        tokens, vectors = await self._embed([request.text], scope)
        return {"embedding": vectors[0], "truncated": tokens[0].truncated, **self._about(tokens)}

    @bentoml.api(route="/batch-embed", input_spec=BatchEmbedRequest, output_spec=BatchEmbedResponse)
    async def batch_embed(self, request: BatchEmbedRequest, scope: Scope) -> dict[str, Any]:
        """Embed several texts."""
        tokens, vectors = await self._embed(request.texts, scope)
        truncated = [index for index, text in enumerate(tokens) if text.truncated]
        return {"embeddings": vectors, "truncated": truncated, **self._about(tokens)}

    async def _embed(self, texts: Sequence[str], scope: Scope) -> tuple[list[Tokens], Vectors]:
        """Texts -> token ids -> quota -> batcher -> vectors, in the order of the texts."""
        user = scope["principal"].user_id
        tokens = await self.embedder.tokenise(texts)
        scope["tokens"] = n_tokens = sum(len(text.ids) for text in tokens)
        receipt = await self._charge(user, n_tokens, scope)
        try:
            vectors = await self.embedder.embed(tokens, user=user)
        except Exception:  # ours to answer for: it costs the user nothing
            await self.quota.refund(receipt)
            raise
        metrics.TEXTS.inc(len(texts))
        metrics.TOKENS.inc(n_tokens)
        return tokens, vectors

    async def _charge(self, user: str, n_tokens: int, scope: Scope) -> Receipt:
        try:
            receipt = await self.quota.charge(user, tokens=n_tokens)
        except QuotaExceeded as error:
            set_quota_headers(scope["answer_headers"], error.receipt)
            raise
        set_quota_headers(scope["answer_headers"], receipt)
        return receipt

    def _about(self, tokens: Sequence[Tokens]) -> dict[str, Any]:
        profile, n_tokens = self.embedder.model.profile, sum(len(text.ids) for text in tokens)
        usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
        return {"model": profile.model_id, "dimensions": profile.dimensions, "usage": usage}

    @page("/usage", protected=True)
    async def usage(self, request: Request) -> dict[str, Any]:
        """The caller's limits and what is left of them; asking costs nothing."""
        receipt = await self.quota.usage(request.scope["principal"].user_id)
        set_quota_headers(request.scope["answer_headers"], receipt)
        tokens = receipt.tokens_limit and _allowance(
            receipt.tokens_limit, receipt.tokens_remaining, receipt.tokens_reset_after
        )
        return {"requests": _allowance(receipt.limit, receipt.remaining, receipt.reset_after), "tokens": tokens}

    # --- pages --------------------------------------------------------------------------------

    @page("/health")
    async def health(self, _: Request) -> dict[str, Any]:
        """What serves here, once a real forward pass has worked."""
        profile = self.embedder.model.profile
        self.embedder.check()
        if self.quota.state == "degraded":
            await self.quota.ping()  # recovery is noticed here, not with the next caller
        return {
            "status": "ok",
            "model": profile.model_id,
            "quantization": profile.quantization,
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
        metrics.QUEUE_TOKENS.set(self.embedder.queued_tokens)
        content, media_type = metrics.render()
        return Response(content, media_type=media_type)

    @page("/openapi.json")
    async def openapi(self, _: Request) -> dict[str, Any]:
        """The OpenAPI document."""
        return self.bento_service.openapi_spec

    @page(*DOCS_PATHS)
    async def docs(self, request: Request) -> Response:
        """Swagger UI, ReDoc and their files."""
        return docs_page(request.url.path)

    @page("/")
    async def index(self, _: Request) -> Response:
        """Newcomers land on the documentation."""
        return RedirectResponse("/docs")

    # --- life ---------------------------------------------------------------------------------

    guard = staticmethod(wiring.guarded)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: a mistake ends the start with one line."""
        directory = Path(cast(GuardedService, EmbeddingAPI).models[0].stored.path)
        try:
            Profile.load(directory).check_files(directory)
            asyncio.run(wiring.check())
        except (ConfigurationError, EmbedderError) as error:
            sys.exit(f"embedding-api: {error}")

    @bentoml.on_startup
    async def start(self) -> None:
        """Load in the background, so that probes are answered meanwhile."""
        self.starting = asyncio.create_task(self._start(), name="start")

    async def _start(self) -> None:
        if not await self.quota.start():
            LOG.warning("redis_does_not_answer: check REDIS_URL; limits are counted as RATE_LIMIT_ON_ERROR says")
        if not await wiring.verifier().keys.start():
            LOG.warning("key_set_cannot_be_fetched: check SUPABASE_URL; tokens with asymmetric keys get 503 meanwhile")
        seconds = await self.embedder.start()
        about = {"model": self.embedder.model.profile.model_id, "seconds": round(seconds, 2)}
        LOG.info("model_loaded_successfully", extra={"fields": about})

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Requests have been answered by now; end the engine's thread and let go of Redis."""
        await self.embedder.close()
        await self.quota.aclose()
        await wiring.verifier().keys.aclose()


def _allowance(limit: int, remaining: int | None, reset_after: float | None) -> dict[str, int]:
    return {"limit": limit, "remaining": remaining or 0, "reset_after": math.ceil(reset_after or 0)}
