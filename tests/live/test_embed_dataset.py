"""Jobs: whole, killed, stopped, on a Ray cluster, on a full disk."""

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lab.server import SOURCE, Server, free_port
from tests.live import bulk

ROWS = 400
OPTIONS = ("--id", "id", "--part-rows", "10")

CLUSTER_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@dataclass(frozen=True)
class Embedded:
    """A corpus, and what a job that nobody disturbed made of it."""

    corpus: Path
    texts: dict[str, str]  # by id
    output: Path


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Embedded:
    directory = tmp_path_factory.mktemp("bulk")
    texts = bulk.write_corpus(directory / "corpus", ROWS)
    output = directory / "out"
    ran = bulk.run("embed_dataset", directory / "corpus", output, *OPTIONS, "--quiet")
    assert ran.returncode == 3, ran.stderr
    assert (ran.stdout, ran.stderr) == ("", "")
    return Embedded(directory / "corpus", texts, output)


def test_every_row_is_there_once_and_bad_ones_are_told(embedded: Embedded) -> None:
    assert bulk.vectors(embedded.output).keys() == embedded.texts.keys()
    rows = pq.read_table(embedded.output, columns=["row"]).column("row").to_pylist()
    bad = [
        json.loads(line) for line in (embedded.output / "_bad_rows.jsonl").read_text().splitlines()
    ]
    assert sorted([*rows, *(row["row"] for row in bad)]) == list(range(ROWS + len(bulk.BAD)))
    assert {row["id"]: row["reason"] for row in bad} == bulk.BAD
    assert {(Path(row["file"]).name, row["file_row"]) for row in bad} == {
        ("a.parquet", ROWS // 4),
        ("b.jsonl", 0),
    }


@pytest.mark.parametrize("server", ["source"], indirect=True)
def test_vectors_are_those_of_the_service(embedded: Embedded, server: Server) -> None:
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
    embedded: Embedded, tmp_path: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in embedded.output.glob("part-*")}
    ran = bulk.run("embed_dataset", embedded.corpus, embedded.output, *OPTIONS)
    assert ran.returncode == 3, ran.stderr
    assert ran.stdout.startswith("0 texts")
    assert {path.name: path.stat().st_mtime_ns for path in embedded.output.glob("part-*")} == before


def test_finished_parts_go_into_a_database(embedded: Embedded, database_url: str) -> None:
    more = ("--to", database_url, "--table", "bulk", "--quiet")
    ran = bulk.run("embed_dataset", embedded.corpus, embedded.output, *OPTIONS, *more)
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


def test_no_text_makes_a_job_larger(embedded: Embedded, tmp_path: Path) -> None:
    """Rows of 4 MB are read and cut, and one of 60 MB is passed over."""
    ordinary = peak_mb(embedded.corpus, tmp_path / "ordinary", status=3)
    lines = [json.dumps({"text": text * 1_300_000}) for text in ("...", "ab ")]
    lines.append(json.dumps({"text": "." * 60_000_000}))
    (tmp_path / "a.jsonl").write_text("\n".join(lines * 2), encoding="utf-8")
    peak = peak_mb(tmp_path / "a.jsonl", tmp_path / "out", status=3)
    table = pq.read_table(tmp_path / "out")
    assert table.column("truncated").to_pylist() == [True] * table.num_rows
    assert peak < ordinary + 300


STOPPED = "embedding-api: stopped; the same command resumes the job\n"
NO_RAY = 'raise SystemExit("Ray was imported")'


def test_ray_is_imported_for_a_cluster_alone(embedded: Embedded, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text(NO_RAY)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one row"}')
    more = {"PYTHONPATH": str(tmp_path)}
    ran = bulk.run("embed_dataset", rows, tmp_path / "out", more=more)
    assert ran.returncode == 0, ran.stderr
    ran = bulk.run("embed_dataset", rows, tmp_path / "other", "--address", "auto", more=more)
    assert (ran.returncode, "Ray was imported" in ran.stderr) == (1, True)


def test_a_job_that_is_killed_and_stopped_goes_on_to_the_same_bytes(
    embedded: Embedded,
    tmp_path: Path,
) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    for number, status, said in [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGTERM, 130, STOPPED),
        (signal.SIGINT, 130, STOPPED),
    ]:
        job = bulk.start("embed_dataset", embedded.corpus, output, *OPTIONS, "--quiet", log=log)
        wait_for_parts(output, len(bulk.parts(output)) + 2, job, log)
        job.send_signal(number)
        assert (job.wait(10), log.read_text()) == (status, said)
        assert len(bulk.parts(output)) < len(bulk.parts(embedded.output))
    ran = bulk.run("embed_dataset", embedded.corpus, output, *OPTIONS)
    assert ran.returncode == 3, ran.stderr
    assert_same_bytes(output, embedded.output)


def assert_same_bytes(output: Path, undisturbed: Path) -> None:
    """Every part and the bad rows, and nothing half-written beside them."""
    assert bulk.parts(output) == bulk.parts(undisturbed)
    for name in [*bulk.parts(output), "_bad_rows.jsonl"]:
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not list(output.rglob(".*"))


@dataclass(frozen=True)
class Cluster:
    """A Ray that belongs to somebody else and runs from another directory."""

    address: str
    pid: int


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    address = f"127.0.0.1:{free_port()}"
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--include-dashboard=false"]
    command += [f"--port={address.rpartition(':')[2]}", "--num-cpus=2"]
    with (tmp_path / "cluster").open("wb") as log:
        environment = bulk.environment(RAY_USAGE_STATS_ENABLED="0", **CLUSTER_TOKEN)
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        yield Cluster(address, process.pid)
    finally:
        family = descendants(process.pid)
        process.terminate()
        process.wait(60)
        psutil.wait_procs(family, timeout=60)


def test_a_job_whose_worker_is_killed_on_a_cluster_is_finished_here(
    embedded: Embedded,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    arguments = (embedded.corpus, output, *OPTIONS, "--quiet", "--address", cluster.address)
    job = bulk.start("embed_dataset", *arguments, log=log, **CLUSTER_TOKEN)
    wait_for_parts(output, 2, job, log)
    workers(cluster)[0].kill()
    wait_for_parts(output, len(bulk.parts(output)) + 5, job, log)
    engines = workers(cluster)
    job.terminate()
    assert job.wait(30) == 130
    assert STOPPED in log.read_text()  # Ray has a line of its own for the worker that was killed
    assert "Traceback" not in log.read_text()
    assert not psutil.wait_procs(engines, timeout=60)[1], "engines outlived their job"
    assert len(bulk.parts(output)) < len(bulk.parts(embedded.output))

    ran = bulk.run("embed_dataset", embedded.corpus, output, *OPTIONS)
    assert ran.returncode == 3, ran.stderr
    assert_same_bytes(output, embedded.output)


def workers(cluster: Cluster) -> list[psutil.Process]:
    """Those that hold an engine."""
    return [one for one in descendants(cluster.pid) if "PartWorker" in " ".join(one.cmdline())]


def test_a_cluster_makes_the_same_bytes(
    embedded: Embedded,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    more = ("--address", cluster.address, "--threads", "1", "--quiet")
    arguments = (embedded.corpus, tmp_path / "out", *OPTIONS, *more)
    ran = bulk.run("embed_dataset", *arguments, more=CLUSTER_TOKEN)
    assert (ran.returncode, ran.stderr) == (3, "")
    assert_same_bytes(tmp_path / "out", embedded.output)


def test_what_a_cluster_has_no_room_for_is_not_waited_for(
    embedded: Embedded,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    arguments = ("--address", cluster.address, "--quiet", *OPTIONS)
    room = "do not fit: there is room for"
    for options, said in [
        ("--threads 4", "a worker of 4 threads fits no node: the largest has 2 CPUs"),
        ("--workers 2", f"2 workers with a node each {room} 1 (CPUs of the nodes: 2)"),
    ]:
        more = (*arguments, *options.split())
        ran = bulk.run(
            "embed_dataset", embedded.corpus, tmp_path / "out", *more, more=CLUSTER_TOKEN
        )
        assert (ran.returncode, ran.stderr) == (2, f"embedding-api: {said}\n")


def test_a_full_disk_is_one_line_and_leaves_whole_parts(embedded: Embedded, tmp_path: Path) -> None:
    output = tmp_path / "small"
    output.mkdir()
    job = " ".join(
        f"'{part}'"
        for part in bulk.command("embed_dataset", embedded.corpus, output, *OPTIONS, "--quiet")
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
    embedded: Embedded,
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


def test_options_mean_what_they_mean_to_the_service(
    gemma_directory: Path, gemma_server: Server, tmp_path: Path
) -> None:
    texts = bulk.texts(60)
    rows = [
        {"id": n, "text": text, "head": f"Title {n}", "url": {"path": f"/{n}"}, "other": 1}
        for n, text in enumerate([*texts, "word " * 3000])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    options = (
        "--id id --title head --task document --dimensions 256 --output-type int8 --keep url "
        "--no-truncate"
    )
    more = "--threads 2 --part-rows 20 --price-per-month 730000"
    model = {"MODEL_NAME": str(gemma_directory)}
    ran = bulk.run(
        "embed_dataset",
        tmp_path / "a.parquet",
        tmp_path / "out",
        *options.split(),
        *more.split(),
        more=model,
    )
    assert ran.returncode == 3, ran.stderr

    with gemma_server.client() as client:
        body = {"texts": texts, "title": [row["head"] for row in rows[:-1]], "task": "document"}
        answer = client.post(
            "/batch-embed", json=body | {"dimensions": 256, "encoding_format": "int8"}
        ).json()
        limit = client.get("/v1/models").json()["data"][0]["max_tokens"]
    found = pq.read_table(tmp_path / "out")
    assert found.schema.field("embedding").type == pa.list_(pa.int8(), 256)
    assert found.column("embedding").to_pylist() == answer["embeddings"]
    assert found.column("tokens").to_pylist() == answer["tokens"]
    assert found.column("url").to_pylist() == [{"path": f"/{n}"} for n in range(60)]
    assert found.column_names == ["row", "id", "url", "embedding", "tokens", "windows", "truncated"]
    [bad] = map(json.loads, (tmp_path / "out" / "_bad_rows.jsonl").read_text().splitlines())
    assert (bad["id"], bad["reason"].endswith(f" tokens, the limit is {limit}")) == (60, True)
    assert_summary(
        ran.stdout,
        texts=60,
        truncated=0,
        failed=1,
        tokens=sum(answer["tokens"]),
        cores=2,
        price=730000,
    )


def test_bits_and_tasks_of_a_column_are_the_services(
    gemma_directory: Path, gemma_server: Server, tmp_path: Path
) -> None:
    texts, tasks = [*bulk.texts(20), "word " * 3000], ["query", "clustering", "document"] * 7
    rows = [{"text": text, "for": task} for text, task in zip(texts, tasks, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = "--task-column for --output-type binary --threads 2"
    model = {"MODEL_NAME": str(gemma_directory)}
    ran = bulk.run(
        "embed_dataset", tmp_path / "a.jsonl", tmp_path / "out", *options.split(), more=model
    )
    assert ran.returncode == 0, ran.stderr

    bits, tokens = list[list[int]](), list[int]()
    with gemma_server.client() as client:
        for text, task in zip(texts, tasks, strict=True):
            body = {"texts": [text], "task": task, "encoding_format": "binary"}
            answer = client.post("/batch-embed", json=body).json()
            bits, tokens = bits + answer["embeddings"], tokens + answer["tokens"]
    found = pq.read_table(tmp_path / "out")
    assert found.column("embedding").to_pylist() == bits
    assert found.column("truncated").to_pylist() == [False] * 20 + [True]
    assert_summary(
        ran.stdout, texts=21, truncated=1, failed=0, tokens=sum(tokens), cores=2, price=None
    )


def assert_summary(
    said: str,
    *,
    texts: int,
    truncated: int,
    failed: int,
    tokens: int,
    cores: int,
    price: float | None,
) -> None:
    """The figures are those of the job, and fit each other."""
    assert said.startswith(
        f"{texts} texts ({truncated} truncated, {failed} failed) and {tokens:,} tokens in "
    )
    number = r"([\d,.]+)"
    told = rf"; {number} texts/s; {number} tokens/s; {number} tokens/s per core"
    told += r"; engine busy \d+%"
    told += rf"; about {number} for this, {number} per million tokens$" if price else "$"
    match = re.search(told, said.splitlines()[0])
    assert match, said
    rates = [float(group.replace(",", "")) for group in match.groups()]
    assert rates[1] / rates[0] == pytest.approx(tokens / texts, rel=0.1)
    assert rates[2] == pytest.approx(rates[1] / cores, rel=0.01, abs=1)
    if price:
        assert rates[4] == pytest.approx(rates[3] / tokens * 1e6, rel=0.3)


def descendants(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


def wait_for_parts(
    output: Path,
    count: int,
    job: "subprocess.Popen[bytes]",
    log: Path,
) -> None:
    deadline = time.monotonic() + 180  # Ray takes its time on a machine with much else to do
    while len(bulk.parts(output)) < count:
        assert job.poll() is None, f"the job ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
