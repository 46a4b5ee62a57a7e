"""Measure the processes of the service: CPU seconds, resident memory and restarts."""

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

EVERY = 0.05  # seconds between samples
RUNAWAY_MB = 6_000.0  # above this the attack is ended, to protect the machine
_GONE = (psutil.NoSuchProcess, OSError)


@dataclass(frozen=True)
class Mark:
    """The counters at one moment."""

    at: float  # time.monotonic()
    cpu_seconds: float  # of all processes so far
    rss_mb: float  # of the worker; 0 while there is none


class Meter:
    """Measures a supervisor and its worker, in a thread between `start` and `stop`."""

    def __init__(self, supervisor: int) -> None:
        self._supervisor = psutil.Process(supervisor)
        self._worker = self._child()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.restarts = 0
        self.peak_mb = 0.0
        self.runaway = threading.Event()

    def start(self) -> None:
        """Start to measure the peak."""
        if self._worker is not None:
            with contextlib.suppress(*_GONE):  # 5 resets VmHWM (proc(5))
                Path(f"/proc/{self._worker.pid}/clear_refs").write_text("5")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._peak()

    def mark(self) -> Mark:
        return Mark(time.monotonic(), self._cpu_seconds(), self._rss_mb())

    def _cpu_seconds(self) -> float:
        """CPU seconds of all processes, including ended ones."""
        total = 0.0
        for process in [self._supervisor, *self._children()]:
            with contextlib.suppress(*_GONE):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
        return total

    def _rss_mb(self) -> float:
        with contextlib.suppress(*_GONE):
            if self._worker is not None:
                return float(self._worker.memory_info().rss) / 1e6
        return 0.0

    def _look(self) -> None:
        while not self._stop.wait(EVERY):
            self._peak()
            worker = self._child()
            if worker != self._worker:
                self.restarts += self._worker is not None
                self._worker = worker
            if self.peak_mb > RUNAWAY_MB:
                self.runaway.set()

    def _peak(self) -> None:
        if self._worker is None:
            return
        with contextlib.suppress(*_GONE):
            status = Path(f"/proc/{self._worker.pid}/status").read_text()
            if "VmHWM:" in status:
                peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
                self.peak_mb = max(self.peak_mb, peak)

    def _child(self) -> psutil.Process | None:
        return next(iter(self._children()), None)

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(*_GONE):
            return list(self._supervisor.children())
        return []
