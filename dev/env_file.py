"""The .env of a new checkout."""

import os
import secrets
from pathlib import Path

from environment import ENV_FILE

_TEXT = """# Written by `make serve`; .env.example lists every setting.
SUPABASE_JWT_SECRET={secret}
"""


# With any of these the users are somebody's already.
_WHOSE_USERS = ("SUPABASE_JWT_SECRET", "SUPABASE_URL", "SUPABASE_JWKS", "SUPABASE_JWKS_URL")


def ensure_env_file(directory: Path) -> bool:
    """Write `.env` with a random secret, readable by its owner alone, where nothing says whose users are served."""
    if any(map(os.environ.get, _WHOSE_USERS)):
        return False
    try:
        descriptor = os.open(directory / ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with open(descriptor, "w") as file:
        file.write(_TEXT.format(secret=secrets.token_urlsafe(48)))
    return True
