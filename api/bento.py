"""A BentoML service with our own application, model store and OpenAPI document.

BentoML 1.4's stock endpoint answers a validation error with a bare list, replaces the text of 401,
403 and 5xx, and logs the caller's text; its stock middlewares cost more than the gate. So the
application is replaced. Services, `/schema.json`, stores, Bentos and clients stay BentoML's.
"""

from pathlib import Path

from _bentoml_sdk import Service
from bentoml import Bento
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics import usage_stats

from api.model_store import PreparedModel
from settings import load_settings

# `bentoml serve` has cached the answer before settings.py set BENTOML_DO_NOT_TRACK.
usage_stats.do_not_track.cache_clear()


class EmbeddingService(Service):
    """A BentoML service that serves one prepared model.

    Its class names that model in `prepared`. What derives from this makes the application and the
    OpenAPI document, and knows which versions of a model can be served.
    """

    @property
    def directory(self) -> Path:
        """Where the prepared model lies in the model store.

        Raises:
            SystemExit: the model is not in the store; says what to do.
        """
        return Path(self.models[0].stored.path)

    def version_to_serve(self, versions: Path) -> Path | None:
        """Which of the versions of a model in the store to serve; None if none can be."""
        raise NotImplementedError

    def _newest(self, name: str) -> str:
        version = self.version_to_serve(Path(BentoMLContainer.model_store_dir.get()) / name)
        return f"{name}:{version.name}" if version else name

    def on_load_bento(self, bento: Bento) -> None:
        """Serve the model that the Bento was built with, unless MODEL_NAME asks for another."""
        super().on_load_bento(bento)
        [packed] = bento.info.all_models
        name = self.inner.prepared.tag.name
        if load_settings().model_name is None or name == packed.tag.name:
            name = packed.tag.name
            self.inner.prepared = PreparedModel(packed.tag)
        if not self.inner.prepared.is_stored or self.inner.prepared.tag.version is None:
            self.inner.prepared = PreparedModel(self._newest(name))  # it was prepared elsewhere
        self.models[:] = [self.inner.prepared]
        for service in bento.info.services:  # BentoML would fetch what is listed there
            service.models[:] = [self.inner.prepared.to_info()]
