"""Whose tokens are served: other roles, third-party auth, the same project by another URL."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from auth.claims import parse_roles
from auth.errors import TokenForbidden, TokenInvalid
from auth.keys import InlineKeys, KeySet, parse_jwks
from auth.tokens import MAX_ISSUERS, TokenVerifier
from errors import ConfigurationError
from lab.signing import ISSUER, SECRET, USER, Clock, Project, jwks, public_jwk, rsa_key

CLERK = "https://clerk.example.com"


def verifier_with(**rules: Any) -> TokenVerifier:
    """A verifier of the project's secret with other `rules` than the usual ones."""
    usual = {
        "keys": KeySet(secret=SECRET),
        "issuer": ISSUER,
        "allow_anonymous": False,
        "clock": Clock(),
    }
    return TokenVerifier(**{**usual, **rules})


@pytest.fixture
def third_party() -> TokenVerifier:
    """A verifier for a provider that signs with RS256 and has its own user ids."""
    keys = KeySet(
        public=InlineKeys(parse_jwks(jwks(public_jwk(rsa_key(), kid="rsa-1", alg="RS256"))))
    )
    return verifier_with(keys=keys, issuer=CLERK, audience="my-app", subject="any")


@pytest.mark.parametrize("subject", ["user_2NNEqL2nrIRd", "auth0|5f7c8ec7c33c", USER.upper()])
async def test_users_of_third_party_auth_keep_their_names(
    third_party: TokenVerifier, subject: str
) -> None:
    token = Project().rs256(iss=CLERK, aud="my-app", sub=subject, session_id=...)
    assert (await third_party.verify(token)).user_id == subject


@pytest.mark.parametrize(
    "subject", [..., None, "", " ", "a b", "a\nb", "x" * 256, "é", "{a}", 7, ["a"]]
)
async def test_a_name_has_to_be_short_and_visible(third_party: TokenVerifier, subject: Any) -> None:
    with pytest.raises(TokenInvalid, match="sub"):
        await third_party.verify(Project().rs256(iss=CLERK, aud="my-app", sub=subject))


async def test_no_user_may_be_called_like_a_service(third_party: TokenVerifier) -> None:
    token = Project().rs256(iss=CLERK, aud="my-app", sub="service:indexer", session_id=...)
    with pytest.raises(TokenInvalid, match="service keys"):
        await third_party.verify(token)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"aud": "authenticated"}, TokenInvalid),
        ({"iss": ISSUER}, TokenInvalid),
        ({"role": ...}, TokenForbidden),
        ({"role": "service_role"}, TokenForbidden),
    ],
)
async def test_third_party_auth_is_held_to_everything_else(
    third_party: TokenVerifier, change: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        await third_party.verify(
            Project().rs256(**{"iss": CLERK, "aud": "my-app", "sub": "user_1", **change})
        )


async def test_without_the_setting_a_name_is_refused_and_the_setting_named(
    project: Project,
) -> None:
    with pytest.raises(TokenInvalid, match="SUBJECT=any"):
        await verifier_with().verify(project.hs256(sub="user_1"))


async def test_roles_that_are_allowed_are_served(project: Project) -> None:
    editors = verifier_with(roles=parse_roles("authenticated, editor"))
    for role in ("authenticated", "editor"):
        assert (await editors.verify(project.hs256(role=role))).user_id == USER
    with pytest.raises(TokenForbidden, match="authenticated, editor"):
        await editors.verify(project.hs256(role="viewer"))


@pytest.mark.parametrize("roles", ["", " , ", "anon", "authenticated,service_role"])
def test_the_role_of_an_api_key_cannot_be_allowed(roles: str) -> None:
    with pytest.raises(ConfigurationError, match="ALLOWED_ROLES"):
        parse_roles(roles)


async def test_both_issuers_are_logged_once_where_they_differ(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = "http://localhost:54321/auth/v1", "http://127.0.0.1:54321/auth/v1"
    verifier = verifier_with(issuer=ours)
    with caplog.at_level(logging.WARNING, logger="auth"):
        for session in range(3):
            with pytest.raises(TokenInvalid, match="the service's log names both"):
                await verifier.verify(project.hs256(iss=theirs, iat=session))
    [line] = caplog.records
    assert line.__dict__["fields"] == {"token_issuer": theirs, "required_issuer": ours}
    assert "SUPABASE_JWT_ISSUER" in line.getMessage()


async def test_made_up_issuers_do_not_fill_the_log(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = verifier_with()
    with caplog.at_level(logging.WARNING, logger="auth"):
        for number in range(3 * MAX_ISSUERS):
            with pytest.raises(TokenInvalid):
                await verifier.verify(project.hs256(iss=f"https://{number}" + "x" * 999))
            with pytest.raises(TokenInvalid):  # nobody signed this
                await verifier.verify(project.hs256("y" * 40, iss=f"https://forged-{number}"))
    assert len(caplog.records) == MAX_ISSUERS
    assert all(len(line.__dict__["fields"]["token_issuer"]) <= 200 for line in caplog.records)
