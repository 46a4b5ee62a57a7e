"""Every environment variable of the service, read once into one frozen object."""

import os
import sys
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from environment import env_file, file_values, misspelt, wrong
from model_settings import ModelSettings
from setting_types import Address, Directory, RedisUrl, Url, UrlOfHost

# BentoML sends usage data by default; it reads this when it is first imported.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

VERSION = "0.1.0"
_WITH_SECRETS = {"redis_url", "supabase_jwks", "otel_exporter_otlp_endpoint"}


class Settings(ModelSettings):
    """Field names in capitals are the names of variables; descriptions are for the documents."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False,
        hide_input_in_errors=True, protected_namespaces=(),
    )  # fmt: skip

    supabase_jwt_secret: SecretStr | None = Field(
        None, description="JWT secret of the Supabase project (HS256), at least 32 bytes"
    )
    supabase_url: UrlOfHost | None = Field(
        None, description="Supabase project URL; its issuer is then required of every token"
    )
    supabase_anon_key: SecretStr | None = Field(
        None,
        description="Public anon or publishable key; checked at start to catch a wrong secret, "
        "never accepted. With `SUPABASE_URL`, users can sign in on `/playground`",
    )
    supabase_jwt_issuer: str | None = Field(
        None, description="Issuer to require instead of `{SUPABASE_URL}/auth/v1`"
    )

    supabase_jwks: str | None = Field(
        None,
        description="The project's key set as JSON, for machines that cannot reach `SUPABASE_URL`",
    )
    supabase_jwks_url: Url | None = Field(
        None,
        description="URL of the key set instead, for third-party auth (Clerk, Auth0, Firebase)",
    )
    supabase_jwt_audience: str | None = Field(
        None, description="Audience to require; unset for `authenticated`"
    )
    subject: Literal["uuid", "any"] = Field(
        "uuid",
        description="Form of user ids: `any` for third-party auth, which also needs "
        "`SUPABASE_JWT_ISSUER` and `SUPABASE_JWT_AUDIENCE`",
    )
    allowed_roles: str = Field(
        "authenticated", description="Roles of users who are served, separated by commas"
    )
    allow_anonymous_users: bool = Field(False, description="Serve users who signed in anonymously")

    blocked_users: str = Field(
        "",
        description="User ids that are refused, separated by commas; those of the Redis set "
        "`blocked_users` are refused too, within seconds",
    )

    service_keys: SecretStr | None = Field(
        None,
        description="Keys for machines, each `NAME:SHA256`, separated by commas; "
        "`make service-key` makes one. With keys, the service needs no project",
    )
    service_keys_file: Path | None = Field(
        None,
        description="File with more of them, one per line; a change counts within seconds, without "
        "a restart",
    )

    redis_url: RedisUrl | None = Field(
        None, description="Redis for quotas; unset counts in memory, exact for one process"
    )
    rate_limit_per_min: int = Field(
        10, ge=1, le=10**9, description="Requests a user may make in any 60 seconds"
    )
    rate_limit_on_error: Literal["local", "open", "closed"] = Field(
        "local",
        description="While Redis is away: count in memory, let everybody in, or refuse with 503",
    )
    tokens_per_day: int | None = Field(
        None,
        ge=1,
        le=10**12,
        description="Tokens a user may spend in a UTC day; unset for no limit",
    )

    max_concurrent_per_user: int = Field(
        16, ge=1, le=10**6, description="Requests of one user in flight"
    )
    max_in_flight: int = Field(
        256,
        ge=1,
        le=10**6,
        description="Requests of all users in flight; up to twice that for users who have none",
    )
    failed_auth_per_min: int = Field(
        60,
        ge=1,
        le=10**9,
        description="Bad tokens per address and minute that get their own error; more get 429",
    )
    body_timeout: float = Field(
        20.0,
        gt=0,
        le=3600,
        description=(
            "Seconds a request body may take to arrive; "
            "a large one may wait for room three times as long"
        ),
    )
    answer_timeout: float = Field(
        30.0, gt=0, le=3600, description="Seconds a client may read nothing of its answer"
    )
    cors_allow_origins: str = Field(
        "", description="Origins of web pages that may call, separated by commas; `*` for all"
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1", description="Proxies whose `X-Forwarded-For` counts, separated by commas"
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="One JSON object per line, or text"
    )

    playground: bool = Field(
        True, description="Serve `/playground`, a page that tries the service in a browser"
    )

    max_texts_per_request: int = Field(
        2048, ge=1, le=4096, description="Texts in one request; OpenAI's clients send up to 2048"
    )
    max_body_bytes: int = Field(
        8388608,
        ge=1024,
        le=2**30,
        description="Bytes of a request body, and of all large bodies of a user at once; four "
        "times as many of all users",
    )
    host: Address = Field(
        IPv4Address("127.0.0.1"), description="Address to listen on; the image listens on all"
    )
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on; the image's is 8000")
    otel_exporter_otlp_endpoint: Url | None = Field(
        None, description="OpenTelemetry collector (OTLP over HTTP) for traces; unset for none"
    )
    shutdown_timeout: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Seconds for requests in flight after SIGTERM; those that wait longer get 503",
    )
    batch_directory: Directory | None = Field(
        None,
        description="Directory on a local disk for OpenAI's batches and their files, which hold "
        "texts; unset: no batches",
    )
    batch_file_bytes: int = Field(
        33_554_432, ge=1024, le=2**30, description="Bytes of one uploaded file"
    )
    batch_bytes_per_user: int = Field(
        2**30, ge=2**20, le=2**50, description="Bytes of a user's files, answers included"
    )
    batch_bytes: int = Field(
        4 * 2**30, ge=2**20, le=2**50, description="Bytes of all files of batches"
    )
    batch_retention_hours: float = Field(
        168.0, gt=0, le=87_600, description="Hours until a file, or a batch that ended, is deleted"
    )
    batch_tokens_per_day: int | None = Field(
        None, ge=1, le=10**12,
        description="Tokens of a user's batches in a UTC day, counted apart; unset: as many as "
        "`TOKENS_PER_DAY`",
    )  # fmt: skip
    debug: bool = Field(
        False, description="Development: accept Supabase's published example secrets"
    )


NAMES = frozenset(map(str.upper, Settings.model_fields))
_SECRET = _WITH_SECRETS | {
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}


@cache
def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        SystemExit: a value is wrong, or a name is almost that of a setting; the message names each
            and says what is expected.
    """
    # 0.88 finds one or two wrong letters, and not other programs' names (OMP_NUM_THREADS: 0.85).
    # The file holds our settings alone, so a looser likeness is a mistake there.
    complaints = misspelt(os.environ, NAMES, cutoff=0.88) + misspelt(
        file_values().keys() - os.environ, NAMES, cutoff=0.7
    )
    try:
        settings = Settings(_env_file=env_file())
    except ValidationError as error:
        complaints += wrong(error, secret=_SECRET)
    if complaints:
        sys.exit("embedding-api: settings are wrong:\n  " + "\n  ".join(complaints))
    return settings
