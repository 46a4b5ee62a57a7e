"""Cache-Control of requests."""

import pytest

from api.cache_control import asks_no_store


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([b"no-cache"], False),
        ([b"no-store"], True),
        ([b"max-age=0, No-Store"], True),
        ([b"max-age=0", b" no-store "], True),
        ([b"x-no-store", b"max-age=no-store"], False),
    ],
)
def test_only_no_store_forbids_to_keep(values: list[bytes], expected: bool) -> None:
    headers = [(b"accept", b"no-store"), *((b"cache-control", value) for value in values)]
    assert asks_no_store({"type": "http", "headers": headers}) == expected
