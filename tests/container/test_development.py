"""The secret of a machine that no setting gives one."""

import stat
from collections.abc import Mapping
from pathlib import Path

import jwt
import pytest

from container.development import development_token, first_call, names_callers, own_secret
from settings import NAMES, Settings


def test_a_secret_is_random_kept_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    secret = own_secret(first)
    assert len(secret) >= 32
    assert own_secret(first) == secret
    assert own_secret(second) != secret
    [path] = first.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_start_that_was_killed_leaves_a_whole_secret_to_the_next(tmp_path: Path) -> None:
    own_secret(tmp_path)
    [path] = tmp_path.iterdir()
    path.rename(path.with_suffix(".99999"))
    path.with_suffix(".99999").write_text("half")
    assert len(own_secret(tmp_path)) >= 32


def test_without_a_directory_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"set SUPABASE_JWT_SECRET, or mount"):
        own_secret(tmp_path / "none")


@pytest.mark.parametrize(
    "name", sorted(name for name in NAMES if name.startswith(("SUPABASE_", "SERVICE_KEYS")))
)
def test_every_setting_that_says_who_is_served_ends_development(name: str) -> None:
    assert names_callers({name: "value"})
    assert names_callers({name.lower(): "value"})  # the service reads it too


@pytest.mark.parametrize(
    "environment", [{}, {"SUPABASE_URL": ""}, {"MODEL_NAME": "x", "REDIS_URL": "redis://redis"}]
)
def test_other_settings_do_not(environment: Mapping[str, str]) -> None:
    assert not names_callers(environment)


def test_the_first_call_has_a_token_of_the_secret(tmp_path: Path) -> None:
    secret = own_secret(tmp_path)
    settings = Settings(supabase_jwt_secret=secret)
    text = first_call(settings, "http://127.0.0.1:8000", another="another", stop="stop")
    token = text.split("Bearer ")[1].split("'")[0]
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="authenticated")
    assert claims["role"] == "authenticated"
    assert "curl http://127.0.0.1:8000/similarity \\\n" in text


@pytest.mark.parametrize("playground", [True, False])
def test_the_first_call_names_the_page_to_try_it_on_if_there_is_one(
    playground: bool, tmp_path: Path
) -> None:
    settings = Settings(supabase_jwt_secret=own_secret(tmp_path), playground=playground)
    text = first_call(settings, "http://127.0.0.1:8000", another="another", stop="stop")
    assert ("http://127.0.0.1:8000/playground" in text) == playground


def test_a_user_id_has_to_be_a_uuid(tmp_path: Path) -> None:
    settings = Settings(supabase_jwt_secret=own_secret(tmp_path))
    with pytest.raises(SystemExit, match="UUID"):
        development_token(settings, "me")
