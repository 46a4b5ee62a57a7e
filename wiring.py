"""From settings to objects: how the parts of a process are put together."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp

import metrics
import tracing
from access import Access, make_access, make_gate
from api.access_log import configure_log
from api.application import Application
from api.bento import EmbeddingService
from api.edge import Edge
from api.errors import fault_reasons, refusal_reasons
from api.forms import FRAMING
from api.listening import accept_many_per_turn
from api.model_info import ModelInfo
from api.options import Limits
from api.playground.page import PlaygroundFiles, Project
from api.protocol import use_bounded_connections
from api.refused import behind_connection
from api.supervisor import SUPERVISOR_PID
from auth.anon_key import require_public
from auth.jwks import RemoteKeys
from batches.batches import Batches
from batching import make_batches, watch_batches
from cache.cache import Cache
from cache.cached_model import CachedModel, Origins
from cache.keys import Keys
from cache.memory import MemoryCache
from cache.shared import SharedCache
from cache.values import Values
from embedder.batcher import Keep
from embedder.blank import PATTERN
from embedder.profile import PROFILE_FILE, STARTER_MODEL, Profile
from embedder.serving import ServedModel
from embedder.tasks import NO_TITLE, main_names
from errors import ConfigurationError
from gate.gate import Gate
from lifecycle import Lifecycle
from recording import (
    record_batch,
    record_origins,
    record_pack,
    record_request,
)
from routing import gate_routes, served_pages
from settings import VERSION, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the worker process is made of."""

    settings: Settings
    model_info: ModelInfo
    playground: PlaygroundFiles
    embedder: ServedModel
    cached: CachedModel
    access: Access
    lifecycle: Lifecycle
    batches: Batches | None


def build_app(settings: Settings, service: EmbeddingService) -> ASGIApp:
    """The whole application: connection > edge > gate > routes of the service.

    Raises:
        ConfigurationError: a setting cannot be used.
    """
    configure_log(settings.log_format)
    use_bounded_connections(answer_timeout=settings.answer_timeout)
    accept_many_per_turn()
    tracing.configure(settings.otel_exporter_otlp_endpoint, version=VERSION)
    parts = make_parts(settings, service)
    found = served_pages(settings, service, models=parts.model_info.models)
    routes = gate_routes(service, found, form_bytes=settings.batch_file_bytes + FRAMING)
    application = Application(
        service,
        found,
        make=partial(service.inner, parts),
        limits=Limits(settings.max_texts_per_request),
    )
    gate = make_gate(
        tracing.behind_gate(application),
        settings,
        parts.access,
        routes=routes,
        ready=lambda: not parts.lifecycle.stopping,
    )
    parts.lifecycle.in_flight = lambda: gate.in_flight
    _begin_metrics(parts, gate, service)
    open_paths = {path for path, route in routes.items() if not route.protected}
    edge = Edge(
        behind_connection(gate),
        routes=routes,
        fingerprint=parts.model_info.fingerprint,
        record=partial(record_request, open_to_all=open_paths),
    )
    return tracing.around(edge, routes=routes)


def make_parts(settings: Settings, service: EmbeddingService) -> Parts:
    """The parts of a worker process; the model is not loaded yet. Raises ConfigurationError."""
    model_info = read_model_info(settings, service.directory)
    cache = make_cache(
        settings, dimensions=model_info.dimensions[0], fingerprint=model_info.fingerprint
    )
    embedder = make_embedder(settings, service.directory, keep=cache.keep)
    access = make_access(settings)
    lifecycle = Lifecycle(
        shutdown_timeout=settings.shutdown_timeout,
        loop_timeout=settings.engine_timeout,
        parent=_supervisor_pid(),
    )
    return Parts(
        settings=settings,
        model_info=model_info,
        playground=make_playground(settings, model_info),
        embedder=embedder,
        cached=CachedModel(
            embedder, cache, enabled=settings.cache_bytes > 0, report=record_origins
        ),
        access=access,
        lifecycle=lifecycle,
        batches=make_batches(
            settings,
            access,
            stopping=lambda: lifecycle.stopping,
            report=record_batch,
        ),
    )


def _supervisor_pid() -> int:
    """The supervisor may have ended during imports: then this process has another parent by now."""
    return int(os.environ.get(SUPERVISOR_PID, os.getppid()))


def make_playground(settings: Settings, model_info: ModelInfo) -> PlaygroundFiles:
    """The page, where users of the project can sign in if its URL and its public key are set.

    Raises:
        ConfigurationError: SUPABASE_ANON_KEY is not public.
    """
    project = None
    if settings.supabase_url and settings.supabase_anon_key:
        key = settings.supabase_anon_key.get_secret_value()
        require_public(key)
        project = Project(settings.supabase_url, key)
    english_only = model_info.name == STARTER_MODEL
    return PlaygroundFiles(model_info, english_only=english_only, project=project)


# --- the model ------------------------------------------------------------------------------------


def make_embedder(settings: Settings, directory: Path, *, keep: Keep) -> ServedModel:
    """The prepared model in `directory`, not yet loaded; `keep` gets what it computes."""
    # While the engine works, several threads tokenise a slice no sooner than one.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return ServedModel(
        directory,
        num_threads=settings.num_threads,
        max_tokens=settings.max_seq_length,
        batch_tokens=settings.max_batch_tokens,
        batch_size=settings.max_batch_size,
        queue_tokens=settings.max_queue_tokens,
        user_queue_tokens=settings.max_user_queue_tokens,
        deadline=settings.engine_timeout,
        kernel=settings.native_kernel,
        report=partial(record_pack, batch_tokens=settings.max_batch_tokens),
        report_job=tracing.record_job,
        keep=keep,
    )


def make_cache(settings: Settings, *, dimensions: int, fingerprint: str) -> Cache:
    """Where vectors of a model are kept; connects to nothing yet.

    Raises:
        ConfigurationError: CACHE_REDIS_BYTES is set, and what it needs is not.
    """
    values = Values(settings.cache_precision, dimensions)
    # Without Redis nothing outlives this process, so neither need the secret.
    secret = settings.cache_secret and settings.cache_secret.get_secret_value().encode()
    keys = Keys(secret or os.urandom(32), scope=settings.cache_scope)
    memory = MemoryCache(
        settings.cache_bytes,
        value_bytes=values.size,
        report_evictions=metrics.CACHE_EVICTIONS.inc,
    )
    shared = None
    if settings.cache_redis_bytes is not None:
        if settings.redis_url is None or secret is None:
            raise ConfigurationError(
                "CACHE_REDIS_BYTES needs REDIS_URL and CACHE_SECRET: set both, or leave it out"
            )
        shared = SharedCache(
            settings.redis_url,
            keys=keys,
            space=f"{fingerprint}-{settings.cache_precision}",
            limit=settings.cache_redis_bytes,
            ttl=settings.cache_ttl,
            value_bytes=values.size,
            report_failure=metrics.CACHE_REDIS_FAILURES.inc,
        )
    return Cache(keys=keys, values=values, memory=memory, shared=shared)


def read_model_info(settings: Settings, directory: Path) -> ModelInfo:
    """What the prepared model in `directory` offers, from its profile and MODEL_ALIASES.

    Raises:
        ConfigurationError: an alias stands for a task that the model does not have.
        EmbedderError: the profile cannot be read.
    """
    profile = Profile.load(directory)
    return ModelInfo(
        models={**profile.names, **_aliases(settings, profile)},
        tasks=tuple(profile.tasks),
        main_tasks=tuple(main_names(profile.tasks)),
        titles=any(NO_TITLE in prompt for prompt in profile.tasks.values()),
        blank=PATTERN,
        dimensions=profile.matryoshka,
        max_tokens=min(settings.max_seq_length, profile.max_tokens),
        max_texts=settings.max_texts_per_request,
        architecture=profile.architecture,
        quantization=profile.quantization,
        n_bytes=sum(path.stat().st_size for path in directory.rglob("*")),
        created=int((directory / PROFILE_FILE).stat().st_mtime),
        fingerprint=profile.fingerprint,
    )


def _aliases(settings: Settings, profile: Profile) -> dict[str, str | None]:
    """More names of the model, and the task that each stands for."""
    aliases: dict[str, str | None] = {}
    for alias in settings.model_aliases.split(","):
        name, _, task = alias.strip().partition("=")
        if task and task not in profile.tasks:
            tasks = ", ".join(main_names(profile.tasks)) or "no task: name it without one"
            raise ConfigurationError(
                f"MODEL_ALIASES: {name}={task}, but {profile.model_id} has {tasks}"
            )
        if name:
            aliases[name] = task or None
    return aliases


# --- metrics --------------------------------------------------------------------------------------


def _begin_metrics(parts: Parts, gate: Gate, service: EmbeddingService) -> None:
    """Gauges that read the parts, and every series of our own faults at 0."""
    embedder, quota, keys = parts.embedder, parts.access.quota, parts.access.public_keys
    lifecycle = parts.lifecycle
    metrics.begin(
        (api.route for api in service.apis.values()),
        reasons=fault_reasons(),
        decisions={"admitted"} | refusal_reasons(),
    )
    record_origins(Origins())
    metrics.CACHE_BYTES.set_function(lambda: parts.cached.used_bytes)
    metrics.watch_supervisor(_supervisor_pid())
    if isinstance(keys, RemoteKeys):
        metrics.watch_jwks_age(lambda: keys.age)
    if parts.settings.service_keys_file:
        metrics.watch_service_keys_age(lambda: parts.access.service_keys.age)
    if parts.batches is not None:
        watch_batches(parts.batches)
    metrics.IN_FLIGHT.set_function(lambda: gate.in_flight)
    metrics.QUOTA_DEGRADED.set_function(lambda: quota.state == "degraded")
    metrics.QUEUE_TOKENS.set_function(lambda: embedder.queued_tokens)
    metrics.FORWARD_PASS.set_function(lambda: embedder.running_seconds)
    metrics.READY.set_function(lambda: embedder.serves and not lifecycle.stopping)
