"""The documents agree with the code, stay short, and lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

from dev.documents import DOCUMENTS, QUIET, ROOT, TABLES, env_example, with_tables
from lab.results import results
from settings import Settings
from tests.printed import blocks

PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")}
)
MAX_LINES = {"README.md": 170, "README.ko.md": 170, "ARCHITECTURE.md": 120, "SECURITY.md": 80}
MAX_LINES_OF_A_TASK = 220
MAX_CHARACTERS = 120  # of a line; tables and code cannot be wrapped
CONTRACT = {
    "MODEL_NAME", "MODEL_QUANTIZATION", "MAX_BATCH_SIZE", "MAX_SEQ_LENGTH", "HF_TOKEN",
    "SUPABASE_JWT_SECRET", "SUPABASE_URL", "SUPABASE_ANON_KEY", "REDIS_URL", "RATE_LIMIT_PER_MIN",
    "DEBUG",
}  # fmt: skip


def test_tables_are_those_of_the_code_and_of_the_last_measurements() -> None:
    for path in DOCUMENTS:
        document = path.read_text(encoding="utf-8")
        assert with_tables(document) == document, f"run `make docs`: {path.name} is behind"


def test_every_table_has_a_place() -> None:
    for name in TABLES:
        mark = f"<!-- {name} -->"
        assert any(mark in path.read_text(encoding="utf-8") for path in DOCUMENTS), name


def test_the_least_memory_of_the_sizing_table_is_what_no_alert_tells_of() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "embedding-api.yml").read_text()
    assert f"({QUIET} * embed:memory_limit:bytes)" in rules


@pytest.mark.parametrize("model", ["starter", "embeddinggemma", "embeddinggemma2"])
def test_the_table_of_models_has_the_last_figures_of_int8(model: str) -> None:
    found = results("quality")[model]["int8"]["to_original"]
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert f"| {found['mean_cosine']:.5f}, {found['min_cosine']:.5f} |\n" in page


def test_the_example_environment_is_that_of_the_code() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_and_lines_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    if page.parent == ROOT / "docs":
        assert len(lines) <= MAX_LINES_OF_A_TASK
    elif page.parent == ROOT and page.name in MAX_LINES:
        assert len(lines) <= MAX_LINES[page.name]
    too_long = [line for line in _prose(lines) if len(line) > MAX_CHARACTERS]
    assert not too_long


def _prose(lines: list[str]) -> list[str]:
    """Lines outside of fenced blocks and tables."""
    prose = []
    fenced = False
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("|"):
            prose.append(line)
    return prose


def test_the_site_has_every_page() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(_leaves(site["nav"]))
    decisions = ROOT / "docs" / "decisions"
    pages = {
        str(page.relative_to(ROOT))
        for page in PAGES
        if page.parent != decisions or page.name == "README.md"
    }
    assert listed == pages


def _leaves(nav: object) -> list[str]:
    """Pages of a nav: a list of pages, and of titles with a page or with another list."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    assert not isinstance(entries, str)
    return [page for entry in entries for page in _leaves(entry)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_files_that_developers_are_told_of_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    told = set(re.findall(r"[\w./-]+\.(?:py|lua|h|cpp|conf)\b|[\w./-]+/(?=[\s`])", text))
    assert told
    places = [f"/{place}" for place in _places()]
    missing = {name for name in told if not any(place.endswith(f"/{name}") for place in places)}
    assert missing <= {"llama.cpp"}  # another project


def _places() -> list[str]:
    """Files and folders of the project, from its top; folders end in a slash."""
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".") and top.name != "build"]
    paths = [path for top in tops for path in (top, *top.rglob("*"))]
    return [f"{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}" for path in paths]


def test_the_architecture_has_every_part() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("```")[1]
    modules = {path.name for path in ROOT.glob("*.py")}
    packages = {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    missing = {name for name in modules | packages if name not in tree}
    assert not missing


@pytest.mark.parametrize("page", [path for path in PAGES if path.name.endswith(".ko.md")])
def test_korean_pages_print_the_commands_of_the_english_ones(page: Path) -> None:
    english = page.with_name(page.name.replace(".ko.md", ".md"))
    assert _commands(page) == _commands(english)


def _commands(page: Path) -> list[str]:
    return [block.text for block in blocks(page) if block.language in {"bash", "ini", "sql", "js"}]


def test_the_korean_settings_are_those_of_the_code() -> None:
    text = (ROOT / "README.ko.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (`[A-Z_`, ]+`) \| (.*?) \|", text.split("## 설정")[1])
    assert rows
    for names, defaults in rows:
        told = re.findall(r"`([^`]*)`", defaults)
        for name, default in zip(re.findall(r"[A-Z_]+", names), told or [""], strict=True):
            actual = Settings.model_fields[name.lower()].default
            assert default == ("" if actual is None else str(actual)), name


def test_every_decision_is_in_the_index() -> None:
    directory = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (directory / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(
        path.name for path in directory.glob("*.md") if path.name != "README.md"
    )


def test_links_between_documents_lead_somewhere() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
            target = path.parent / link if link else path
            assert target.exists(), f"{path.name}: {link}"
            if anchor:
                headings = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
                assert anchor in map(_slug, headings), f"{path.name}: {link}#{anchor}"


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_name_of_the_contract_is_a_setting() -> None:
    assert {name.upper() for name in Settings.model_fields} >= CONTRACT


def test_every_target_that_the_documents_name_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    printed = [block.text for path in DOCUMENTS for block in blocks(path)]
    prose = re.findall(r"`make [^`]*`", "".join(path.read_text("utf-8") for path in DOCUMENTS))
    named = re.findall(r"(?m)(?:^|[`(])make (?:-s )?([a-z0-9-]+)", "\n".join(printed + prose))
    targets = set(named)
    assert targets >= {"serve", "test", "token", "model"}
    for target in targets:
        assert re.search(rf"(?m)^{target}:", makefile), target
