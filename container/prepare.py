"""The program of the preparing image: prepares the model of MODEL_NAME, unless the volume has it.

    python -m container.prepare

Shows the preparation's own lines, and writes the last one where the waiting service reads it. The
preparation is a process of its own: when memory runs out it is killed, and this one says so.
"""

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from container.status import BEAT, clear_status, is_prepared, wanted_model, write_status
from settings import load_settings

COMMAND = (sys.executable, "download_model.py")
ERROR = "error: "
_CURSOR = re.compile(r"\x1b\[\w")  # moves between progress bars
STOPPED = "it was stopped"
WAITS = "another run is preparing a model: waiting for its end"
NO_TORCH = (
    "MODEL_BACKEND=torch needs torch when it serves, which the image of the service does not have: "
    "serve this model without Docker (make serve), or choose one that the native engine runs"
)
KILLED = (
    "the preparation was killed, most likely because memory ran out: give Docker more memory or "
    "add swap, and set PREPARE_MEMORY, or choose a smaller model"
)


class Preparation:
    """One run of download_model.py.

    Args:
        store: directory of the model store.
        name: of the model in the store.
    """

    def __init__(self, store: Path, name: str) -> None:
        self._store, self._name = store, name
        self._line = "it begins"
        self._stopped = False
        self._ended = threading.Event()

    def run(self) -> int:
        """Run it to its end; returns the exit status."""
        self._write()
        beat = threading.Thread(target=self._beat, name="beat", daemon=True)
        beat.start()
        with subprocess.Popen(
            COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            signal.signal(signal.SIGTERM, lambda *_: self._stop(process))
            for line in process.stdout or ():  # a carriage return of a progress bar ends one, too
                if text := _CURSOR.sub("", line).strip():
                    self._line = text
                    print(text, flush=True)
        self._ended.set()
        beat.join()
        return self._conclude(process.returncode)

    def _stop(self, process: "subprocess.Popen[str]") -> None:
        self._stopped = True
        process.terminate()

    def _conclude(self, status: int) -> int:
        if status == 0:
            clear_status(self._store, self._name)
            return 0
        reason = self._line.removeprefix(ERROR)
        if self._stopped or status < 0:
            reason = STOPPED if self._stopped else KILLED
            _fail(reason)
        write_status(self._store, self._name, reason, failed=True)
        return 1

    def _beat(self) -> None:
        """Renew the status, also while the preparation prints nothing."""
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # the disk may be full for a moment
                self._write()

    def _write(self) -> None:
        write_status(self._store, self._name, self._line)


def main() -> int:
    """Prepare the model; returns an exit status."""
    settings = load_settings()
    store, name = wanted_model(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # process 1 would ignore it
    try:
        if settings.model_backend == "torch":
            write_status(store, name, NO_TORCH, failed=True)
            return _fail(NO_TORCH)
        if not is_prepared(store, name):
            with _alone(Path(os.environ["TMPDIR"]).parent, store, name):
                return _prepare(store, name)
    except OSError as error:
        return _fail(_advice(error, store))
    return _say_prepared(name)


def _prepare(store: Path, name: str) -> int:
    if is_prepared(store, name):  # by the run that this one waited for
        clear_status(store, name)
        return _say_prepared(name)
    scratch = Path(os.environ["TMPDIR"])
    _empty(scratch)  # what a killed run has left
    status = Preparation(store, name).run()
    if status == 0:
        _empty(scratch, Path(os.environ["HF_HOME"]))  # the download is as large as the model
    return status


@contextlib.contextmanager
def _alone(directory: Path, store: Path, name: str) -> Iterator[None]:
    """One run at a time: two would delete and overwrite each other's files."""
    lock = FileLock(directory / "preparing.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(WAITS, flush=True)
        while not lock.is_locked:
            write_status(store, name, WAITS)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=BEAT)
    try:
        yield
    finally:
        lock.release()


def _say_prepared(name: str) -> int:
    print(f"{name} is prepared already", flush=True)
    return 0


def _fail(reason: str) -> int:
    print(f"{ERROR}{reason}", flush=True)
    return 1


def _advice(error: OSError, store: Path) -> str:
    place = str(error.filename or store)
    if error.errno == errno.ENOSPC:
        return f"no space left in {place}: free some, as with docker image prune"
    return (
        f"{place} cannot be written ({error.strerror}): let user {os.getuid()} "
        f"write there, as with chown -R {os.getuid()} DIRECTORY for that of MODEL_STORE"
    )


def _empty(*directories: Path) -> None:
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


if __name__ == "__main__":
    sys.exit(main())
