"""Ask the package index for known vulnerabilities of the shipped packages.

python -m dev.audit

Exit status 0: none is known. 1: some are known. 2: not checked, since the index has no data.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements" / "run.txt"
# An index that reports no vulnerability of this version has no data (CVE-2019-10906, ...).
KNOWN_TO_BE_VULNERABLE = "jinja2==2.10"
SECONDS = 300
NOT_CHECKED = 2


def main() -> int:
    """Check what is shipped; returns an exit status."""
    if not has_data():
        print(
            "not checked: the package index has no data about vulnerabilities; "
            "run `make audit` where the public index can be reached",
            file=sys.stderr,
        )
        return NOT_CHECKED
    command = ("--strict", "--disable-pip", "--require-hashes", "-r", str(LOCK))
    return pip_audit(*command, capture=False).returncode


def has_data() -> bool:
    """Whether the index reports a vulnerability that is known since 2019."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(KNOWN_TO_BE_VULNERABLE)
        file.flush()
        answer = pip_audit("--no-deps", "--disable-pip", "--format", "json", "-r", file.name)
    return tells_of_some(answer.stdout)


def tells_of_some(report: str) -> bool:
    """Whether pip-audit's report names a vulnerability."""
    try:
        return any(found.get("vulns") for found in json.loads(report)["dependencies"])
    except (ValueError, KeyError):
        return False


def pip_audit(*options: str, capture: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run pip-audit with these options."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", *options]
    return subprocess.run(command, capture_output=capture, text=True, check=False, timeout=SECONDS)


if __name__ == "__main__":
    sys.exit(main())
