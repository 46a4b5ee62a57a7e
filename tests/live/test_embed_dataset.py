"""Jobs: whole, killed, stopped, with mistakes, on a full disk."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from lab.server import SOURCE, Server
from tests.live import bulk


def test_every_row_is_there_once_and_bad_ones_are_told(embedded: bulk.Embedded) -> None:
    assert bulk.vectors(embedded.output).keys() == embedded.texts.keys()
    rows = pq.read_table(embedded.output, columns=["row"]).column("row").to_pylist()
    bad = [
        json.loads(line) for line in (embedded.output / "_bad_rows.jsonl").read_text().splitlines()
    ]
    assert sorted([*rows, *(row["row"] for row in bad)]) == list(range(bulk.ROWS + len(bulk.BAD)))
    assert {row["id"]: row["reason"] for row in bad} == bulk.BAD
    assert {(Path(row["file"]).name, row["file_row"]) for row in bad} == {
        ("a.parquet", bulk.ROWS // 4),
        ("b.jsonl", 0),
    }


@pytest.mark.parametrize("server", ["source"], indirect=True)
def test_vectors_are_those_of_the_service(embedded: bulk.Embedded, server: Server) -> None:
    sample = dict(list(embedded.texts.items())[::10])
    with server.client() as client:
        body = {"texts": list(sample.values()), "encoding_format": "base64"}
        answer = client.post("/batch-embed", json=body).json()
    ours = bulk.vectors(embedded.output)
    theirs = {
        key: base64.b64decode(vector)
        for key, vector in zip(sample, answer["embeddings"], strict=True)
    }
    assert {key: ours[key] for key in sample} == theirs
    table = pq.read_table(embedded.output).select(["id", "tokens"]).to_pydict()
    tokens = dict(zip(table["id"], table["tokens"], strict=True))
    assert [tokens[key] for key in sample] == answer["tokens"]


def test_the_same_command_again_does_nothing_and_says_the_same(
    embedded: bulk.Embedded, tmp_path: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in embedded.output.glob("part-*")}
    ran = bulk.run("embed_dataset", embedded.corpus, embedded.output, *bulk.OPTIONS)
    assert ran.returncode == 3, ran.stderr
    assert ran.stdout.startswith("0 texts")
    assert {path.name: path.stat().st_mtime_ns for path in embedded.output.glob("part-*")} == before


def test_finished_parts_go_into_a_database(embedded: bulk.Embedded, database_url: str) -> None:
    more = ("--to", database_url, "--table", "bulk", "--quiet")
    ran = bulk.run("embed_dataset", embedded.corpus, embedded.output, *bulk.OPTIONS, *more)
    assert ran.returncode == 3, ran.stderr
    with psycopg.connect(database_url) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM bulk").fetchall()]
    assert sorted(ids) == sorted(embedded.texts)


PEAK = """
import sys
from pathlib import Path
from jobs.exit_status import run_command
from jobs.embed_dataset import main
status = run_command(main)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
print(peak.split()[1])
sys.exit(status)
"""


def peak_mb(source: Path, output: Path, *, status: int) -> float:
    """Of a whole job."""
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(source), str(output), "--quiet"],
        cwd=SOURCE,
        env=bulk.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == status, ran.stderr
    return int(ran.stdout) / 1000


def test_no_text_makes_a_job_larger(embedded: bulk.Embedded, tmp_path: Path) -> None:
    """Rows of 4 MB are read and cut, and one of 60 MB is passed over."""
    ordinary = peak_mb(embedded.corpus, tmp_path / "ordinary", status=3)
    lines = [json.dumps({"text": text * 1_300_000}) for text in ("...", "ab ")]
    lines.append(json.dumps({"text": "." * 60_000_000}))
    (tmp_path / "a.jsonl").write_text("\n".join(lines * 2), encoding="utf-8")
    peak = peak_mb(tmp_path / "a.jsonl", tmp_path / "out", status=3)
    table = pq.read_table(tmp_path / "out")
    assert table.column("truncated").to_pylist() == [True] * table.num_rows
    assert peak < ordinary + 300


NO_RAY = 'raise SystemExit("Ray was imported")'


def test_ray_is_imported_for_a_cluster_alone(embedded: bulk.Embedded, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text(NO_RAY)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one row"}')
    more = {"PYTHONPATH": str(tmp_path)}
    ran = bulk.run("embed_dataset", rows, tmp_path / "out", more=more)
    assert ran.returncode == 0, ran.stderr
    ran = bulk.run("embed_dataset", rows, tmp_path / "other", "--address", "auto", more=more)
    assert (ran.returncode, "Ray was imported" in ran.stderr) == (1, True)


def test_a_job_that_is_killed_and_stopped_goes_on_to_the_same_bytes(
    embedded: bulk.Embedded,
    tmp_path: Path,
) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    arguments = (embedded.corpus, output, *bulk.OPTIONS, "--quiet", "--threads", "1")
    for number, status, said in [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGTERM, 130, bulk.STOPPED),
        (signal.SIGINT, 130, bulk.STOPPED),
    ]:
        job = bulk.start("embed_dataset", *arguments, log=log)
        bulk.wait_for_parts(output, len(bulk.parts(output)) + 2, job, log)
        job.send_signal(number)
        assert (job.wait(10), log.read_text()) == (status, said)
        assert len(bulk.parts(output)) < len(bulk.parts(embedded.output))
    ran = bulk.run("embed_dataset", embedded.corpus, output, *bulk.OPTIONS)
    assert ran.returncode == 3, ran.stderr
    bulk.assert_same_bytes(output, embedded.output)


def test_a_full_disk_is_one_line_and_leaves_whole_parts(
    embedded: bulk.Embedded, tmp_path: Path
) -> None:
    output = tmp_path / "small"
    output.mkdir()
    job = " ".join(
        f"'{part}'"
        for part in bulk.command("embed_dataset", embedded.corpus, output, *bulk.OPTIONS, "--quiet")
    )
    script = (
        f"mount -t tmpfs -o size=300k tmpfs {output} && "
        f"{{ {job}; code=$?; ls -A {output}; exit $code; }}"
    )
    own = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    ran = subprocess.run(
        [*own, "sh", "-c", script],
        cwd=SOURCE,
        env=bulk.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 1, ran.stderr
    assert ran.stderr.startswith("embedding-api: the disk is full")
    assert len(ran.stderr.splitlines()) == 1
    left = ran.stdout.split()
    assert any(name.startswith("part-") for name in left)
    assert not any(name.startswith(".") for name in left)


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (("--text", "body"), {}, "has no column 'body'; it has 'id', 'text'"),
        (("--task", "query"), {}, "this model has no prompt for the task 'query'"),
        (("--dimensions", "7"), {}, "dimensions of this model are 384, not 7"),
        (
            (),
            {"MODEL_QUANTIZATION": "fp16"},
            "the model store has no complete all-minilm-l6-v2-fp16",
        ),
    ],
)
def test_what_cannot_work_is_told_in_one_line_before_anything_starts(
    embedded: bulk.Embedded,
    tmp_path: Path,
    options: tuple[str, ...],
    environment: dict[str, str],
    said: str,
) -> None:
    ran = bulk.run("embed_dataset", embedded.corpus, tmp_path / "out", *options, more=environment)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
