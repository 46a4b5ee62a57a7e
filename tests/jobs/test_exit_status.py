"""The exit of a command that is interrupted, in its own process."""

import signal
import subprocess
import sys

import pytest

from jobs.exit_status import INTERRUPTED
from lab.server import ROOT
from tests.live.bulk import environment

# Each prints a line when it has begun, and works for longer than the test waits.
ENDLESS = {
    "in the main thread": "import time; print(flush=True); time.sleep(60)",
    "in another thread": """
from concurrent.futures import ThreadPoolExecutor
import time
print(flush=True)
ThreadPoolExecutor(1).submit(time.sleep, 60).result()
""",
    "in an event loop": """
import asyncio
async def wait():
    print(flush=True)
    await asyncio.sleep(60)
asyncio.run(wait())
""",
}


def command(work: str) -> str:
    body = "\n".join(f"    {line}" for line in work.splitlines())
    head = "import sys\nfrom jobs.exit_status import run_command\ndef main():\n"
    return f"{head}{body}\nsys.exit(run_command(main))"


@pytest.mark.parametrize("work", ENDLESS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_exits_at_once_with_one_line(
    work: str,
    number: signal.Signals,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", command(ENDLESS[work])],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED
    assert said == "embedding-api: stopped; the same command resumes the job\n"


def test_sigterm_ends_a_background_command_of_a_shell() -> None:
    """Such a command ignores SIGINT."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    with subprocess.Popen(
        [sys.executable, "-c", ignoring + command(ENDLESS["in another thread"])],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(10) == INTERRUPTED
