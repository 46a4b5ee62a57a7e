"""Placement of engines on the nodes of a cluster, and a real Ray that is busy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cluster import Node, Placement, placements
from jobs.embed_dataset import parse
from jobs.errors import UsageError
from lab.server import ROOT
from tests.live.bulk import environment


def nodes(*cpus: int) -> list[Node]:
    return [Node(f"node-{number}", count) for number, count in enumerate(cpus)]


def test_each_node_has_one_engine_with_all_its_cpus_and_the_largest_come_first() -> None:
    cluster = nodes(0, 2, 8, 4)
    everything = [Placement("node-2", 8), Placement("node-3", 4), Placement("node-1", 2)]
    assert placements(cluster, workers=None, threads=None) == everything
    assert placements(cluster, workers=2, threads=None) == everything[:2]


@pytest.mark.parametrize(
    ("cpus", "threads", "engines"),
    [((2,), 1, 2), ((2,), 2, 1), ((0, 3, 3), 1, 6), ((0, 3, 3), 2, 2), ((0, 8, 2), 4, 2)],
)
def test_engines_of_some_threads_fill_the_nodes(
    cpus: tuple[int, ...],
    threads: int,
    engines: int,
) -> None:
    found = placements(nodes(*cpus), workers=None, threads=threads)
    assert len(found) == engines
    for node in nodes(*cpus):
        assert sum(share.threads for share in found if share.node == node.id) <= node.cpus


@pytest.mark.parametrize(
    ("cpus", "workers", "threads", "said"),
    [
        ((0, 2, 2), None, 4, "a worker of 4 threads fits no node: the largest has 2 CPUs"),
        ((0, 0), None, None, "a worker fits no node: the largest has 0 CPUs"),
        ((0, 2, 2), 3, None, "3 workers with a node each do not fit: there is room for 2"),
        ((3, 3), 3, 2, "3 workers of 2 threads do not fit: there is room for 2"),
    ],
)
def test_engines_that_do_not_fit_are_refused(
    cpus: tuple[int, ...],
    workers: int | None,
    threads: int | None,
    said: str,
) -> None:
    with pytest.raises(UsageError, match=said):
        placements(nodes(*cpus), workers=workers, threads=threads)


def test_workers_without_a_cluster_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["corpus", "out", "--workers", "2"])
    assert ended.value.code == 2
    assert "--workers goes with --address" in capsys.readouterr().err


BUSY = """
import json
import sys
import ray
from jobs import cluster
from jobs.embedding import Engine
from jobs.input.files import InputFile
from jobs.input.parts import Part

class Stop(Exception): pass

said = []
def say(text):
    said.append(text)
    if len(said) == 2:
        raise Stop

cluster.SILENCE = 1.0
with cluster.running("local") as [node]:
    sleep = ray.remote(lambda: __import__("time").sleep(60))
    holder = sleep.options(num_cpus=node.cpus).remote()
    engine = Engine("nowhere", "", threads=1, max_tokens=1, batch_tokens=1)
    part = Part(0, InputFile("a.txt", "text", 1, None), 0, 1, 1, 0, 0)
    try:
        list(cluster.embed(None, [part], engine, [cluster.Placement(node.id, 1)], say=say))
    except Stop:
        print(json.dumps(said))
"""


def test_a_busy_cluster_is_reported(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BUSY],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,  # a busy machine may need a second attempt of 30 s
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [
        "no part has finished for 1 s; 0 of 1 engines work, 1 wait for CPUs (0 free) or load",
        "no part has finished for 2 s; 0 of 1 engines work, 1 wait for CPUs (0 free) or load",
    ]
