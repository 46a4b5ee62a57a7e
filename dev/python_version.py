"""Check that this Python can run the project, before pip does. Works in any Python 3.

python dev/python_version.py
"""

import sys

FIRST, LAST = (3, 11), (3, 13)


def complaint(version: "tuple[int, int]", executable: str, *, in_venv: bool) -> "str | None":
    """One line that says what to do about an unsupported version; None for a supported one."""
    if FIRST <= version <= LAST:
        return None
    found = f"{executable} is {version[0]}.{version[1]}"
    remedy = "run `make clean`" if in_venv else "install one, or name it with PYTHON=python3.12"
    return f"embedding-api: Python 3.11 or later (up to 3.13) is needed, and {found}: {remedy}"


if __name__ == "__main__":
    in_venv = sys.prefix != sys.base_prefix
    sys.exit(complaint(sys.version_info[:2], sys.executable, in_venv=in_venv))
