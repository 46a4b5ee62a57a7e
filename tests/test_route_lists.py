"""Documents, proxies and alert rules name the routes that the service has."""

from pathlib import Path

import pytest

from dev.route_lists import (
    GENERATED,
    batch_route_table,
    client_route_table,
    endpoints,
    route_table,
    served_paths,
)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_proxies_and_alert_rules_name_the_routes_of_the_service(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert GENERATED[path](text) == text, f"run `make docs`: {path.name} is behind"


def test_what_is_internal_is_not_let_through() -> None:
    assert "/metrics" not in served_paths("public", "probe")
    assert served_paths("internal") == ["/metrics"]


def test_files_and_names_below_a_path_are_one_pattern() -> None:
    public = served_paths("public")
    assert {"/docs", "/docs/*", "/v1/models", "/v1/models/*"} <= set(public)
    assert {"/playground", "/playground/*"} <= set(public)
    assert not [path for path in public if "{" in path or path.endswith(".js")]


def test_every_route_has_a_summary_and_a_line_in_the_table() -> None:
    table = route_table() + batch_route_table() + client_route_table()
    for endpoint in endpoints():
        assert endpoint.summary
        assert endpoint.paths[0] in table
