"""What a service says is printed without control characters, and secrets are not printed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.server import ROOT
from tests.jobs.remote.remote_job import assert_one_line, assert_printable, run
from tests.jobs.remote.stub_service import Stub, refusal

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b1m\r\n"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 418, 500])
def test_messages_of_the_service_have_no_control_characters(
    stub: Stub, tmp_path: Path, status: int
) -> None:
    stub.reply = lambda _: refusal(status, ESCAPES, message=ESCAPES * 1000)
    ran = run(stub.url, tmp_path, "--quiet")
    assert_one_line(ran, rf"the service answers {status} (\x1b]0;owned\x07\x1b[2J\x9b1m\r\n")
    assert_printable(ran.said)
    assert len(ran.said) < 1000


def test_reasons_of_bad_rows_and_waits_have_no_control_characters(
    stub: Stub, tmp_path: Path
) -> None:
    def reply(body: dict[str, Any]) -> Any:
        if len(stub.bodies) == 1:
            return refusal(429, ESCAPES, message=ESCAPES, Retry_After="2")
        return refusal(422, "text_too_long", "texts.0", message=ESCAPES)

    stub.reply = reply
    ran = run(stub.url, tmp_path)
    assert ran.status == 3
    assert "status 429, \\x1b]0;owned" in ran.said
    assert_printable(ran.said.replace("\r", "\n"))  # the progress bar rewrites its line
    assert_printable(ran.bad)
    assert ran.bad.count("\n") == 3


def test_a_password_in_the_url_and_an_invalid_token_are_not_printed(tmp_path: Path) -> None:
    for url, token in [
        ("http://user:hush@127.0.0.1:1", "token"),
        ("http://127.0.0.1:1", "hu sh\n"),
    ]:
        (tmp_path / "a.txt").write_text("a\n")
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "jobs.embed_remote",
                url,
                str(tmp_path / "a.txt"),
                str(tmp_path / "out"),
            ],
            cwd=ROOT,
            env=os.environ | {"JWT_TOKEN": token},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 2
        assert "hu" not in ran.stderr
