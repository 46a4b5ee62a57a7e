"""What the documents say is what the code does."""

import re

from dev.documents import ROOT, env_example, with_tables
from settings import Settings

CONTRACT = {
    "MODEL_NAME", "MODEL_QUANTIZATION", "MAX_BATCH_SIZE", "MAX_SEQ_LENGTH", "HF_TOKEN", "SUPABASE_JWT_SECRET",
    "SUPABASE_URL", "SUPABASE_ANON_KEY", "REDIS_URL", "RATE_LIMIT_PER_MIN", "DEBUG",
}  # fmt: skip


def test_the_settings_tables_are_those_of_the_code() -> None:
    for name in ("README.md", "README.ko.md"):
        readme = (ROOT / name).read_text(encoding="utf-8")
        assert with_tables(readme) == readme, f"run `make docs`: {name} is behind settings.py"


def test_the_example_environment_is_that_of_the_code() -> None:
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example(), "run `make docs`"


def test_every_name_of_the_contract_is_a_setting() -> None:
    assert {name.upper() for name in Settings.model_fields} >= CONTRACT


def test_every_target_that_readme_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)(?:^|`)make ([a-z0-9-]+)", readme))
    assert targets >= {"serve", "test", "token", "model"}
    for target in targets:
        assert re.search(rf"(?m)^{target}:", makefile), target
