"""From settings to who is let in: tokens, service keys, quotas, blocked users, and the gate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from starlette.types import ASGIApp

import metrics
from auth.authenticator import Authenticator
from auth.claims import AUDIENCE, parse_roles
from auth.jwks import RemoteKeys
from auth.keys import InlineKeys, KeySet, KeySource, check_jwks, check_secret
from auth.principal import SERVICE
from auth.service_key_list import CallerLimits
from auth.service_keys import ServiceKeys
from auth.tokens import TokenVerifier
from errors import ConfigurationError
from gate.blocked import BlockedUsers, parse_blocked
from gate.gate import Gate, Route
from quota.guarded import make_quota
from quota.quota import Quota
from quota.receipt import WINDOW, Limits
from settings import Settings

#: Settings that say which users are served, and are of no use without keys to check tokens with.
_OF_USERS = ("supabase_anon_key", "supabase_jwt_issuer", "supabase_jwt_audience")
_PROJECT = "set SUPABASE_JWT_SECRET (older projects) or SUPABASE_URL (projects with signing keys)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who is let in, and how much each of them may use."""

    verifier: TokenVerifier
    public_keys: KeySource | None
    service_keys: ServiceKeys
    quota: Quota
    blocked_users: BlockedUsers

    def serves(self, user_id: str) -> bool:
        """Whether a caller who was let in before may still be served.

        Not if they are blocked, or a service whose keys were all removed.
        """
        removed = user_id.startswith(SERVICE) and self.service_keys.limits_of(user_id) is None
        return not removed and user_id not in self.blocked_users


def make_access(settings: Settings) -> Access:
    """Connects to nothing yet.

    Raises:
        ConfigurationError: nobody could call, or a value is not usable.
    """
    public_keys = _public_keys(settings)
    verifier = _make_verifier(settings, public_keys)
    service_keys = _make_service_keys(settings)
    _check_callers(settings, verifier.keys, service_keys)
    blocked = parse_blocked(settings.blocked_users, subject=settings.subject)
    return Access(
        verifier=verifier,
        public_keys=public_keys,
        service_keys=service_keys,
        quota=make_quota(
            redis_url=settings.redis_url,
            per_minute=settings.rate_limit_per_min,
            tokens_per_day=settings.tokens_per_day,
            on_error=settings.rate_limit_on_error,
            own_limits=partial(limits_of_service, service_keys),
            report_loss=metrics.QUOTA_LOST.inc,
        ),
        blocked_users=BlockedUsers(blocked, redis_url=settings.redis_url),
    )


def _make_verifier(settings: Settings, public_keys: KeySource | None) -> TokenVerifier:
    """Checks tokens with the project's secret, its key set, or both; with neither, refuses all."""
    secret = settings.supabase_jwt_secret and settings.supabase_jwt_secret.get_secret_value()
    if secret:
        check_secret(secret, debug=settings.debug)
    if settings.subject == "any" and not (
        settings.supabase_jwt_issuer and settings.supabase_jwt_audience
    ):
        raise ConfigurationError(
            "SUBJECT=any needs to know whose users these are: set SUPABASE_JWT_ISSUER and "
            "SUPABASE_JWT_AUDIENCE to iss and aud of the provider's tokens"
        )
    issuer = settings.supabase_url and f"{settings.supabase_url}/auth/v1"
    return TokenVerifier(
        keys=KeySet(secret=secret or None, public=public_keys),
        issuer=settings.supabase_jwt_issuer or issuer,
        allow_anonymous=settings.allow_anonymous_users,
        audience=settings.supabase_jwt_audience or AUDIENCE,
        roles=parse_roles(settings.allowed_roles),
        subject=settings.subject,
    )


def _make_service_keys(settings: Settings) -> ServiceKeys:
    return ServiceKeys(
        settings.service_keys.get_secret_value() if settings.service_keys else "",
        file=settings.service_keys_file,
        users=CallerLimits(settings.rate_limit_per_min, settings.tokens_per_day),
    )


def _check_callers(settings: Settings, keys: KeySet, service_keys: ServiceKeys) -> None:
    """Check that a project's users, machines, or both can call. Raises ConfigurationError."""
    if not keys.absent:
        return
    unused = [name.upper() for name in _OF_USERS if getattr(settings, name)]
    if unused:
        raise ConfigurationError(
            f"{unused[0]} is set, but no token can be checked: {_PROJECT}, or remove {unused[0]} "
            "to serve machines alone"
        )
    if not service_keys.count and settings.service_keys_file is None:
        raise ConfigurationError(
            f"nobody could call: {_PROJECT} to serve users, SERVICE_KEYS or SERVICE_KEYS_FILE to "
            "serve machines, or both"
        )


def limits_of_service(keys: ServiceKeys, user_id: str) -> Limits | None:
    """The limits of a service; None for users."""
    own = keys.limits_of(user_id)
    return None if own is None else Limits(own.requests, WINDOW, own.tokens)


def _public_keys(settings: Settings) -> KeySource | None:
    if settings.supabase_jwks:
        return InlineKeys(check_jwks(settings.supabase_jwks))
    if settings.supabase_jwks_url:
        return RemoteKeys(settings.supabase_jwks_url)
    if settings.supabase_url:
        return RemoteKeys(f"{settings.supabase_url}/auth/v1/.well-known/jwks.json")
    return None


def make_gate(
    app: ASGIApp,
    settings: Settings,
    access: Access,
    *,
    routes: Mapping[str, Route],
    ready: Callable[[], bool] = lambda: True,
) -> Gate:
    """`app` behind the gate. Raises ConfigurationError."""
    origins = (origin.strip() for origin in settings.cors_allow_origins.split(","))
    return Gate(
        app,
        routes=routes,
        authenticator=Authenticator(access.verifier, access.service_keys),
        quota=access.quota,
        blocked=access.blocked_users,
        max_body_bytes=settings.max_body_bytes,
        body_timeout=settings.body_timeout,
        max_in_flight=settings.max_in_flight,
        max_concurrent_per_user=settings.max_concurrent_per_user,
        failed_auth_per_minute=settings.failed_auth_per_min,
        trusted_proxies=settings.forwarded_allow_ips,
        cors_allow_origins=[origin for origin in origins if origin],
        ready=ready,
    )
