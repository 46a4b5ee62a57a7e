"""From settings to objects: whatever a setting is, the start goes on or ends with one line."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.bento import EmbeddingService
from api.playground.page import PATHS
from environment import env_file
from errors import ConfigurationError
from lab.server import SECRET
from routing import gate_routes, served_pages
from service import EmbeddingAPI
from settings import NAMES, Settings, load_settings
from startup import check_settings

PASSWORD = "hunter2"
URLS = ("https://", "redis://", "redis://:", f"redis://me:{PASSWORD}", "unix://", "http://[")
PARTS = (*URLS, PASSWORD, "localhost", "10.0.0.0/8", "*", ":", "/", "@", "?", "#", "=", ",", "6379")
# What a person may put into a setting: pieces of what belongs there, numbers, and anything else.
VALUES = (
    st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
)


@contextmanager
def only(name: str, value: str) -> Iterator[None]:
    """An environment with one setting besides the secret."""
    with pytest.MonkeyPatch.context() as patch:
        for other in NAMES:
            patch.delenv(other, raising=False)
        patch.setenv("SUPABASE_JWT_SECRET", SECRET)
        patch.setenv(name, value)
        forget()
        yield
    forget()


def forget() -> None:
    """What the process has read of its environment."""
    env_file.cache_clear()
    load_settings.cache_clear()


def started(name: str, value: str) -> str:
    """What is said when the start ends, or nothing."""
    try:
        with only(name, value):
            asyncio.run(check_settings(load_settings()))
    except (SystemExit, ConfigurationError) as error:
        return str(error)
    return ""


@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(sorted(NAMES)), value=VALUES)
def test_whatever_a_setting_is_the_start_goes_on_or_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    said = started(name, value)
    assert len(said.removeprefix("embedding-api: settings are wrong:\n").splitlines()) <= 1
    if name == "REDIS_URL":
        assert PASSWORD not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://localhost:99999"),
        ("REDIS_URL", "redis://localhost?no_such_option=1"),
        ("FORWARDED_ALLOW_IPS", "my-proxy"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
        ("CORS_ALLOW_ORIGINS", "app.example.com"),
        ("CORS_ALLOW_ORIGINS", "https://app.example.com/path"),
        ("ALLOWED_ROLES", "anon"),
        ("SUPABASE_JWKS", "{}"),
        ("SERVICE_KEYS", "indexer:0123"),
        ("CACHE_REDIS_BYTES", "2000000"),
        ("SERVICE_KEYS_FILE", "/nowhere/keys"),
        ("BATCH_DIRECTORY", "/nowhere/batches"),
        ("BATCH_DIRECTORY", "/"),
        ("BATCH_DIRECTORY", "batches"),
    ],
)
def test_what_only_the_gate_understands_is_looked_at_before_any_worker_starts(
    name: str, value: str
) -> None:
    assert name in started(name, value)


@pytest.mark.parametrize("playground", [True, False])
def test_the_playground_can_be_switched_off_and_takes_no_other_page_with_it(
    playground: bool,
) -> None:
    service = cast(EmbeddingService, EmbeddingAPI)
    found = served_pages(Settings(playground=playground), service, models=["a"])
    paths = gate_routes(service, found, form_bytes=1).keys()
    assert {path for path in paths if "playground" in path} == (set(PATHS) if playground else set())
    assert {"/docs", "/usage", "/v1/models/a", "/metrics", "/embed"} <= paths
