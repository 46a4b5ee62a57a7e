"""Measure jobs over files: throughput, the time of a small job, memory, and repeated kills.

    python -m benchmarks.bulk [--json PATH] [--quick] [--texts N] [--kills N] [--rounds N]

Uses the model of MODEL_NAME and MODEL_QUANTIZATION. `within_bar` in the results tells which targets
were met. Exits with status 1 when rows were lost or differ. Texts for throughput have 12 words on
average (1 to 250; about 36 tokens), those for memory and kills 6 (about 20 tokens).
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.corpus import texts_of, write_corpus
from benchmarks.report import save
from embedder.model import EmbeddingModel
from embedder.threads import available_threads
from lab.figures import spread
from lab.models import prepared
from lab.results import RESULTS
from settings import load_settings

BIT_EQUAL = "bit-equal to an undisturbed run"
MIXED, SHORT = 12, 6  # words of a text on average
MEMORY_TIMES = 20  # size of the larger input in sizes of the smaller
FEW = 4  # rows of a job whose time is mostly its start
LEAST_SHARE = 0.9  # of the bare engine's tokens per second
MOST_TIMES = 1.3  # memory of the larger input in memory of the smaller
LEAST_BUSY = 0.95  # share of the job's time in which the engine runs
MOST_SECONDS = 3.0  # of the job with FEW rows


def bare_engine(directory: Path, texts: list[str], threads: int) -> float:
    """Tokens per second with all texts in memory, including tokenising, without loading."""
    settings = load_settings()
    model = EmbeddingModel.load(
        directory,
        num_threads=threads,
        max_tokens=settings.max_seq_length,
        batch_tokens=settings.max_batch_tokens,
    )
    model.embed(texts[:32])
    started = time.perf_counter()
    tokens = model.tokenizer.encode(texts, max_tokens=model.max_tokens)
    model.engine.forward([text.ids for text in tokens])
    return sum(len(text.ids) for text in tokens) / (time.perf_counter() - started)


def resident_mb(pid: int) -> float:
    """Resident megabytes of a process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(float(one.memory_info().rss) for one in family) / 1e6
    except psutil.Error:
        return 0.0


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """Sample the resident megabytes at 5 Hz; yields a list whose only value is the maximum."""
    peak = [0.0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            peak[0] = max(peak[0], resident_mb(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def start(source: Path, output: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.embed_dataset", str(source), str(output), "--id", "id"]
    with (source.parent / "log").open("a") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def job(source: Path, output: Path) -> dict[str, float]:
    """Run one job undisturbed; returns its rates, the seconds of the whole command and memory."""
    started = time.perf_counter()
    with start(source, output) as process, watched(process.pid) as peak:
        summary = process.communicate()[0]
    if process.returncode:
        log = (source.parent / "log").read_text()[-2000:]
        sys.exit(f"the job ended with {process.returncode}:\n{log}")
    rate = re.search(r"; ([\d,]+) tokens/s;", summary)
    busy = re.search(r"; engine busy (\d+)%", summary)
    assert rate, summary
    assert busy, summary
    return {
        "tokens_per_second": float(rate[1].replace(",", "")),
        "engine_busy": float(busy[1]) / 100,
        "seconds_with_start": time.perf_counter() - started,
        "peak_mb": peak[0],
    }


def throughput(model: Path, directory: Path, count: int, rounds: int) -> dict[str, Any]:
    """Compare jobs with the bare engine, in turns."""
    texts = texts_of(count, MIXED)
    source = write_corpus(directory / "corpus.jsonl", texts)
    bare: list[float] = []
    runs: list[dict[str, float]] = []
    for number in range(rounds):
        runs.append(job(source, directory / f"run {number}"))
        bare.append(bare_engine(model, texts, threads=available_threads()))
    rates = {
        "bare engine": spread(bare),
        "job": spread([run["tokens_per_second"] for run in runs]),
    }
    share = rates["job"]["median"] / rates["bare engine"]["median"]
    busy = spread([run["engine_busy"] for run in runs])
    return {
        "texts": count,
        "tokens_per_second": rates,
        "share_of_bare_engine": share,
        "engine_busy": busy,
        "jobs": runs,
        "within_bar": {
            f"{LEAST_SHARE:.0%} of the bare engine": share >= LEAST_SHARE,
            f"engine busy {LEAST_BUSY:.0%}": busy["median"] >= LEAST_BUSY,
        },
    }


def few_rows(directory: Path, rounds: int) -> dict[str, Any]:
    """Measure the seconds of a whole command over a few rows."""
    source = write_corpus(directory / "few.jsonl", texts_of(FEW + 1, SHORT)[1:])
    runs = [job(source, directory / f"few {number}") for number in range(rounds)]
    seconds = spread([run["seconds_with_start"] for run in runs])
    within = {f"{MOST_SECONDS:g} s": seconds["median"] <= MOST_SECONDS}
    return {"rows": FEW, "seconds": seconds, "within_bar": within}


def memory(directory: Path, count: int) -> dict[str, Any]:
    """Compare the peak memory of an input and one 20 times as large, each one row group."""
    found = {}
    for name, texts in (("small", count), ("large", count * MEMORY_TIMES)):
        source = write_corpus(directory / f"{name}.parquet", texts_of(texts, SHORT))
        found[name] = {"texts": texts, **job(source, directory / f"memory {name}")}
    times = found["large"]["peak_mb"] / found["small"]["peak_mb"]
    within = {f"{MOST_TIMES} times": times <= MOST_TIMES}
    return {**found, "times": times, "within_bar": within}


def kills(directory: Path, count: int, times: int) -> dict[str, Any]:
    """Kill a job with SIGKILL `times` times, then compare every part and row."""
    source = directory / "kills"
    output = directory / "killed"
    calm = directory / "calm"
    source.mkdir()
    texts = texts_of(count, SHORT)
    half = count // 2
    rest = count * 3 // 4
    write_corpus(source / "a.parquet", texts[:half])
    write_corpus(source / "b.jsonl", texts[half:rest], first=half)
    write_corpus(source / "c.csv", texts[rest:], first=rest)
    undisturbed = job(source, calm)
    expected = parts(calm)
    moments, status = disturb(source, output, len(expected), times)
    bit_equal = parts(output) == expected and all(
        (output / name).read_bytes() == (calm / name).read_bytes() for name in expected
    )
    return {
        "texts": count,
        "parts": len(expected),
        "calm": undisturbed,
        "kills": moments,
        "status": status,
        "within_bar": {
            f"{times} kills": len(moments) == times,
            "ended well": status == 0,
            "complete against the input": complete(output, count),
            BIT_EQUAL: bit_equal,
        },
    }


def disturb(
    source: Path,
    output: Path,
    n_parts: int,
    times: int,
) -> tuple[list[dict[str, Any]], int]:
    """Kill a job at a random moment of each of `times` equal intervals, and start it again.

    Returns what was done at each kill, and the exit status of the last run.
    """
    chance = random.Random()
    moments: list[dict[str, Any]] = []
    process = start(source, output)
    began = time.perf_counter()
    while len(moments) < times:
        # No kill in the last interval.
        wanted = n_parts * (len(moments) + chance.random()) / (times + 1)
        while len(parts(output)) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))
        if process.poll() is not None:
            break
        second = round(time.perf_counter() - began, 1)
        moments.append({"parts": len(parts(output)), "second": second})
        process.kill()
        process.communicate()
        process = start(source, output)
    process.communicate()
    return moments, process.returncode


def complete(output: Path, count: int) -> bool:
    """Whether every row occurs once, with its id and a vector of length one."""
    table = pq.read_table(output)
    flat = table.column("embedding").combine_chunks().flatten().to_numpy()
    lengths = np.linalg.norm(flat.reshape(len(table), -1), axis=1)
    rows = table.column("row").to_pylist()
    ids = table.column("id").to_pylist()
    in_order = rows == list(range(count)) and ids == [str(row) for row in rows]
    return in_order and bool(np.allclose(lengths, 1, atol=1e-3))


def parts(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("part-*")) if output.exists() else []


def parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--json", type=Path, default=RESULTS / "bulk.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10, help="0 skips kills and memory")
    return parser.parse_args()


def main() -> int:
    options = parse()
    count = options.texts // (10 if options.quick else 1)
    settings = load_settings()
    model = prepared(settings.model_name, settings.model_quantization)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name)
        figures: dict[str, Any] = {
            "model": settings.model_name or "starter",
            "quantization": settings.model_quantization,
            "throughput": throughput(model, directory, count, options.rounds),
            "few_rows": few_rows(directory, options.rounds),
        }
        if options.kills:
            figures["memory"] = memory(directory, count // 20)
            figures["kills"] = kills(directory, count * 5 // 2, options.kills)
    save(options.json, {**figures, "seconds": time.perf_counter() - started})
    return 0 if all(figures.get("kills", {}).get("within_bar", {}).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
