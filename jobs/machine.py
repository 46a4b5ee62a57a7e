"""Embed parts with one engine in this process.

There is no worker process: nothing has to supervise one, and memory holds one copy of the model.
When the process dies, the same command resumes the job.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from jobs.embedding import PARTS_AT_ONCE, Engine, FinishedPart, PartEmbedder
from jobs.input.parts import Part
from jobs.job import Job

SILENCE = 60.0  # seconds without a finished part before a message is printed


def embed(
    job: Job,
    parts: Sequence[Part],
    engine: Engine,
    *,
    say: Callable[[str], None],
) -> Iterator[FinishedPart]:
    """Embed parts.

    Args:
        job: what is read and written.
        parts: those to embed.
        engine: the model and its limits.
        say: gets a message when no part finishes for SILENCE seconds.

    Yields:
        Each part, in the order given.

    Raises:
        JobError: a part cannot be embedded.
    """
    embedder = PartEmbedder(job, engine)
    pool = ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part")
    running: deque[Future[FinishedPart]] = deque()
    try:
        for part in parts:
            running.append(pool.submit(embedder.run, part))
            if len(running) > PARTS_AT_ONCE:
                yield _outcome(running.popleft(), say)
        while running:
            yield _outcome(running.popleft(), say)
    except Exception:
        pool.shutdown(cancel_futures=True)  # parts already begun are finished and written
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _outcome(future: "Future[FinishedPart]", say: Callable[[str], None]) -> FinishedPart:
    silent = 0.0
    while not wait([future], timeout=SILENCE).done:
        silent += SILENCE
        say(f"no part has finished for {silent:.0f} s; a smaller --part-rows shows more")
    return future.result()
