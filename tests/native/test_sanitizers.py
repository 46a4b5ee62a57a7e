"""The engine's C++ with sanitizers: a wrong access, undefined operation or race ends the program.

The programs describe what they check. clang-19 compiles them.
"""

import random
from pathlib import Path

import pytest

from tests.native.programs import engine_program, pool_program, run

FUZZ_SECONDS = 15


def test_random_models_give_equal_bits_without_memory_errors(
    tmp_path: Path,
) -> None:
    run(engine_program("engine_test", "address", tmp_path), "0", "17", seconds=300)


@pytest.mark.usefixtures("linux_objects")  # those of kernels that are not run
def test_threads_that_share_a_pack_do_not_race(tmp_path: Path) -> None:
    program = engine_program("engine_test", "thread", tmp_path, kernels=["portable"])
    run(program, "9", "17", "portable", seconds=300)


@pytest.mark.parametrize("variant", ["thread", "address"])
def test_the_pool_runs_every_item_once_and_never_hangs(variant: str, tmp_path: Path) -> None:
    """With random delays and up to eight threads, on any number of cores."""
    run(pool_program(variant, tmp_path), "5", seconds=300)


def test_arbitrary_models_and_texts_cause_no_memory_errors(tmp_path: Path) -> None:
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
