"""Settings: what is accepted, and what is said of the rest."""

import sys
from pathlib import Path

import pytest
from annotated_types import Le
from bentoml._internal.service.loader import import_service
from hypothesis import given
from hypothesis import strategies as st

from environment import env_file, misspelt
from settings import NAMES, Settings, load_settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    load_settings.cache_clear()
    env_file.cache_clear()


def test_defaults_stand_when_nothing_is_set() -> None:
    settings = load_settings()
    assert (settings.model_name, settings.model_quantization, settings.rate_limit_per_min) == (
        None,
        "int8",
        10,
    )


def test_an_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "")
    assert load_settings().redis_url is None


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("RATE_LIMIT_PER_MIN=5\nMAX_BATCH_SIZE=4\n")
    monkeypatch.setenv("RATE_LIMIT_PER_MIN", "6")
    assert (load_settings().rate_limit_per_min, load_settings().max_batch_size) == (6, 4)


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "80000")
    monkeypatch.setenv("MODEL_BACKEND", "tensorflow")
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert "PORT: " in str(ended.value)
    assert "MODEL_BACKEND: " in str(ended.value)


def test_a_wrong_secret_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis:/user:hunter2@host")
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert "hunter2" not in str(ended.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_LIMIT_PER_MIN", "many"),
        ("HOST", "my-host"),
        ("MODEL_QUANTIZATION", "int4"),
        ("MODEL_ALIASES", "a b"),
    ],
)
def test_a_wrong_value_is_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"{name}: .*\(it is '{value}'\)"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUPABASE_URL", "postgresql://postgres:hunter2@db.example.com"),
        ("SUPABASE_URL", "https://me:hunter2@db.example.com/auth/v1"),
        ("SUPABASE_URL", "eyJhbGciOiJIUzI1NiJ9.hunter2"),
        ("MODEL_QUANTIZATION", "hf_hunter2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector?key=hunter2"),
    ],
)
def test_what_may_be_a_secret_in_the_wrong_place_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert name in str(ended.value)
    assert "hunter2" not in str(ended.value)


def test_a_host_may_be_called_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "localhost")
    assert str(load_settings().host) == "127.0.0.1"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:p%2Fss@localhost:6379/0",
        "rediss://user:pass@[::1]:6380/1?ssl_cert_reqs=none&health_check_interval=30",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_every_form_of_a_redis_url_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load_settings().redis_url == url


@pytest.mark.parametrize("mark", ["/", "#", "?", "/#?", "12/34", "12#", "12?"])
def test_a_redis_password_that_would_end_the_host_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://user:{mark}hunter2@localhost:6379")
    with pytest.raises(SystemExit, match=r"REDIS_URL: .*as %2F") as ended:
        load_settings()
    assert "hunter2" not in str(ended.value)


@pytest.mark.parametrize("path", ["/auth/v1", "/rest/v1/", "?apikey=x", "/#"])
def test_a_project_url_with_a_path_is_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("SUPABASE_URL", f"https://abc.supabase.co{path}")
    with pytest.raises(SystemExit, match=r"should end after the host: https://abc\.supabase\.co"):
        load_settings()


def test_a_project_url_may_end_with_a_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://localhost:54321/")
    assert load_settings().supabase_url == "http://localhost:54321"


def test_secrets_do_not_show_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_JWT_SECRET", "hunter2" * 8)
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize(
    "name", ["RATE_LIMIT_PER_MINUTE", "SUPABASE_JWT_SECERT", "REDIS_URI", "MODEL_QUANTISATION"]
)
def test_a_misspelt_name_is_told_the_right_one(name: str) -> None:
    [complaint] = misspelt([name], NAMES, cutoff=0.88)
    assert complaint.startswith(f"{name} is not a setting")


@pytest.mark.parametrize(
    "name", ["OMP_NUM_THREADS", "HF_HOME", "REDIS_PORT", "PATH", "BENTOML_HOME", "DEBUGINFOD_URLS"]
)
def test_names_of_other_programs_are_left_alone(name: str) -> None:
    assert not misspelt([name], NAMES, cutoff=0.88)


@given(st.sampled_from(sorted(NAMES)), st.integers(0, 30))
def test_one_lost_letter_is_always_noticed(name: str, place: int) -> None:
    shorter = name[: place % len(name)] + name[place % len(name) + 1 :]
    if len(name) > 6 and shorter not in NAMES and not name.startswith("OTEL_"):
        assert misspelt([shorter], NAMES, cutoff=0.88)


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_backend_of_an_earlier_version_is_told_what_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_BACKEND", "onnx")
    with pytest.raises(SystemExit, match=r"MODEL_BACKEND: .*use native, and run `make model`"):
        load_settings()


def test_every_number_has_a_largest_value() -> None:
    """Infinity is no time to wait, and no counter takes every number."""
    for name, field in Settings.model_fields.items():
        if field.annotation in (int, float, int | None, float | None):
            assert any(isinstance(bound, Le) for bound in field.metadata), name


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_a_time_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BODY_TIMEOUT", value)
    with pytest.raises(SystemExit, match="BODY_TIMEOUT: "):
        load_settings()


def test_the_file_of_where_the_service_was_started_is_read_from_a_bento(tmp_path: Path) -> None:
    """BentoML is in the Bento's directory while it imports the service."""
    (tmp_path / ".env").write_text("RATE_LIMIT_PER_MIN=5\n")
    bento = tmp_path / "bento"
    bento.mkdir()
    (bento / "reads_settings.py").write_text(
        "import bentoml\n"
        "from settings import load_settings\n"
        "LIMIT = load_settings().rate_limit_per_min\n"
        "@bentoml.service\nclass Service: ...\n"
    )
    import_service("reads_settings:Service", working_dir=str(bento))
    assert sys.modules["reads_settings"].LIMIT == 5


def test_one_users_share_of_the_queue_is_within_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_QUEUE_TOKENS", "65536")
    with pytest.raises(SystemExit, match=r"MAX_USER_QUEUE_TOKENS: .*MAX_QUEUE_TOKENS.*65536"):
        load_settings()
    monkeypatch.setenv("MAX_USER_QUEUE_TOKENS", "65536")
    assert load_settings().max_user_queue_tokens == 65536
