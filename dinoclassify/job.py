"""An opened model together with what a run asks of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Unpack

from dinoclassify.types.source import Source
from dinoclassify.writers.formats import R, RowFormat

if TYPE_CHECKING:
    from dinoclassify.loaded_model import LoadedModel, Run
    from dinoclassify.writers.provenance import Origin


@dataclass(frozen=True, slots=True)
class Job(Generic[R]):
    """A model, and how its outputs become rows.

    Attributes:
        model: the opened model.
        infer: turns batches of images into rows: `Classifier.classify_batches` or `Encoder.embed_batches`.
        row_format: how rows are written.
        settings: the options that the content of rows depends on, by name.
        outputs: the number of labels or features of the model, under that name.
    """

    model: "LoadedModel"
    infer: Callable[..., Iterator[R]]
    row_format: RowFormat[R]
    settings: Mapping[str, object]
    outputs: Mapping[str, int]

    def rows(self, sources: Iterable[Source], **run: Unpack["Run"]) -> Iterator[R]:
        """Yield one row for each source, in order."""
        from dinoclassify.loaded_model import flow

        return self.infer(self.model.decoded(sources, **run), **flow(run))

    def origin(self) -> "Origin[R]":
        """Return what the rows come from. Reads all weights of a model without a revision, for their digest."""
        from dinoclassify.writers.provenance import Origin

        weights = self.model.revision or self.model.digest()
        return Origin(self.model.info, weights, self.row_format, self.settings, self.outputs)
