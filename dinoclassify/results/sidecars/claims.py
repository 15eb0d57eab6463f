"""Which image each sidecar is of: a table on disk, which takes no memory and goes with the process."""

import os
import sqlite3
import weakref

from dinoclassify.writers.previous_rows import temporary_table

_TABLE = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE claims (sidecar BLOB PRIMARY KEY, image BLOB) WITHOUT ROWID;
"""


class Claims:
    """The sidecars of a run, of which each is given to the first image that asks for it.

    Raises:
        OutputError: there is no folder for temporary files.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # collected in any thread
        weakref.finalize(self, self._database.close)
        with temporary_table("the names of the sidecars"):
            self._database.executescript(_TABLE)

    def claim(self, sidecar: str, image: str) -> str | None:
        """The image that has the sidecar already, which may be the same; None if it is given now.

        Args:
            sidecar: its name, free of links.
            image: likewise.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        key = os.fsencode(sidecar)
        with temporary_table("the names of the sidecars"):
            given = self._database.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, os.fsencode(image)))
        return None if given.rowcount else self.owner(sidecar)

    def owner(self, sidecar: str) -> str | None:
        """The image that has the sidecar, if one has.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        with temporary_table("the names of the sidecars"):
            found = self._database.execute("SELECT image FROM claims WHERE sidecar = ?", (os.fsencode(sidecar),))
            row = found.fetchone()
        return None if row is None else os.fsdecode(row[0])

    def close(self) -> None:
        """Drop the table."""
        self._database.close()
