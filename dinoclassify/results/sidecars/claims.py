"""Which image each sidecar belongs to: a table on disk, removed when the process ends."""

import os

from dinoclassify.storage.scratch_table import ScratchTable

_TABLE = """
CREATE TABLE claims (sidecar BLOB PRIMARY KEY, image BLOB) WITHOUT ROWID;
"""


class Claims:
    """The sidecars of a run; each belongs to the first image that claims it. All paths are free of links.

    Raises:
        OutputError: there is no folder for temporary files, or it is full.
    """

    def __init__(self) -> None:
        self._table = ScratchTable(_TABLE, "the names of the sidecars")

    def claim(self, sidecar: str, image: str) -> str | None:
        """Claim a sidecar; returns the image that claimed it before, maybe the same one, or None."""
        claim = os.fsencode(sidecar), os.fsencode(image)
        inserted = self._table.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", claim)
        return None if inserted.rowcount else self.owner(sidecar)

    def owner(self, sidecar: str) -> str | None:
        """The image that claimed the sidecar; None if none did."""
        row = self._table.first("SELECT image FROM claims WHERE sidecar = ?", (os.fsencode(sidecar),))
        return None if row is None else os.fsdecode(row[0])

    def close(self) -> None:
        """Drop the table."""
        self._table.close()
