"""Every rule of the claims, one test each."""

from __future__ import annotations

from typing import Any

import pytest

from auth.errors import TokenExpired, TokenForbidden, TokenInvalid
from auth.tokens import TokenVerifier
from lab.signing import ISSUER, NOW, SESSION, USER, Project, claims, sign_hs256
from tests.auth.project import SIGNED_IN


@pytest.mark.parametrize(
    "issuer", [..., None, "", ISSUER + "/", ISSUER.upper(), "https://evil.example", [ISSUER]]
)
async def test_other_issuer_is_refused(
    verifier: TokenVerifier, project: Project, issuer: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(iss=issuer))


@pytest.mark.parametrize(
    "expiry",
    [
        ...,
        None,
        "",
        str(NOW + 60),
        True,
        [NOW + 60],
        {},
        -1,
        1e300,
        10**400,
        float("inf"),
        float("nan"),
    ],
)
async def test_expiry_must_be_a_plausible_number(
    verifier: TokenVerifier, project: Project, expiry: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(exp=expiry))


@pytest.mark.parametrize("expiry", [0, NOW - 1, NOW])
async def test_expired_token_is_refused_as_expired(
    verifier: TokenVerifier, project: Project, expiry: float
) -> None:
    with pytest.raises(TokenExpired):
        await verifier.verify(project.hs256(exp=expiry))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
@pytest.mark.parametrize("value", [NOW + 61, "soon", None, True, [], 10**400])
async def test_token_from_the_future_is_refused(
    verifier: TokenVerifier, claim: str, value: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(sign_hs256(claims(**{claim: value})))


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_clocks_may_differ_by_a_minute(verifier: TokenVerifier, claim: str) -> None:
    assert await verifier.verify(sign_hs256(claims(**{claim: NOW + 60}))) == SIGNED_IN


@pytest.mark.parametrize(
    "audience", [..., None, "", "anon", [], ["anon"], [["authenticated"]], {"authenticated": 1}, 1]
)
async def test_other_audience_is_refused(
    verifier: TokenVerifier, project: Project, audience: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(aud=audience))


@pytest.mark.parametrize(
    "subject",
    [
        ...,
        None,
        "",
        "admin",
        7,
        [USER],
        USER + "\n",
        " " + USER,
        "{" + USER + "}",
        USER.replace("-", ""),
        "６" + USER[1:],
    ],
)
async def test_subject_must_be_a_uuid(
    verifier: TokenVerifier, project: Project, subject: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(sub=subject))


@pytest.mark.parametrize("session", ["x", 7, [SESSION], SESSION + "0"])
async def test_session_must_be_a_uuid_if_there_is_one(
    verifier: TokenVerifier, project: Project, session: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(session_id=session))


@pytest.mark.parametrize(
    "role", [..., None, "", "postgres", "Authenticated", ["authenticated"], "anon", "service_role"]
)
async def test_other_role_is_forbidden(
    verifier: TokenVerifier, project: Project, role: Any
) -> None:
    with pytest.raises(TokenForbidden):
        await verifier.verify(project.hs256(role=role))


async def test_anonymous_user_is_forbidden(verifier: TokenVerifier, project: Project) -> None:
    with pytest.raises(TokenForbidden, match="Sign in"):
        await verifier.verify(project.hs256(is_anonymous=True))


@pytest.mark.parametrize("anonymous", ["true", 1, None, []])
async def test_anonymity_must_be_a_boolean(
    verifier: TokenVerifier, project: Project, anonymous: Any
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(project.hs256(is_anonymous=anonymous))
