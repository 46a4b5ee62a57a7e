"""A model whose files are written, opened as the service opens it, to check its vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedder.native_engine import NativeEngine
from embedder.postprocess import Vectors
from embedder.prepare import verify
from embedder.prepare.check_texts import CheckText
from embedder.prepare.errors import VerificationError
from embedder.prepare.families import family_of
from embedder.profile import TOKENIZER_FILE, WEIGHTS_FILE
from embedder.tasks import prompts_by_task
from embedder.threads import available_threads
from embedder.tokens import Tokenizer


class Prepared:
    """Files in `target`, and the fields of their profile."""

    def __init__(self, target: Path, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self._tokenizer = Tokenizer.from_file(target / TOKENIZER_FILE)
        self._engine = NativeEngine(target / WEIGHTS_FILE, num_threads=available_threads())
        self._prompts = {"": "", **prompts_by_task(fields["prompts"])}

    def vectors(self, texts: Sequence[CheckText]) -> Vectors:
        """(n_texts, dimensions), each text with the prompt that a caller's task would add.

        Raises:
            VerificationError: the profile lacks a prompt.
        """
        if missing := {text.prompt_name for text in texts} - self._prompts.keys():
            raise VerificationError(
                f"the profile lacks the prompts {', '.join(sorted(missing))}, which the model has; "
                "nothing was saved; set MODEL_BACKEND=torch"
            )
        tokens = self._tokenizer.encode(
            [text.text for text in texts],
            prompt=[self._prompts[text.prompt_name] for text in texts],
            max_tokens=self.fields["max_tokens"],
        )
        return self._engine.forward([text.ids for text in tokens])

    def golden(self) -> dict[str, Any]:
        """Published similarities of the model and those found; empty if there are none.

        Raises:
            VerificationError: they differ, or the model's files lack its prompts.
        """
        model_id = self.fields["model_id"]
        golden = family_of(self.fields["architecture"]).golden.get(model_id)
        if golden is None:
            return {}
        if not {"query", "document"} <= self.fields["prompts"].keys():
            raise VerificationError(
                f"{model_id} has no query and document prompts: fetch it again, with its "
                "config_sentence_transformers.json; nothing was saved"
            )
        query = self.vectors([CheckText("golden", golden.query, "query")])
        documents = self.vectors(
            [CheckText("golden", text, "document") for text in golden.documents]
        )
        found = verify.golden_similarities(golden, query, documents)
        return {"found": found, "published": list(golden.similarities), "source": golden.source}
