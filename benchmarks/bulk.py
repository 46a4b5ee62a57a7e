"""Jobs over files: against the bare engine, in memory, and killed again and again.

    python -m benchmarks.bulk [--json PATH] [--quick] [--texts N] [--kills N] [--rounds N]

Of the model that MODEL_NAME and MODEL_QUANTIZATION name, as `make model` prepared it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import save, spread
from benchmarks.tables import RESULTS
from embedder.model import EmbeddingModel
from embedder.prepare.sentences import SENTENCES
from jobs.embed_dataset import find_model
from settings import load_settings

LAYOUTS = {"2 workers x 1 thread": (2, 1), "1 worker x 2 threads": (1, 2)}
MEMORY_TIMES = 20  # how much larger the larger input is


def write_corpus(path: Path, count: int) -> list[str]:
    """Seeded texts in many languages; words by text are log-normal, from 3 to 250."""
    chance, words = random.Random(0), " ".join(SENTENCES).split()
    lengths = [min(250, max(3, int(chance.lognormvariate(3.3, 0.9)))) for _ in range(count)]
    texts = [" ".join(chance.choices(words, k=length)) for length in lengths]
    lines = (json.dumps({"id": number, "text": text}, ensure_ascii=False) for number, text in enumerate(texts))
    path.write_text("\n".join(lines), encoding="utf-8")
    return texts


def bare_engine(texts: list[str], threads: int) -> dict[str, float]:
    """Tokens a second with all texts at hand, tokenising included and loading not."""
    settings = load_settings()
    model = EmbeddingModel.load(
        find_model(settings)[0],
        num_threads=threads,
        max_tokens=settings.max_seq_length,
        batch_tokens=settings.max_batch_tokens,
    )
    model.embed(texts[:32])
    started = time.perf_counter()
    tokens = model.tokenizer.encode(texts, max_tokens=model.max_tokens)
    model.engine.embed([text.ids for text in tokens])
    seconds = time.perf_counter() - started
    return {"tokens_per_second": sum(len(text.ids) for text in tokens) / seconds, "seconds": seconds}


@dataclass
class Memory:
    """Greatest resident megabytes seen."""

    all: float = 0.0
    worker: float = 0.0

    def look(self, pid: int) -> None:
        resident = {process.pid: (process, _resident(process)) for process in family(pid)}
        self.all = max(self.all, sum(megabytes for _, megabytes in resident.values()))
        workers = [megabytes for process, megabytes in resident.values() if is_worker(process)]
        self.worker = max([self.worker, *workers])


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_worker(process: psutil.Process) -> bool:
    try:
        return "PartWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0


def start(source: Path, output: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.embed_dataset", str(source), str(output), "--id", "id", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@contextmanager
def watched(pid: int) -> Iterator[Memory]:
    """Memory of a process and all below it, looked at five times a second."""
    memory, over = Memory(), threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            memory.look(pid)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def job(source: Path, output: Path, workers: int, threads: int) -> dict[str, Any]:
    """One undisturbed job: its own count of tokens a second, the whole command's seconds, memory."""
    started = time.perf_counter()
    options = ("--workers", str(workers), "--threads", str(threads))
    with start(source, output, *options) as process, watched(process.pid) as memory:
        summary = process.communicate()[0]
    if process.returncode:
        sys.exit(f"the job ended with {process.returncode}")
    found = next(part for part in summary.split("; ") if part.endswith(" tokens/s"))
    return {
        "tokens_per_second": float(found.split()[0].replace(",", "")),
        "seconds_with_start": time.perf_counter() - started,
        "resident_mb": memory.all,
        "worker_resident_mb": memory.worker,
    }


def throughput(directory: Path, count: int, rounds: int) -> dict[str, Any]:
    """The bare engine and both layouts of workers, taking turns."""
    texts = write_corpus(directory / "corpus.jsonl", count)
    sides: dict[str, list[float]] = {"bare engine": [], **{name: [] for name in LAYOUTS}}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LAYOUTS}
    for number in range(rounds):
        for name, (workers, threads) in LAYOUTS.items():
            runs[name].append(job(directory / "corpus.jsonl", directory / f"{name} {number}", workers, threads))
            sides[name].append(runs[name][-1]["tokens_per_second"])
        sides["bare engine"].append(bare_engine(texts, threads=2)["tokens_per_second"])
    rates = {name: spread(values) for name, values in sides.items()}
    bare = rates["bare engine"]["median"]
    return {
        "texts": count,
        "tokens_per_second": rates,
        "share_of_bare_engine": {name: rates[name]["median"] / bare for name in LAYOUTS},
        "jobs": runs,
    }


def memory(directory: Path, count: int) -> dict[str, Any]:
    """Peak memory of the same job over an input and one twenty times as large."""
    found = {}
    for name, texts in (("small", count), ("large", count * MEMORY_TIMES)):
        write_corpus(directory / f"{name}.jsonl", texts)
        found[name] = {"texts": texts, **job(directory / f"{name}.jsonl", directory / f"memory {name}", 2, 1)}
    kinds = ("resident_mb", "worker_resident_mb")
    return {**found, "times": {kind: found["large"][kind] / found["small"][kind] for kind in kinds}}


def kills(directory: Path, count: int, times: int) -> dict[str, Any]:
    """`times` kill -9 at random moments, of the driver or of a worker; then the parts, byte by byte."""
    chance = random.Random()
    source, output, calm = directory / "kills.jsonl", directory / "killed", directory / "calm"
    write_corpus(source, count)
    job(source, calm, 2, 1)
    moments: list[dict[str, Any]] = []
    process = start(source, output)
    while len(moments) < times:
        time.sleep(chance.uniform(2, 12))
        if process.poll() is not None:
            break
        workers = [child for child in family(process.pid) if is_worker(child)]
        victim = chance.choice([psutil.Process(process.pid), *workers])
        moments.append({"victim": "worker" if victim in workers else "driver", "parts": len(parts(output))})
        victim.kill()
        if moments[-1]["victim"] == "driver":
            process.wait()
            process = start(source, output)
    process.communicate()
    expected = parts(calm)
    same = all((output / name).read_bytes() == (calm / name).read_bytes() for name in expected)
    return {"texts": count, "parts": len(expected), "kills": moments, "status": process.returncode,
            "complete": parts(output) == expected, "bit_equal": same}  # fmt: skip


def parts(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("part-*")) if output.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS / "bulk.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10, help="0 leaves that and memory out")
    options = parser.parse_args()
    count = options.texts // (10 if options.quick else 1)
    settings = load_settings()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name)
        figures: dict[str, Any] = {
            "model": settings.model_name or "starter",
            "quantization": settings.model_quantization,
            "throughput": throughput(directory, count, options.rounds),
        }
        if options.kills:
            figures["memory"] = memory(directory, count // 20)
            figures["kills"] = kills(directory, count * 5 // 2, options.kills)
    save(options.json, figures)


if __name__ == "__main__":
    main()
