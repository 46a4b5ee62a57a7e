"""A project in the middle of a key migration: its key set, and its signed-in user."""

from __future__ import annotations

from auth.principal import Principal
from lab.signing import SESSION, USER, ec_key, jwks, public_jwk, rsa_key

KEY_SET = jwks(
    public_jwk(ec_key(), kid="key-1", alg="ES256"),
    public_jwk(ec_key("second"), kid="key-2", alg="ES256"),
    public_jwk(rsa_key(), kid="rsa-1", alg="RS256"),
)
SIGNED_IN = Principal(user_id=USER, session_id=SESSION, is_anonymous=False)
