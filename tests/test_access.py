"""Who can call: a project's users, machines, or both, and never nobody."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from access import make_access
from errors import ConfigurationError
from lab.server import SECRET
from lab.service_keys import KEY
from settings import NAMES, Settings

ENTRY = f"indexer:{hashlib.sha256(KEY.encode()).hexdigest()}"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize("keys", [{}, {"service_keys": ENTRY}])
def test_a_project_with_or_without_machines_is_served(keys: dict[str, str]) -> None:
    access = make_access(settings(supabase_jwt_secret=SECRET, **keys))
    assert not access.verifier.keys.absent
    assert access.service_keys.count == len(keys)


def test_machines_are_served_without_a_project() -> None:
    access = make_access(settings(service_keys=ENTRY))
    assert access.verifier.keys.absent
    assert access.service_keys.count == 1


@pytest.mark.parametrize("content", ["", f"# the indexer\n{ENTRY}\n"])
def test_a_file_of_keys_may_be_filled_later(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    access = make_access(settings(service_keys_file=file))
    assert access.verifier.keys.absent
    assert access.service_keys.count == (ENTRY in content)


@pytest.mark.parametrize("keys", [None, "", " , ", "# indexer"])
def test_a_service_that_nobody_could_call_does_not_start(keys: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"SUPABASE_JWT_SECRET .* SERVICE_KEYS"):
        make_access(settings(service_keys=keys))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("supabase_anon_key", "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"),
        ("supabase_jwt_issuer", "https://example.com"),
        ("supabase_jwt_audience", "my-app"),
    ],
)
def test_a_project_without_its_keys_is_told_although_there_are_machines(
    name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name.upper()} is set, .* remove"):
        make_access(settings(service_keys=ENTRY, **{name: value}))


def test_a_key_that_was_removed_and_a_blocked_user_are_not_served(tmp_path: Path) -> None:
    access = make_access(
        settings(
            supabase_jwt_secret=SECRET,
            service_keys=ENTRY,
            blocked_users="6b0e6f4e-53f2-4f7d-9c0a-1a2b3c4d5e6f,service:blocked",
        )
    )
    served = {
        "service:indexer": True,
        "service:removed": False,
        "service:blocked": False,
        "6b0e6f4e-53f2-4f7d-9c0a-1a2b3c4d5e6f": False,
        "0d7c2d5e-1111-4222-8333-444455556666": True,
    }
    assert {user: access.serves(user) for user in served} == served
