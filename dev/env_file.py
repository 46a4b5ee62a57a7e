"""Write the .env of a new checkout."""

import os
import secrets
from pathlib import Path

from container.development import names_callers
from environment import ENV_FILE

_TEXT = """# Written by `make serve`; .env.example lists every setting.
SUPABASE_JWT_SECRET={secret}
"""


def ensure_env_file(directory: Path) -> bool:
    """Write `.env` with a random secret, unless it exists or the environment says who is served.

    Only its owner can read the file. Returns whether it was written.
    """
    if names_callers(os.environ):
        return False
    try:
        descriptor = os.open(directory / ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with open(descriptor, "w") as file:
        file.write(_TEXT.format(secret=secrets.token_urlsafe(48)))
    return True
