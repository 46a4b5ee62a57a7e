"""Every wait for a process in deploy/ has a timeout, so that a command that hangs fails."""

import ast
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
WAITING = {"run", "check_call", "check_output", "communicate", "wait"}


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.py")), ids=lambda path: path.name)
def test_every_wait_for_a_process_has_an_end(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_subprocess = ast.unparse(node.func.value) in {"subprocess", "process"}
            if of_subprocess and node.func.attr in WAITING:
                has_end = any(keyword.arg == "timeout" for keyword in node.keywords)
                assert has_end or (node.args and node.func.attr == "wait"), ast.unparse(node)
