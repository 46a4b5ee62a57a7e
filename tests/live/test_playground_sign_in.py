"""The playground in a real browser, with a project that signs users in."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from lab.browser import Page
from lab.server import CACHE, Server, serve
from lab.supabase import PUBLISHABLE_KEY, Project, User, running_project
from tests.live.conftest import PLENTY
from tests.live.playground import (
    READY,
    SIGNED_IN,
    TEXTS,
    answer_of,
    click,
    compare,
    fill,
    open_page,
    said,
    use_token,
)

ANN = User("6f1c1c86-6d3c-4c8a-9d0b-2c8f6d1a00a0", "ann@example.com", "password of Ann")


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    with running_project(None, ANN) as running:
        yield running


@pytest.fixture(scope="module")
def with_project(
    gemma_directory: Path, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A model with tasks and sizes, for the users of a project."""
    environment = PLENTY | CACHE | {"MODEL_QUANTIZATION": "fp32", "SUPABASE_JWT_SECRET": ""}
    environment |= {"MODEL_NAME": str(gemma_directory), "SUPABASE_URL": project.url}
    environment |= {"SUPABASE_ANON_KEY": PUBLISHABLE_KEY, "TOKENS_PER_DAY": "100000"}
    with serve(tmp_path_factory.mktemp("with-project") / "log", environment) as running:
        yield running


def cells(page: Page, picture: str) -> np.ndarray:
    """The numbers of a picture's table: (texts, columns)."""
    shown: list[list[float]] = page.evaluate(
        f"[...document.querySelectorAll('#{picture}-table tbody tr')].map((row) => "
        "[...row.querySelectorAll('td')].map((cell) => Number(cell.textContent)))"
    )
    return np.array(shown)


def test_it_shows_what_the_api_answers(page: Page, with_project: Server, project: Project) -> None:
    bearer = project.token(ANN)
    open_page(page, with_project)
    use_token(page, bearer)
    page.wait_for(SIGNED_IN)
    assert said(page, "#who") == ANN.email
    fill(page, "#task", "query")
    fill(page, "#dimensions", "256")
    compare(page, TEXTS)
    asked = {"texts": TEXTS, "task": "query", "dimensions": 256}
    cosines = np.array(answer_of(with_project, bearer, "/similarity", **asked)["similarities"])
    click(page, "#heat-table summary")
    page.wait_for("document.querySelector('#heat-table td')")
    np.testing.assert_allclose(cells(page, "heat"), cosines, atol=6e-5)
    shown_share = int(said(page, "#variance").split("%")[0].split()[-1])
    centred = np.eye(4) - 1 / 4
    values, directions = np.linalg.eigh(centred @ cosines @ centred)
    assert shown_share == pytest.approx(100 * values[-2:].sum() / values.sum(), abs=1)
    click(page, "#map-table summary")
    page.wait_for("document.querySelector('#map-table td')")
    components = (directions * np.sqrt(values.clip(0)))[:, [-1, -2]]
    np.testing.assert_allclose(np.abs(cells(page, "map")), np.abs(components), atol=1e-3)
    assert page.evaluate("document.querySelectorAll('#map circle').length") == 4
    read = answer_of(with_project, bearer, "/tokenize", texts=TEXTS, task="query")["texts"]
    figures = said(page, "#figures").split("\n")
    assert str(sum(len(text["ids"]) for text in read)) in figures
    assert "4 × 256" in figures
    left = httpx.get(f"{with_project.url}/usage", headers={"Authorization": f"Bearer {bearer}"})
    assert f"{left.json()['tokens']['remaining']:,} of 100,000" in said(page, "#quota")
    shown_body = said(page, "#code").split("-d '")[1].removesuffix("'")
    assert json.loads(shown_body) == asked


def test_a_user_signs_in_with_a_password_and_ends_the_session(
    page: Page, with_project: Server, project: Project
) -> None:
    open_page(page, with_project)
    fill(page, "#email", ANN.email)
    fill(page, "#password", "wrong")
    click(page, "#sign-in button[type=submit]")
    page.wait_for("document.querySelector('#account-error').innerText")
    assert said(page, "#account-error") == "Invalid login credentials"
    fill(page, "#password", ANN.password)
    click(page, "#sign-in button[type=submit]")
    page.wait_for(SIGNED_IN)
    assert said(page, "#who") == ANN.email
    assert said(page, "#account-error") == ""
    assert page.evaluate("document.querySelector('#password').value") == ""
    compare(page, TEXTS)
    assert page.evaluate("document.querySelectorAll('#map circle').length") == len(TEXTS)
    ended = len(project.ended)
    click(page, "#sign-out")
    page.wait_for("!document.querySelector('#signed-out').hidden")
    page.wait_for(f"{json.dumps(True)} && document.activeElement.id === 'email'")
    click(page, "#compare")
    assert said(page, "#account-error") == "Sign in, or paste an access token."
    page.wait_for("performance.getEntriesByType('resource').some(({name}) => /logout/.test(name))")
    assert len(project.ended) == ended + 1


def test_a_link_from_an_e_mail_signs_in_once_and_leaves_no_token_in_the_address(
    page: Page, with_project: Server, project: Project
) -> None:
    open_page(page, with_project)
    for email, told in (("stranger@example.com", "Signups not allowed for otp"), (ANN.email, "")):
        fill(page, "#email", email)
        click(page, "#send-link")
        place = "#account-error" if told else "#account-status"
        page.wait_for(f"document.querySelector('{place}').innerText")
        assert told in said(page, place)
    [link] = project.links
    page.open(link)
    page.wait_for(READY)
    page.wait_for(SIGNED_IN)
    assert said(page, "#who") == ANN.email
    assert page.evaluate("location.href") == f"{with_project.url}/playground"
    page.open(link)
    page.wait_for(f"{READY} && document.querySelector('#account-error').innerText")
    assert said(page, "#account-error") == "Email link is invalid or has expired"
    assert page.evaluate("location.href") == f"{with_project.url}/playground"
    assert not page.evaluate(SIGNED_IN)


def test_nothing_secret_is_served_and_files_are_sent_once(
    with_project: Server, project: Project
) -> None:
    with httpx.Client(base_url=with_project.url) as client:
        html = client.get("/playground")
        known = client.get("/playground/settings.json")
        kept = client.get("/playground", headers={"If-None-Match": html.headers["etag"]})
    assert known.json()["project"] == {"url": project.url, "key": PUBLISHABLE_KEY}
    assert kept.status_code == 304
    policy = html.headers["content-security-policy"]
    assert f"connect-src 'self' {project.url};" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
