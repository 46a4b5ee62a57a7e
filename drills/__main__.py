"""Run the fault drills on real processes, and write a table of what callers saw.

python -m drills [NAME ...]
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import httpx

from drills.faults import Stage
from drills.load import Load
from drills.refusal import SEEN as DAMAGED_SEEN
from drills.refusal import TITLE as DAMAGED
from drills.refusal import damaged_model
from drills.report import Expected, Result, known, problems, save, table
from drills.table import DRILLS, Drill
from embedder.model import EmbeddingModel
from embedder.postprocess import Vectors
from embedder.prepare.sentences import SENTENCES
from lab.key_server import KeyServer
from lab.models import prepared, random_embeddinggemma
from lab.redis_server import RedisServer
from lab.server import serve, token
from lab.texts import text_of

CALM = 2.0  # seconds of load before a fault and after the recovery
RECOVERY = 120.0  # seconds


@cache
def references(long: bool) -> tuple[tuple[str, ...], Vectors]:
    """Texts, and their vectors from the bare engine: (n_texts, dimensions)."""
    directory = prepared(str(random_embeddinggemma()), "int8") if long else prepared(None, "fp32")
    model = EmbeddingModel.load(directory, num_threads=2)
    texts = tuple(SENTENCES)
    if long:
        texts = tuple(text_of(n, model.tokenizer) for n in (2048, 2000, 1900, 1800))
    return texts, model.embed(texts)


def run(drill: Drill) -> Result:
    """Run one drill on a new server."""
    texts, vectors = references(drill.long_texts)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        redis = RedisServer(directory)
        keys = KeyServer()
        stack.callback(redis.kill)
        redis.start()
        stack.callback(keys.stop)
        keys.start("first")
        environment = drill.prepare(directory, stack) | _settings(drill, redis, keys)
        log = next(iter(directory.glob("disk")), directory) / "log"
        server = stack.enter_context(serve(log, environment, ready=False))
        load = Load(server.url, texts, vectors, sign=_sign(drill, keys))
        if drill.long_texts:
            load.callers = 2
            load.pause = 0.0
        stage = Stage(directory, server, redis, keys, load)
        stack.enter_context(drill.frame(stage))
        server.wait_until_ready()
        return asyncio.run(_play(drill, stage))


def _settings(drill: Drill, redis: RedisServer, keys: KeyServer) -> dict[str, str]:
    environment = {
        "REDIS_URL": redis.url,
        "RATE_LIMIT_PER_MIN": "1000000",
        "MODEL_QUANTIZATION": "fp32",
    }
    if drill.long_texts:
        environment |= {"MODEL_NAME": str(random_embeddinggemma()), "MODEL_QUANTIZATION": "int8"}
    return environment | ({"SUPABASE_URL": keys.url} if drill.signed_by_key else {})


def _sign(drill: Drill, keys: KeyServer) -> Callable[[str], str]:
    return (lambda user: keys.sign(user=user)) if drill.signed_by_key else token


async def _play(drill: Drill, stage: Stage) -> Result:
    load = stage.load
    async with load.running():
        await asyncio.sleep(CALM)
        began = time.monotonic()
        await drill.fault(stage)
        healthy = stage.healed if stage.ends else await _recovered(stage)
        if not stage.ends:
            await asyncio.sleep(CALM)
        ended = None if stage.ends else time.monotonic()
    found = Counter(call.outcome for call in load.calls)
    details = Counter(call.detail for call in load.calls if call.outcome != "right")
    notes = [*stage.notes, *(f"{count} x {detail}" for detail, count in details.most_common(4))]
    end = time.monotonic() if stage.ends else max(healthy, load.last_trouble())
    return Result(
        title=drill.title,
        calls=len(load.calls),
        wrong=found["wrong"],
        lost=found["lost"],
        refused=found["refused"],
        longest_stall_s=round(load.longest_stall(began, ended), 2),
        recovered_s=round(max(0.0, end - stage.healed), 2),
        notes="; ".join(notes),
    )


def expected(drill: Drill) -> Expected:
    return Expected(may_lose=drill.may_lose, may_refuse=drill.may_refuse, seen=drill.seen)


async def _recovered(stage: Stage) -> float:
    """Wait until /health reports no problem; returns the time of time.monotonic().

    Raises:
        TimeoutError: it still does after RECOVERY seconds.
    """
    async with (
        asyncio.timeout(RECOVERY),
        httpx.AsyncClient(base_url=stage.server.url, timeout=30) as client,
    ):
        while True:
            try:
                answer = await client.get("/health")
            except httpx.TransportError:
                pass
            else:
                if answer.is_success and answer.json()["redis"] == "ok":
                    return time.monotonic()
            await asyncio.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", choices=[*DRILLS, "damaged-model", []], help="default: all"
    )
    names = parser.parse_args().names or [*DRILLS, "damaged-model"]
    results = {result.title: result for result in known()}
    titles = [*(drill.title for drill in DRILLS.values()), DAMAGED]
    failed: list[str] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        result = run(DRILLS[name]) if name in DRILLS else Result(**damaged_model())
        results[result.title] = result
        print(table([result]).splitlines()[-1], flush=True)
        save([results[title] for title in titles if title in results])
        drill = DRILLS.get(name)
        failed += problems(result, expected(drill) if drill else Expected(seen=DAMAGED_SEEN))
    sys.exit("\n".join(failed) or 0)


if __name__ == "__main__":
    main()
