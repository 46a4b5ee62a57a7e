"""The engine's C++ where every wrong access, undefined operation and race ends the program.

The programs say what they check; clang-19 compiles them.
"""

import random
from pathlib import Path

import pytest

from tests.native.programs import engine_program, pool_program, run

FUZZ_SECONDS = 15


def test_random_models_of_every_kind_give_equal_bits_and_touch_no_memory_but_theirs(
    tmp_path: Path,
) -> None:
    run(engine_program("engine_test", "address", tmp_path), "0", "17", seconds=300)


def test_threads_that_share_a_pack_do_not_race(tmp_path: Path) -> None:
    program = engine_program("engine_test", "thread", tmp_path, kernels=["portable"])
    run(program, "12", "17", "portable", seconds=300)


@pytest.mark.parametrize("variant", ["thread", "address"])
def test_the_pool_runs_every_item_once_and_never_hangs(variant: str, tmp_path: Path) -> None:
    """With delays in between, and up to eight threads on however few cores there are."""
    run(pool_program(variant, tmp_path), "5", seconds=300)


def test_arbitrary_bytes_for_models_and_texts_touch_no_memory_but_theirs(tmp_path: Path) -> None:
    link = ("-fsanitize=address,undefined,fuzzer",)
    fuzzer = engine_program("fuzz", "address", tmp_path, link=link)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    generator = random.Random(0)
    for number in range(60):
        (corpus / str(number)).write_bytes(generator.randbytes(400))
    bounds = ("-max_len=600", "-timeout=60", "-malloc_limit_mb=1024")
    no_rss_limit = "-rss_limit_mb=0"  # it reads ru_maxrss, which a child inherits from pytest
    options = (*bounds, no_rss_limit, "-len_control=0", f"-artifact_prefix={tmp_path}/")
    run(fuzzer, f"-max_total_time={FUZZ_SECONDS}", "-seed=1", *options, str(corpus), seconds=300)
