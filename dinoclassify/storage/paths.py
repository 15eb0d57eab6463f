"""The paths in rows: valid Unicode for people, with the exact bytes beside it."""

import base64
import os
import re
from collections.abc import Mapping
from typing import Any


def shown_path(path: str) -> str:
    r"""The path as valid Unicode: bytes that are not UTF-8 appear as ``\xNN``."""
    return path if _is_utf8(path) else os.fsencode(path).decode("utf-8", errors="backslashreplace")


def file_shown_as(path: str) -> str:
    r"""The inverse of `shown_path`: the path itself if that file exists, else with ``\xNN`` as bytes again."""
    if os.path.lexists(path):
        return path
    exact = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), os.fsencode(path))
    return os.fsdecode(exact)


def exact_path(path: str) -> dict[str, object]:
    """The JSON fields that keep the bytes of a path for `read_path`; none if the path is UTF-8."""
    return {} if _is_utf8(path) else {"path_b64": base64.b64encode(os.fsencode(path)).decode("ascii")}


def read_path(row: Mapping[str, Any]) -> str:
    """The path of a row, exact if it has the fields of `exact_path`; KeyError, TypeError, ValueError for another."""
    return os.fsdecode(base64.b64decode(row["path_b64"])) if "path_b64" in row else str(row["path"])


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
