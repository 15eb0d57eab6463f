"""Paths as rows have them: valid Unicode to read, and beside it their exact bytes."""

import base64
import os
import re
from collections.abc import Mapping
from typing import Any


def shown_path(path: str) -> str:
    r"""The path as valid Unicode: bytes that are not UTF-8 appear as ``\xNN``."""
    return path if _is_utf8(path) else os.fsencode(path).decode("utf-8", errors="backslashreplace")


def file_shown_as(path: str) -> str:
    """The path that `shown_path` has made this of: of a file that is there, or else of one whose name is not UTF-8."""
    if os.path.lexists(path):
        return path
    exact = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(path))
    return os.fsdecode(exact)


def exact_path(path: str) -> dict[str, object]:
    """What stands beside a path in JSON so that `read_path` finds its bytes; nothing if it is UTF-8."""
    return {} if _is_utf8(path) else {"path_b64": base64.b64encode(os.fsencode(path)).decode("ascii")}


def read_path(row: Mapping[str, Any]) -> str:
    """The path of a row, exactly if `exact_path` stands in it.

    Raises:
        KeyError, TypeError, ValueError: no row can look so.
    """
    return os.fsdecode(base64.b64decode(row["path_b64"])) if "path_b64" in row else str(row["path"])


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
