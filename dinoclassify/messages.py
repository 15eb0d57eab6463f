"""Wording that messages share: names in a line, counts, what was probably meant, text that is safe to print."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def first_line(error: BaseException) -> str:
    """What another library's error says first; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def name_some(names: Sequence[str], most: int = 5) -> str:
    """Some names in a line: the first ones, and how many there are besides."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count_of(number: int, name: str) -> str:
    """How many there are of what ``name`` calls one of: ``1 image``, ``2,000 images``."""
    ending = "" if number == 1 else "es" if name.endswith("s") else "s"
    return f"{number:,} {name}{ending}"


def join_words(words: Iterable[str]) -> str:
    """Words in a sentence: ``exact times, modes and owners``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def nearest(name: str, choices: Iterable[str]) -> str:
    """` (did you mean ...?)` with the choice that is spelt most like ``name``; empty where none is."""
    found = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def printable(text: str) -> str:
    r"""The text on one line, without what would steer a terminal; bytes that are not UTF-8 appear as ``\xNN``."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # as Python keeps it
    return f"\\x{ord(character) & 0xFF:02x}" if is_byte else ascii(character)[1:-1]
