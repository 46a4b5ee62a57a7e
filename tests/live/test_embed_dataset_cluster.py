"""Jobs on a Ray cluster."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lab.server import free_port
from tests.live import bulk

CLUSTER_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@dataclass(frozen=True)
class Cluster:
    """A Ray that belongs to somebody else and runs from another directory."""

    address: str
    pid: int


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    address = f"127.0.0.1:{free_port()}"
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--head", "--block", "--include-dashboard=false"]
    command += [f"--port={address.rpartition(':')[2]}", "--num-cpus=2"]
    with (directory / "log").open("wb") as log:
        environment = bulk.environment(RAY_USAGE_STATS_ENABLED="0", **CLUSTER_TOKEN)
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
    try:
        yield Cluster(address, process.pid)
    finally:
        family = descendants(process.pid)
        process.terminate()
        process.wait(60)
        psutil.wait_procs(family, timeout=60)


def test_a_job_whose_worker_is_killed_on_a_cluster_is_finished_here(
    embedded: bulk.Embedded,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    arguments = (embedded.corpus, output, *bulk.OPTIONS, "--quiet", "--address", cluster.address)
    job = bulk.start("embed_dataset", *arguments, log=log, **CLUSTER_TOKEN)
    bulk.wait_for_parts(output, 2, job, log)
    workers(cluster)[0].kill()
    bulk.wait_for_parts(output, len(bulk.parts(output)) + 5, job, log)
    engines = workers(cluster)
    job.terminate()
    assert job.wait(30) == 130
    # Ray has a line of its own for the worker that was killed.
    assert bulk.STOPPED in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not psutil.wait_procs(engines, timeout=60)[1], "engines outlived their job"
    assert len(bulk.parts(output)) < len(bulk.parts(embedded.output))

    ran = bulk.run("embed_dataset", embedded.corpus, output, *bulk.OPTIONS)
    assert ran.returncode == 3, ran.stderr
    bulk.assert_same_bytes(output, embedded.output)


def workers(cluster: Cluster) -> list[psutil.Process]:
    """Those that hold an engine."""
    return [one for one in descendants(cluster.pid) if "PartWorker" in " ".join(one.cmdline())]


def test_a_cluster_makes_the_same_bytes(
    embedded: bulk.Embedded,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    more = ("--address", cluster.address, "--threads", "1", "--quiet")
    arguments = (embedded.corpus, tmp_path / "out", *bulk.OPTIONS, *more)
    ran = bulk.run("embed_dataset", *arguments, more=CLUSTER_TOKEN)
    assert (ran.returncode, ran.stderr) == (3, "")
    bulk.assert_same_bytes(tmp_path / "out", embedded.output)


def test_what_a_cluster_has_no_room_for_is_not_waited_for(
    embedded: bulk.Embedded,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    arguments = ("--address", cluster.address, "--quiet", *bulk.OPTIONS)
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


def descendants(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))
