"""Development tokens: access tokens like those of Supabase, signed with the secret of `.env`.

python -m dev.token [USER_ID]
"""

import sys
import time
import uuid

import jwt

from settings import Settings, load_settings

LIFETIME = 24 * 3600  # seconds


def development_token(settings: Settings, user_id: str | None = None) -> str:
    """An access token for `user_id`, or for a new user.

    Raises:
        SystemExit: there is no secret to sign with, or the user id is not a UUID.
    """
    if settings.supabase_jwt_secret is None:
        sys.exit(
            "SUPABASE_JWT_SECRET is not set: sign in to Supabase for a token, "
            "or run `make serve` once for a secret."
        )
    try:
        subject = str(uuid.UUID(user_id)) if user_id else str(uuid.uuid4())
    except ValueError:
        sys.exit(f"USER_ID should be a UUID such as {uuid.uuid4()}")
    now = int(time.time())
    claims = {
        "sub": subject,
        "aud": "authenticated",
        "role": "authenticated",
        "iat": now,
        "exp": now + LIFETIME,
    }
    issuer = settings.supabase_jwt_issuer or (
        settings.supabase_url and f"{settings.supabase_url}/auth/v1"
    )
    if issuer:
        claims["iss"] = issuer
    return jwt.encode(claims, settings.supabase_jwt_secret.get_secret_value(), algorithm="HS256")


if __name__ == "__main__":
    print(development_token(load_settings(), sys.argv[1] if len(sys.argv) > 1 else None))
