"""Which paths name archives and tables: their suffixes, apart from the readers, which are slow to import."""

ZIP = (".zip", ".cbz")
TAR = (".tar",)
COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.zst", ".tzst")

_ARCHIVE = ZIP + TAR + COMPRESSED_TAR
_TABLE = (".parquet", ".arrow")


def is_archive(path: str) -> bool:
    """Whether the suffix of a path is that of an archive."""
    return path.lower().endswith(_ARCHIVE)


def is_table(path: str) -> bool:
    """Whether the suffix of a path is that of a table."""
    return path.lower().endswith(_TABLE)
