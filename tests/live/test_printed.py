"""Every command of the documents runs as printed, in order, and answers in the printed shape."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.server import ROOT, SECRET, Server, bare_environment, token
from settings import NAMES
from tests.printed import DOCUMENTS, assert_shape, blocks, printed_json

from_source = pytest.mark.parametrize("server", ["source"], indirect=True)
MODEL_PAGES = {"models.md"}  # whose calls need a model with tasks and sizes
ANSWERED = 'export -p > "$STATE"'  # what a block exports is there for the next
named = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@from_source
@named
def test_commands_run_in_order_and_answer_as_printed(
    server: Server, gemma_server: Server, tmp_path: Path, document: Path
) -> None:
    serving = gemma_server if document.name in MODEL_PAGES else server
    shell = Shell(serving, tmp_path)
    found = blocks(document)
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.remark is not None:
            continue
        if block.language == "bash":
            answer = shell.run(block.text)
            if following is not None and following.language == "json":
                assert_shape(printed_json(following.text), json.loads(answer))
        elif block.language == "python":
            assert shell.run_python(block.text) == f"{serving_dimensions(serving)}\n"


@named
def test_a_command_that_is_not_run_here_says_why(document: Path) -> None:
    for block in blocks(document):
        if block.remark is None:
            assert block.language in {"bash", "python", "json", "ini", "sql"}, block
        elif checked := re.fullmatch(r"checked by (\S+)", block.remark):
            assert (ROOT / checked[1]).is_file(), block.remark
        else:
            assert re.fullmatch(r"not run: .+", block.remark), block.remark


@named
def test_printed_settings_exist(document: Path) -> None:
    for block in blocks(document):
        if block.language == "ini":
            assert set(re.findall(r"(?m)^([A-Z_]+)=", block.text)) <= NAMES


def serving_dimensions(server: Server) -> int:
    with server.client() as client:
        return int(client.get("/v1/models").json()["data"][0]["dimensions"][0])


class Shell:
    """A reader's terminal in the project's directory, with the server where the page has it."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._state = directory / "state"
        self._state.write_text(f"export JWT_TOKEN={token()}\n")
        self._environment = bare_environment() | {
            "STATE": str(self._state),
            "SUPABASE_JWT_SECRET": SECRET,
            "MODEL_QUANTIZATION": "fp32",  # what the tests have prepared
        }

    def run(self, commands: str) -> str:
        """What a block prints that ends well."""
        there = commands.replace("http://127.0.0.1:8000", self._server.url)
        there = re.sub(r"(test_api\.sh)$", rf"\1 {self._server.url}", there, flags=re.MULTILINE)
        return self._ended_well("bash", "-euc", f'. "$STATE"\n{there}\n{ANSWERED}')

    def run_python(self, program: str) -> str:
        there = program.replace("http://127.0.0.1:8000", self._server.url)
        script = self._state.with_name("program.py")
        script.write_text(f"{there}\nprint(len(vector))\n")
        return self._ended_well("bash", "-euc", f'. "$STATE"; exec {sys.executable} {script}')

    def _ended_well(self, *command: str) -> str:
        ran = subprocess.run(
            command,
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


def test_a_printed_answer_that_differs_is_noticed() -> None:
    printed = printed_json('{"embedding": [0.5, ...], "dimensions": 384}')
    assert_shape(printed, {"embedding": [0.501, 0.2], "dimensions": 384})
    for other in (
        {"embedding": [0.501, 0.2]},
        {"embedding": [0.501], "dimensions": 384},
        {"embedding": [0.9, 0.2], "dimensions": 384},
        {"embedding": [0.501, 0.2], "dimensions": "384"},
    ):
        with pytest.raises(AssertionError):
            assert_shape(printed, other)
