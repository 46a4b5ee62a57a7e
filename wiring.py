"""From settings to objects: the one place that knows how the parts of a process are put together."""

import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

import metrics
import tracing
from api.access_log import LOG, configure_log
from api.application import SCHEMA_PATH
from api.bento import EmbeddingService, pages
from api.edge import Edge
from api.errors import fault_reasons, refusal_reasons
from api.listening import accept_many_per_turn
from api.model_info import ModelInfo
from api.protocol import use_bounded_connections
from api.refused import behind_connection
from api.supervisor import SUPERVISOR_PID
from auth.anon_key import check_anon_key
from auth.claims import AUDIENCE, parse_roles
from auth.jwks import RemoteKeys
from auth.keys import InlineKeys, KeySet, KeySource, check_jwks, check_secret
from auth.tokens import TokenVerifier
from embedder.blank import PATTERN
from embedder.model import EmbeddingModel
from embedder.profile import PROFILE_FILE, Profile
from embedder.serving import ServedModel
from embedder.tasks import NO_TITLE, main_names
from environment import env_file, is_open_to_all
from errors import ConfigurationError
from gate.blocked import BlockedUsers, parse_blocked
from gate.gate import Gate, Route
from lifecycle import Lifecycle
from quota.quota import Quota, make_quota
from recording import record_pack, record_request
from settings import VERSION, load_settings

SETTINGS = load_settings()


@cache
def lifecycle() -> Lifecycle:
    """The beginning and end of this process."""
    parent = int(os.environ.get(SUPERVISOR_PID, os.getppid()))  # it may have ended during imports
    metrics.watch_supervisor(parent)
    return Lifecycle(
        shutdown_timeout=SETTINGS.shutdown_timeout,
        loop_timeout=SETTINGS.engine_timeout,
        parent=parent,
    )


@cache
def quota() -> Quota:
    """The quota of this process; connects to Redis when first used."""
    made = make_quota(
        redis_url=SETTINGS.redis_url,
        per_minute=SETTINGS.rate_limit_per_min,
        tokens_per_day=SETTINGS.tokens_per_day,
        on_error=SETTINGS.rate_limit_on_error,
        report_loss=metrics.QUOTA_LOST.inc,
    )
    metrics.QUOTA_DEGRADED.set_function(lambda: made.state == "degraded")
    return made


@cache
def blocked_users() -> BlockedUsers:
    """Whom the operator refuses. Raises ConfigurationError."""
    always = parse_blocked(SETTINGS.blocked_users, subject=SETTINGS.subject)
    return BlockedUsers(always, redis_url=SETTINGS.redis_url)


@cache
def verifier() -> TokenVerifier:
    """Checks tokens with the project's secret, its key set, or both.

    Raises:
        ConfigurationError: there is nothing to check tokens with, or a secret is not usable.
    """
    secret = (
        SETTINGS.supabase_jwt_secret.get_secret_value() if SETTINGS.supabase_jwt_secret else None
    )
    if secret:
        check_secret(secret, debug=SETTINGS.debug)
    if SETTINGS.subject == "any" and not (
        SETTINGS.supabase_jwt_issuer and SETTINGS.supabase_jwt_audience
    ):
        raise ConfigurationError(
            "SUBJECT=any wants to know whose users: set SUPABASE_JWT_ISSUER and SUPABASE_JWT_AUDIENCE "
            "to iss and aud of the provider's tokens"
        )
    public = _public_keys()
    if not secret and public is None:
        raise ConfigurationError(
            "set SUPABASE_JWT_SECRET (older projects) or SUPABASE_URL (projects with signing keys): "
            "without one of them no token can be checked"
        )
    return TokenVerifier(
        keys=KeySet(secret=secret, public=public),
        issuer=SETTINGS.supabase_jwt_issuer
        or (SETTINGS.supabase_url and f"{SETTINGS.supabase_url}/auth/v1"),
        allow_anonymous=SETTINGS.allow_anonymous_users,
        audience=SETTINGS.supabase_jwt_audience or AUDIENCE,
        roles=parse_roles(SETTINGS.allowed_roles),
        subject=SETTINGS.subject,
    )


async def check() -> None:
    """What can be known of the settings before the first request.

    Raises:
        ConfigurationError: of whatever a worker would make of them, and when the secret and the anon key
            do not belong together.
    """
    _gate(_nobody, routes={})
    if SETTINGS.supabase_anon_key:
        anon_key = SETTINGS.supabase_anon_key.get_secret_value()
        await check_anon_key(anon_key, verifier=verifier(), supabase_url=SETTINGS.supabase_url)


def warn_of_secrets_within_reach() -> None:
    """Say what more users or programs than need be could read."""
    path = env_file()
    if path and is_open_to_all(path):
        LOG.warning(f"env_file_is_readable_by_all_users: chmod 600 {path}")
    if SETTINGS.hf_token and "BENTOML_CONTAINERIZED" in os.environ:
        LOG.warning(
            "hf_token_in_the_container: only `make model` reads HF_TOKEN; start the container with -e HF_TOKEN="
        )


async def check_keys() -> bool:
    """Whether the key set is at hand. Raises ConfigurationError when it is, and lets nobody in."""
    keys = verifier().keys
    at_hand = await keys.start()
    if at_hand and keys.empty:
        raise ConfigurationError(
            "key_set_is_empty: every token is refused. The project signs with its secret: set "
            "SUPABASE_JWT_SECRET (Project Settings, JWT Keys, legacy secret) and start again"
        )
    return at_hand


async def fetch_keys() -> None:
    """Have the key set at hand before the first token, and say so where that will let nobody in."""
    try:
        if not await check_keys():
            LOG.warning(
                "key_set_cannot_be_fetched: check SUPABASE_URL; tokens with asymmetric keys get 503 meanwhile"
            )
    except ConfigurationError as error:  # a key may be published while this process serves
        LOG.error(str(error))


def _public_keys() -> KeySource | None:
    if SETTINGS.supabase_jwks:
        return InlineKeys(check_jwks(SETTINGS.supabase_jwks))
    base = SETTINGS.supabase_url
    if url := SETTINGS.supabase_jwks_url or (base and f"{base}/auth/v1/.well-known/jwks.json"):
        keys = RemoteKeys(url)
        metrics.watch_jwks_age(lambda: keys.age)
        return keys
    return None


def served_model(directory: Path) -> ServedModel:
    """The prepared model in `directory`, not yet loaded."""
    # With the engine at work, several threads tokenise a slice no sooner than one.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model = ServedModel(
        directory,
        num_threads=SETTINGS.num_threads,
        max_tokens=SETTINGS.max_seq_length,
        batch_tokens=SETTINGS.max_batch_tokens,
        batch_size=SETTINGS.max_batch_size,
        queue_tokens=SETTINGS.max_queue_tokens,
        user_queue_tokens=SETTINGS.max_user_queue_tokens,
        deadline=SETTINGS.engine_timeout,
        kernel=SETTINGS.native_kernel,
        report=partial(record_pack, batch_tokens=SETTINGS.max_batch_tokens),
        report_job=tracing.record_job,
    )
    metrics.QUEUE_TOKENS.set_function(lambda: model.queued_tokens)
    metrics.FORWARD_PASS.set_function(lambda: model.running_seconds)
    metrics.READY.set_function(lambda: model.serves and not lifecycle().stopping)
    return model


@cache
def model_info(directory: Path) -> ModelInfo:
    """What the prepared model in `directory` offers, from its profile and MODEL_ALIASES.

    Raises:
        ConfigurationError: an alias stands for a task that the model does not have.
    """
    profile = Profile.load(directory)
    return ModelInfo(
        models={**profile.names, **_aliases(profile)},
        tasks=tuple(profile.tasks),
        main_tasks=tuple(main_names(profile.tasks)),
        titles=any(NO_TITLE in prompt for prompt in profile.tasks.values()),
        blank=PATTERN,
        dimensions=profile.matryoshka,
        max_tokens=min(SETTINGS.max_seq_length, profile.max_tokens),
        created=int((directory / PROFILE_FILE).stat().st_mtime),
        fingerprint=profile.fingerprint,
    )


def _aliases(profile: Profile) -> dict[str, str | None]:
    named = (alias.strip().partition("=") for alias in SETTINGS.model_aliases.split(","))
    aliases = {name: task or None for name, _, task in named if name}
    for name, task in aliases.items():
        if task is not None and task not in profile.tasks:
            tasks = ", ".join(main_names(profile.tasks)) or "no task: name it without one"
            raise ConfigurationError(
                f"MODEL_ALIASES: {name}={task}, but {profile.model_id} has {tasks}"
            )
    return aliases


def show_model(model: EmbeddingModel) -> None:
    """The served model among the metrics."""
    profile = model.profile
    metrics.MODEL_INFO.labels(
        model=profile.model_id,
        revision=profile.revision,
        architecture=profile.architecture,
        quantization=profile.quantization,
        backend=profile.backend,
        kernel=model.engine.kernel,
        fingerprint=profile.fingerprint,
        version=VERSION,
    ).set(1)


def build_app(app: ASGIApp, service: EmbeddingService) -> ASGIApp:
    """The whole application: connection > edge > gate > BentoML."""
    configure_log(SETTINGS.log_format)
    use_bounded_connections(answer_timeout=SETTINGS.answer_timeout)
    accept_many_per_turn()
    tracing.configure(SETTINGS.otel_exporter_otlp_endpoint, version=VERSION)
    found = pages(service, models=service.model_info.models)
    routes = {page.path: Route(frozenset({"GET"}), protected=page.protected) for page in found}
    routes[SCHEMA_PATH] = Route(frozenset({"GET"}), protected=False)
    routes |= {
        api.route: Route(frozenset({"POST"}), protected=True) for api in service.apis.values()
    }
    posts = (api.route for api in service.apis.values())
    metrics.begin(posts, reasons=fault_reasons(), decisions={"admitted"} | refusal_reasons())
    gate = _gate(tracing.behind_gate(app), routes=routes)
    lifecycle().in_flight = lambda: gate.in_flight
    metrics.IN_FLIGHT.set_function(lambda: gate.in_flight)
    record = partial(
        record_request,
        open_to_all={path for path, route in routes.items() if not route.protected},
    )
    told = behind_connection(gate)
    edge = Edge(told, routes=routes, fingerprint=service.model_info.fingerprint, record=record)
    return tracing.around(edge, routes=routes)


def _gate(app: ASGIApp, *, routes: Mapping[str, Route]) -> Gate:
    """Raises ConfigurationError."""
    return Gate(
        app,
        routes=routes,
        verifier=verifier(),
        quota=quota(),
        max_body_bytes=SETTINGS.max_body_bytes,
        body_timeout=SETTINGS.body_timeout,
        max_in_flight=SETTINGS.max_in_flight,
        max_concurrent_per_user=SETTINGS.max_concurrent_per_user,
        failed_auth_per_minute=SETTINGS.failed_auth_per_min,
        trusted_proxies=SETTINGS.forwarded_allow_ips,
        cors_allow_origins=[
            origin.strip() for origin in SETTINGS.cors_allow_origins.split(",") if origin.strip()
        ],
        ready=lambda: not lifecycle().stopping,
        blocked=blocked_users(),
    )


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """An application behind a gate that is only made to see whether it can be."""
