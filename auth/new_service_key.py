"""A new service key, and the line that lets the service know it.

python -m auth.new_service_key NAME
"""

import hashlib
import sys

from auth.service_key_format import new_key
from auth.service_key_list import CallerLimits, parse_list
from errors import ConfigurationError

OPTIONS = (
    "requests=600:tokens=none"  # what most machines need; users have the limits of the settings
)


def line_of(name: str, key: str) -> str:
    """The entry of `key` for SERVICE_KEYS.

    Raises:
        SystemExit: the name is missing or cannot be used.
    """
    line = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}:{OPTIONS}"
    try:
        parse_list([line], source="NAME", users=CallerLimits(None, None))
    except ConfigurationError:  # its text is about a line of SERVICE_KEYS
        sys.exit(
            "embedding-api: NAME is the name of the machine: up to 32 lower case letters, digits, "
            "- and _. For example: indexer"
        )
    return line


def main() -> None:
    """Print both. Nothing is stored."""
    key = new_key()
    line = line_of(sys.argv[1] if len(sys.argv) > 1 else "", key)
    print(f"The key, shown this once:\n\n  {key}\n")
    print(f"Put this into SERVICE_KEYS (commas between keys) or SERVICE_KEYS_FILE:\n\n  {line}")


if __name__ == "__main__":
    main()
