"""Which image each sidecar is of: a table on disk, which takes no memory and goes with the process."""

import os

from dinoclassify.storage.scratch_table import ScratchTable

_TABLE = """
CREATE TABLE claims (sidecar BLOB PRIMARY KEY, image BLOB) WITHOUT ROWID;
"""


class Claims:
    """The sidecars of a run, of which each is given to the first image that asks for it.

    Raises:
        OutputError: there is no folder for temporary files.
    """

    def __init__(self) -> None:
        self._table = ScratchTable(_TABLE, "the names of the sidecars")

    def claim(self, sidecar: str, image: str) -> str | None:
        """The image that has the sidecar already, which may be the same; None if it is given now.

        Args:
            sidecar: its name, free of links.
            image: likewise.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        claim = os.fsencode(sidecar), os.fsencode(image)
        given = self._table.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", claim)
        return None if given.rowcount else self.owner(sidecar)

    def owner(self, sidecar: str) -> str | None:
        """The image that has the sidecar, if one has.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        row = self._table.first("SELECT image FROM claims WHERE sidecar = ?", (os.fsencode(sidecar),))
        return None if row is None else os.fsdecode(row[0])

    def close(self) -> None:
        """Drop the table."""
        self._table.close()
