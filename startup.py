"""What a process does before its first request and after its last one."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.types import Receive, Scope, Send

import metrics
import tracing
from access import Access, make_access, make_gate
from auth.anon_key import check_anon_key
from auth.keys import KeySet
from batches.directory import Directory
from embedder.model import EmbeddingModel, check_backend
from embedder.profile import Profile
from environment import env_file, is_open_to_all
from errors import ConfigurationError
from settings import VERSION, Settings
from wiring import Parts, make_cache, read_model_info

LOG = logging.getLogger("embedding_api")
LOADING = 5  # times ENGINE_TIMEOUT that a model may take to load: a disk that hangs raises nothing


async def check_settings(settings: Settings) -> None:
    """Check what can be known of the settings before the first request.

    Raises:
        ConfigurationError: a worker could not be made of them, or the secret and the anon key do
            not belong together.
    """
    access = make_access(settings)
    make_gate(_no_app, settings, access, routes={})
    make_cache(settings, dimensions=1, fingerprint="")
    if settings.batch_directory is not None:
        await asyncio.to_thread(Directory(settings.batch_directory).check)
    if settings.supabase_anon_key:
        anon_key = settings.supabase_anon_key.get_secret_value()
        await check_anon_key(anon_key, verifier=access.verifier, supabase_url=settings.supabase_url)


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands behind a gate that is only made to see whether it can be."""


def check_model(settings: Settings, directory: Path) -> None:
    """Check that the prepared model in `directory` is whole and can be served here.

    Raises:
        ConfigurationError: MODEL_ALIASES does not fit the model.
        EmbedderError: a file is missing or changed, or the backend is not there.
    """
    profile = Profile.load(directory)
    profile.check_files(directory)
    check_backend(profile.backend, kernel=settings.native_kernel)
    read_model_info(settings, directory)


async def check_keys(keys: KeySet) -> bool:
    """Whether the key set could be fetched.

    Raises:
        ConfigurationError: it was fetched and has no key, so every token would be refused.
    """
    fetched = await keys.start()
    if fetched and keys.empty:
        raise ConfigurationError(
            "key_set_is_empty: every token is refused. The project signs with its secret: set "
            "SUPABASE_JWT_SECRET (Project Settings, JWT Keys, legacy secret) and start again"
        )
    return fetched


async def start(parts: Parts, *, start_batches: Callable[[], Awaitable[None]]) -> None:
    """Connect to Redis, fetch keys, run batches, and load the model or end the process."""
    settings, access = parts.settings, parts.access
    if not await access.quota.start():
        LOG.warning(
            "redis_does_not_answer: check REDIS_URL; limits are counted as RATE_LIMIT_ON_ERROR says"
        )
    await access.blocked_users.start()
    await access.service_keys.start()
    await start_batches()
    _warn_of_readable_secrets(settings)
    _tell_who_is_served(access)
    await _fetch_keys(access.verifier.keys)
    await _load_model(parts)


def _warn_of_readable_secrets(settings: Settings) -> None:
    """Warn of secrets that more users or programs than necessary can read."""
    path = env_file()
    if path and is_open_to_all(path):
        LOG.warning(f"env_file_is_readable_by_all_users: chmod 600 {path}")
    if settings.hf_token and "BENTOML_CONTAINERIZED" in os.environ:
        LOG.warning(
            "hf_token_in_the_container: only `make model` reads HF_TOKEN; start the container with "
            "-e HF_TOKEN="
        )


def _tell_who_is_served(access: Access) -> None:
    """Log what an operator may not expect: that no user is served, or nobody."""
    if access.verifier.keys.absent:
        LOG.info("machines_alone_are_served: no project is set, so users get 403")
        if not access.service_keys.count:
            LOG.warning("nobody_is_served: SERVICE_KEYS_FILE has no key yet")


async def _fetch_keys(keys: KeySet) -> None:
    """Fetch the key set before the first token comes, and log why that fails."""
    try:
        if not await check_keys(keys):
            LOG.warning(
                "key_set_cannot_be_fetched: check SUPABASE_URL; tokens with asymmetric keys get "
                "503 meanwhile"
            )
    except ConfigurationError as error:  # a key may be published while this process serves
        LOG.error(str(error))


async def _load_model(parts: Parts) -> None:
    try:
        async with asyncio.timeout(LOADING * parts.settings.engine_timeout):
            seconds = await parts.embedder.start()
    except Exception as error:
        # The next worker may have the memory, or the file, that this one lacked.
        await parts.lifecycle.give_up("model_cannot_be_loaded", error)
        raise
    model = parts.embedder.model
    _show_model(model)
    fields = {
        "model": model.profile.model_id,
        "kernel": model.engine.kernel,
        "seconds": round(seconds, 2),
    }
    LOG.info("model_loaded_successfully", extra={"fields": fields})


def _show_model(model: EmbeddingModel) -> None:
    """Show the served model among the metrics."""
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


async def stop(parts: Parts) -> None:
    """End the engine's thread and close connections, once every request has been answered."""
    access = parts.access
    if parts.batches is not None:
        await parts.batches.close()
    await parts.embedder.close()
    await parts.cached.aclose()
    await access.quota.aclose()
    await access.blocked_users.aclose()
    await access.service_keys.aclose()
    await access.verifier.keys.aclose()
    await asyncio.to_thread(tracing.shutdown)
