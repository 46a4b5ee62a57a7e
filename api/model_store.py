"""The prepared model in the BentoML model store."""

import os
import sys

from _bentoml_sdk.models import BentoModel
from bentoml.models import Model as StoredModel

_MISSING = {
    False: "Run `make model` (or python download_model.py) with the same MODEL_ settings, then "
    "start again.",
    True: "Prepare it with `make model` where the project is, and mount that store: the claim "
    "`models` (Kubernetes) or "
    "-v $HOME/bentoml/models:/bentoml/models:ro",
}


class PreparedModel(BentoModel):
    """A model that must be in the local store; BentoML would look for it in its cloud too."""

    @property
    def stored(self) -> StoredModel:
        """The model in the store.

        Raises:
            SystemExit: it is missing or not readable; the message says what to do.
        """
        stored = self._found()
        if stored is None:
            sys.exit(
                f"embedding-api: the model {self.tag.name} is not in the BentoML model store. "
                + _MISSING["BENTOML_CONTAINERIZED" in os.environ]
            )
        return stored

    @property
    def is_stored(self) -> bool:
        """Whether the store has it."""
        return self._found() is not None

    def _found(self) -> StoredModel | None:
        try:
            found: StoredModel | None = super().stored
        except PermissionError as error:
            sys.exit(
                f"embedding-api: user {os.getuid()} cannot read {error.filename}. "
                "Where the model store is: chmod -R a+rX $HOME/bentoml/models"
            )
        return found
