"""NumPy: an archive with the array ``features``, NaN where an image failed, and the arrays of the index."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from dinoclassify.types.embedding import Embedding
from dinoclassify.writers.formats.features.npy import check_matrix, embeddings, write_matrix


@dataclass(frozen=True)
class FeatureTable:
    """Embeddings with ``width`` features of ``dtype``; see `writers.formats.base.Table`."""

    width: int
    dtype: npt.DTypeLike

    def write(self, file: BinaryIO, rows: Iterable[Embedding], _meta: Mapping[str, object]) -> None:
        """Write an archive. The features first go to a temporary file beside it, until their number is known."""
        with (
            tempfile.TemporaryFile(dir=os.path.dirname(file.name)) as spool,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        ):
            index = write_matrix(cast(BinaryIO, spool), rows, self.width, self.dtype)
            spool.seek(0)
            with archive.open("features.npy", "w", force_zip64=True) as member:
                shutil.copyfileobj(spool, member)
            for column, values in index.items():
                with archive.open(f"{column}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)

    def read(self, name: str) -> Iterator[Embedding]:
        """Yield the rows of an archive; see `Table`."""
        try:
            with open(name, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {column: archive[column] for column in archive.files}
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(str(error)) from error
        check_matrix(arrays["features"], self.width, self.dtype)
        yield from embeddings(arrays["features"], arrays)
