"""Which packages the commands need, and what they print when one is missing."""

import subprocess
import sys

import pytest

from lab.server import ROOT


def test_jobs_over_http_need_no_engine_no_ray_and_no_database() -> None:
    absent = (
        "ray",
        "psycopg",
        "bentoml",
        "onnxruntime",
        "tokenizers",
        "torch",
        "pydantic",
        "orjson",
    )
    code = f"import sys; sys.modules |= dict.fromkeys({absent}); import jobs.embed_remote"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(("package", "module"), [("ray", "cluster"), ("psycopg", "embed_dataset")])
def test_a_missing_package_is_named(package: str, module: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import jobs.{module}"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert (
        ran.stderr
        == f"embedding-api: {package} is not installed: pip install -r requirements/bulk.txt\n"
    )
