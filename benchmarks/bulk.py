"""Jobs over files: against the bare engine, in memory, and killed again and again.

    python -m benchmarks.bulk [--json PATH] [--quick] [--texts N] [--kills N] [--rounds N]

Of the model that MODEL_NAME and MODEL_QUANTIZATION name. `within_bar` of the results says which bars were met; the
status is 1 when rows were lost or differ. The whole takes about 18 minutes with the starter model on two idle cores:
texts of the comparison have 12 words on average (1 to 250; some 36 tokens), those of the other two 6 (some 20), so
that the 50,000 of them that are embedded twice are a minute's work and not ten.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.models import prepared
from benchmarks.report import save, spread
from benchmarks.tables import RESULTS
from embedder.model import EmbeddingModel
from embedder.prepare.sentences import SENTENCES
from settings import load_settings

DEFAULT = "2 workers x 1 thread"  # the layout that a job takes by itself on two cores
LAYOUTS = {DEFAULT: (2, 1), "1 worker x 2 threads": (1, 2)}
BIT_EQUAL = "bit-equal to an undisturbed run"
MIXED, SHORT = 12, 6  # words of a text on average
LONGEST = 250
MEMORY_TIMES = 20  # how much larger the larger input is
LEAST_SHARE, MOST_TIMES = 0.9, 1.3  # of the bare engine's rate; of the smaller input's memory


def texts_of(count: int, words: int) -> list[str]:
    """Seeded texts in many languages, no two the same; lengths are log-normal, and one text has the longest."""
    chance, vocabulary = random.Random(0), " ".join(SENTENCES).split()
    lengths = [min(LONGEST, max(1, round(chance.lognormvariate(-0.3, 0.8) * words))) for _ in range(count)]
    lengths[0] = LONGEST
    return [" ".join([f"{number}", *chance.choices(vocabulary, k=length)]) for number, length in enumerate(lengths)]


def write_corpus(path: Path, texts: Sequence[str], first: int = 0) -> Path:
    """Rows of `id` and `text` in the format of the name; all of a Parquet file in one row group."""
    rows = [{"id": str(first + number), "text": text} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=len(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(rows)
    return path


def bare_engine(directory: Path, texts: list[str], threads: int) -> float:
    """Tokens a second with all texts at hand, tokenising included and loading not."""
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
    model.engine.embed([text.ids for text in tokens])
    return sum(len(text.ids) for text in tokens) / (time.perf_counter() - started)


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


def resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0


@contextmanager
def watched(pid: int) -> Iterator[dict[str, float]]:
    """Greatest resident megabytes of a driver, of a worker, and of all processes, Ray's included; seen at 5 Hz."""
    peaks, over = {"driver": 0.0, "worker": 0.0, "all": 0.0}, threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            sizes = [(process, resident_mb(process)) for process in family(pid)]
            now = {
                "driver": max((size for process, size in sizes if process.pid == pid), default=0.0),
                "worker": max((size for process, size in sizes if is_worker(process)), default=0.0),
                "all": sum(size for _, size in sizes),
            }
            peaks.update({kind: max(peaks[kind], now[kind]) for kind in peaks})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def start(source: Path, output: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jobs.embed_dataset", str(source), str(output), "--id", "id", *options]
    with (source.parent / "log").open("a") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def job(source: Path, output: Path, workers: int, threads: int) -> dict[str, Any]:
    """One undisturbed job: its own count of tokens a second, the whole command's seconds, memory."""
    started = time.perf_counter()
    options = ("--workers", str(workers), "--threads", str(threads))
    with start(source, output, *options) as process, watched(process.pid) as peaks:
        summary = process.communicate()[0]
    if process.returncode:
        sys.exit(f"the job ended with {process.returncode}:\n{(source.parent / 'log').read_text()[-2000:]}")
    found = next(part for part in summary.split("; ") if part.endswith(" tokens/s"))
    return {
        "tokens_per_second": float(found.split()[0].replace(",", "")),
        "seconds_with_start": time.perf_counter() - started,
        "peak_mb": peaks,
    }


def throughput(model: Path, directory: Path, count: int, rounds: int) -> dict[str, Any]:
    """The bare engine and both layouts of workers, taking turns."""
    texts = texts_of(count, MIXED)
    source = write_corpus(directory / "corpus.jsonl", texts)
    sides: dict[str, list[float]] = {"bare engine": [], **{name: [] for name in LAYOUTS}}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LAYOUTS}
    for number in range(rounds):
        for name, (workers, threads) in LAYOUTS.items():
            runs[name].append(job(source, directory / f"{name} {number}", workers, threads))
            sides[name].append(runs[name][-1]["tokens_per_second"])
        sides["bare engine"].append(bare_engine(model, texts, threads=2))
    rates = {name: spread(values) for name, values in sides.items()}
    bare = rates["bare engine"]["median"]
    share = {name: rates[name]["median"] / bare for name in LAYOUTS}
    return {
        "texts": count,
        "tokens_per_second": rates,
        "share_of_bare_engine": share,
        "jobs": runs,
        "within_bar": {
            f"{LEAST_SHARE:.0%} of the bare engine": share[DEFAULT] >= LEAST_SHARE,
            "the faster layout is the default": share[DEFAULT] == max(share.values()),
        },
    }


def memory(directory: Path, count: int) -> dict[str, Any]:
    """Peak memory of the same job over an input and one twenty times as large, each one row group of Parquet."""
    found = {}
    for name, texts in (("small", count), ("large", count * MEMORY_TIMES)):
        source = write_corpus(directory / f"{name}.parquet", texts_of(texts, SHORT))
        found[name] = {"texts": texts, **job(source, directory / f"memory {name}", 2, 1)}
    small, large = (found[name]["peak_mb"] for name in ("small", "large"))
    times = {kind: large[kind] / small[kind] for kind in small}
    return {**found, "times": times, "within_bar": {f"{MOST_TIMES} times": max(times.values()) <= MOST_TIMES}}


def kills(directory: Path, count: int, times: int) -> dict[str, Any]:
    """`times` kill -9 of the driver or of a worker, spread over the job; then every part and every row."""
    source, output, calm = directory / "kills", directory / "killed", directory / "calm"
    source.mkdir()
    texts = texts_of(count, SHORT)
    for name, part in (("a.parquet", slice(0, count // 2)), ("b.jsonl", slice(count // 2, count * 3 // 4)),
                       ("c.csv", slice(count * 3 // 4, count))):  # fmt: skip
        write_corpus(source / name, texts[part], first=part.start)
    undisturbed = job(source, calm, 2, 1)
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


def disturb(source: Path, output: Path, n_parts: int, times: int) -> tuple[list[dict[str, Any]], int]:
    """A kill at a random moment of each of `times` equal stretches of the job; the same command after each."""
    chance = random.Random()
    moments: list[dict[str, Any]] = []
    process, began = start(source, output), time.perf_counter()
    while len(moments) < times:
        wanted = n_parts * (len(moments) + chance.random()) / (times + 1)  # the last stretch is left alone
        while len(parts(output)) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.5))
        if process.poll() is not None:
            break
        workers = [child for child in family(process.pid) if is_worker(child)]
        victim = chance.choice([psutil.Process(process.pid), *workers])
        driver = victim not in workers
        moments.append(
            {
                "victim": "driver" if driver else "worker",
                "parts": len(parts(output)),
                "second": round(time.perf_counter() - began, 1),
            }
        )
        victim.kill()
        if driver:
            process.communicate()
            process = start(source, output)
    process.communicate()
    return moments, process.returncode


def complete(output: Path, count: int) -> bool:
    """Whether every row of the input is there once, under its own id, with a vector of length one."""
    table = pq.read_table(output)
    vectors = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    rows, ids = table.column("row").to_pylist(), table.column("id").to_pylist()
    lengths = np.linalg.norm(vectors, axis=1)
    return rows == list(range(count)) and ids == [str(row) for row in rows] and bool(np.allclose(lengths, 1, atol=1e-3))


def parts(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("part-*")) if output.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS / "bulk.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10, help="0 leaves that and memory out")
    options = parser.parse_args()
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
        }
        if options.kills:
            figures["memory"] = memory(directory, count // 20)
            figures["kills"] = kills(directory, count * 5 // 2, options.kills)
    save(options.json, {**figures, "seconds": time.perf_counter() - started})
    return 0 if all(figures.get("kills", {}).get("within_bar", {}).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
