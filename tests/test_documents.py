"""What the documents say is what the code does."""

import re

from dev.documents import DOCUMENTS, QUIET, ROOT, TABLES, env_example, with_tables
from settings import Settings
from tests.printed import blocks

CONTRACT = {
    "MODEL_NAME", "MODEL_QUANTIZATION", "MAX_BATCH_SIZE", "MAX_SEQ_LENGTH", "HF_TOKEN", "SUPABASE_JWT_SECRET",
    "SUPABASE_URL", "SUPABASE_ANON_KEY", "REDIS_URL", "RATE_LIMIT_PER_MIN", "DEBUG",
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


def test_the_example_environment_is_that_of_the_code() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example(), "run `make docs`"


def test_the_readme_is_short() -> None:
    for path in ROOT.glob("README*.md"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 170, path.name


def test_the_architecture_is_short() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_decision_is_in_the_index() -> None:
    directory = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (directory / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(
        path.name for path in directory.glob("*.md") if path.name != "README.md"
    )


def test_links_between_documents_lead_somewhere() -> None:
    for path in sorted({*DOCUMENTS, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")}):
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
