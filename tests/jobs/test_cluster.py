"""Workers on a real Ray that is too small or busy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cluster import Size
from jobs.errors import UsageError
from tests.live.bulk import environment
from tests.live.server import ROOT


@pytest.mark.parametrize(
    ("cpus", "threads", "workers"),
    [((2,), 1, 2), ((2,), 2, 1), ((0, 3, 3), 1, 6), ((0, 3, 3), 2, 2), ((0, 8, 2), 4, 2)],
)
def test_there_are_as_many_workers_as_nodes_have_room_for(cpus: tuple[int, ...], threads: int, workers: int) -> None:
    assert Size(cpus).workers(None, threads) == workers
    assert Size(cpus).workers(workers, threads) == workers
    with pytest.raises(UsageError, match=f"have room for {workers}"):
        Size(cpus).workers(workers + 1, threads)


def test_a_worker_that_fits_no_node_is_not_waited_for() -> None:
    with pytest.raises(UsageError, match="a worker of 4 threads fits no node: the largest has 2 CPUs"):
        Size((0, 2, 2)).workers(None, 4)


BUSY = """
import json
import sys
import ray
from jobs import cluster
from jobs.parts import Part

class Stop(Exception): pass

said = []
def say(text):
    said.append(text)
    if len(said) == 2:
        raise Stop

cluster.SILENCE = 1.0
with cluster.running(None) as size:
    holder = ray.remote(lambda: __import__("time").sleep(60)).options(num_cpus=sum(size.cpus)).remote()
    engine = cluster.Engine("nowhere", "", threads=1, max_tokens=1, batch_tokens=1)
    part = Part(0, "a.txt", "text", 0, 1, 1, 0, 0)
    try:
        list(cluster.embed(None, [part], engine, workers=1, say=say))
    except Stop:
        print(json.dumps(said))
"""


def test_a_cluster_that_is_busy_with_something_else_is_told_of(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BUSY], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [
        "no part has finished for 1 s; 0 of 1 engines work, 1 wait for CPUs (0 free) or load",
        "no part has finished for 2 s; 0 of 1 engines work, 1 wait for CPUs (0 free) or load",
    ]
