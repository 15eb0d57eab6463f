"""Which image each sidecar belongs to: a table on disk, removed when the process ends."""

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
    """The sidecars of a run; each belongs to the first image that claims it.

    Raises:
        OutputError: there is no folder for temporary files.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # closed in any thread
        weakref.finalize(self, self._database.close)
        with temporary_table("the names of the sidecars"):
            self._database.executescript(_TABLE)

    def claim(self, sidecar: str, image: str) -> str | None:
        """Claim a sidecar; returns the image that claimed it before, maybe the same one, or None.

        Args:
            sidecar: its path, free of links.
            image: its path, free of links.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        key = os.fsencode(sidecar)
        with temporary_table("the names of the sidecars"):
            cursor = self._database.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, os.fsencode(image)))
        return None if cursor.rowcount else self.owner(sidecar)

    def owner(self, sidecar: str) -> str | None:
        """The image that claimed the sidecar; None if none did.

        Raises:
            OutputError: the folder for temporary files is full.
        """
        with temporary_table("the names of the sidecars"):
            cursor = self._database.execute("SELECT image FROM claims WHERE sidecar = ?", (os.fsencode(sidecar),))
            row = cursor.fetchone()
        return None if row is None else os.fsdecode(row[0])

    def close(self) -> None:
        """Drop the table."""
        self._database.close()
