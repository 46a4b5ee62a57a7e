"""Parts through one engine in this process.

A process that dies takes the job along, and the same command goes on: no second process has to be
watched, and the machine holds one copy of everything.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from jobs.embedding import PARTS_AT_ONCE, Done, Engine, PartEmbedder
from jobs.input.parts import Part
from jobs.job import Job

SILENCE = 60.0  # seconds without a finished part after which something is said


def embed(
    job: Job,
    parts: Sequence[Part],
    engine: Engine,
    *,
    say: Callable[[str], None],
) -> Iterator[Done]:
    """Every part, in their order. Raises JobError when one cannot be made."""
    embedder = PartEmbedder(job, engine)
    pool = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part")
    running: deque[Future[Done]] = deque()
    try:
        for part in parts:
            running.append(pool.submit(embedder.run, part))
            if len(running) > PARTS_AT_ONCE:
                yield _outcome(running.popleft(), say)
        while running:
            yield _outcome(running.popleft(), say)
    except Exception:
        pool.shutdown(cancel_futures=True)  # parts that were begun are finished, and stay
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _outcome(future: "Future[Done]", say: Callable[[str], None]) -> Done:
    silent = 0.0
    while not wait([future], timeout=SILENCE).done:
        silent += SILENCE
        say(f"no part has finished for {silent:.0f} s; a smaller --part-rows shows more")
    return future.result()
