"""Files with good and bad rows, and jobs over them in processes of their own."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedder.prepare.sentences import SENTENCES
from lab.server import SOURCE, bare_environment

ENVIRONMENT = {"MODEL_QUANTIZATION": "fp32", "HF_HUB_OFFLINE": "1"}
BAD = {"empty": "text is empty", "null": "text is null"}
ROWS = 400
OPTIONS = ("--id", "id", "--part-rows", "10")
STOPPED = "embedding-api: stopped; the same command resumes the job\n"


@dataclass(frozen=True)
class Embedded:
    """A corpus, and what a job that nobody disturbed made of it."""

    corpus: Path
    texts: dict[str, str]  # by id
    output: Path


def texts(count: int, *, words: int = 25) -> list[str]:
    """Texts of about `words` words in many languages, each other than the rest."""
    chance = random.Random(count)
    vocabulary = " ".join(SENTENCES).split()
    lengths = (max(1, int(chance.lognormvariate(0, 0.7) * words)) for _ in range(count))
    return [
        " ".join([f"{n}", *chance.choices(vocabulary, k=length)])
        for n, length in enumerate(lengths)
    ]


def write_corpus(directory: Path, count: int) -> dict[str, str]:
    """Four files of `count` texts, and one bad row in most. Returns the good texts by id."""
    directory.mkdir()
    found = {f"id-{n}": text for n, text in enumerate(texts(count))}
    records: list[dict[str, str | None]] = [
        {"id": key, "text": text} for key, text in found.items()
    ]
    quarters = [records[n::4] for n in range(4)]
    rows = [*quarters[0], {"id": "null", "text": None}]
    pq.write_table(pa.Table.from_pylist(rows), directory / "a.parquet", row_group_size=50)
    lines = [
        json.dumps(record, ensure_ascii=False)
        for record in [{"id": "empty", "text": ""}, *quarters[1]]
    ]
    (directory / "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name, quarter in (("c.csv", quarters[2]), ("d.csv", quarters[3])):
        with (directory / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["text", "id"])
            writer.writeheader()
            writer.writerows(quarter)
    return found


def command(module: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", f"jobs.{module}", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return bare_environment() | ENVIRONMENT | more


def run(
    module: str, *arguments: str | Path, more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """A job from its start to its end."""
    return subprocess.run(
        command(module, *arguments),
        cwd=SOURCE,
        env=environment(**(more or {})),
        capture_output=True,
        text=True,
        timeout=300,
    )


def start(module: str, *arguments: str | Path, log: Path, **more: str) -> "subprocess.Popen[bytes]":
    """A job that goes on while its test does, which comes first on a busy machine."""
    with log.open("wb") as file:
        return subprocess.Popen(
            ["nice", "-n", "5", *command(module, *arguments)],
            cwd=SOURCE,
            env=environment(**more),
            stdout=file,
            stderr=file,
        )


def vectors(output: Path) -> dict[str, bytes]:
    """The bits of each vector by id; an id that comes twice is an error."""
    table = pq.read_table(output).combine_chunks()
    embeddings = table.column("embedding").chunk(0)
    bits = embeddings.flatten().to_numpy().reshape(len(table), -1)
    found = {
        key: row.tobytes() for key, row in zip(table.column("id").to_pylist(), bits, strict=True)
    }
    assert len(found) == len(table)
    return found


def cosines(ours: Mapping[str, bytes], others: Mapping[str, bytes]) -> NDArray[np.float64]:
    """Of each text's two float32 vectors; both sides have the same texts."""
    assert ours.keys() == others.keys()
    pairs = [
        [np.frombuffer(side[key], "<f4").astype(float) for side in (ours, others)] for key in ours
    ]
    return np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])


def parts(output: Path) -> list[str]:
    """Names of the parts that are there."""
    return (
        sorted(name for name in os.listdir(output) if name.startswith("part-"))
        if output.exists()
        else []
    )


def assert_same_bytes(output: Path, undisturbed: Path) -> None:
    """Every part and the bad rows, and nothing half-written beside them."""
    assert parts(output) == parts(undisturbed)
    for name in [*parts(output), "_bad_rows.jsonl"]:
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not list(output.rglob(".*"))


def wait_for_parts(output: Path, count: int, job: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 180  # Ray takes its time on a machine with much else to do
    while len(parts(output)) < count:
        assert job.poll() is None, f"the job ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
