"""A CycloneDX bill of materials of the shipped packages, and the licences of all that is shipped.

python -m dev.sbom DIRECTORY
"""

import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "run.txt"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<marker>.*?))?(?: \\)?$")
IMAGE = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "aarch64",
    "python_version": "3.11",
    "python_full_version": "3.11.9",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


# Parts of an image that are not in the lock file.
BESIDES = """
| Besides | Where it comes from | Licence |
| --- | --- | --- |
| embedding-api | this repository | MIT |
| CPython, pip and Debian's packages | the base image docker.io/library/python:3.11-slim, unchanged | PSF-2.0, MIT, and those in /usr/share/doc/*/copyright |
| embedder/native/lib | this repository, with functions of the run-time library of the compiler (compiler-rt of Zig) | MIT |
| native code inside wheels | its package, which has the notices | as the notices say; numpy's libgfortran: GPL-3.0 with the GCC runtime exception |
| all-MiniLM-L6-v2 | with MODEL=baked and in bundles, unless another model is chosen | Apache-2.0 |
| google/embeddinggemma-300m | with MODEL=baked and in bundles, where chosen | Gemma Terms of Use, which must be passed on with the weights |
"""  # noqa: E501


def shipped(lock: str) -> dict[str, str]:
    """The version of each package of a lock file that is installed in the image."""
    pins = filter(None, map(_PIN.match, lock.splitlines()))
    return {
        pin["name"]: pin["version"]
        for pin in pins
        if not pin["marker"] or Marker(pin["marker"]).evaluate(IMAGE)
    }


def licence(name: str) -> str:
    """The licence in the metadata of an installed package, as an SPDX expression if it has one."""
    about = metadata.metadata(name)
    classifiers = [
        line.split(" :: ")[-1]
        for line in about.get_all("Classifier", [])
        if line.startswith("License ::")
    ]
    fields = {field: str(value) for field, value in about.json.items()}
    stated = (
        fields.get("license_expression")
        or ", ".join(classifiers)
        or fields.get("license")
        or "not stated"
    )
    return stated.splitlines()[0]


def licences() -> str:
    """Markdown tables of every package in the image and of its other parts."""
    rows = [
        f"| {name} | {version} | {licence(name)} |"
        for name, version in shipped(LOCK.read_text()).items()
    ]
    return "\n".join(["| Package | Version | Licence |", "| --- | --- | --- |", *rows, BESIDES])


def write(directory: Path) -> None:
    """Write the bill of materials and the licences to a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "licences.md").write_text(licences(), encoding="utf-8")
    pins = "".join(f"{name}=={version}\n" for name, version in shipped(LOCK.read_text()).items())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(pins)
        file.flush()
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cyclonedx_py",
            "requirements",
            file.name,
            "--pyproject",
            str(ROOT / "pyproject.toml"),
        ]
        subprocess.run(
            [*command, "--output-reproducible", "-o", str(directory / "sbom.json")], check=True
        )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(*(f"{sys.argv[1]}/{name}" for name in ("sbom.json", "licences.md")), sep="\n")
