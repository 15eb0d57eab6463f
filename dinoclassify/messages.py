"""Wording that messages share: lists of names, counts, suggestions, and text that is safe to print."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its type if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def name_some(names: Sequence[str], most: int = 5) -> str:
    """The first ``most`` names in one line, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count_of(number: int, name: str) -> str:
    """A number and a noun in singular or plural: ``1 image``, ``2,000 images``."""
    ending = "" if number == 1 else "es" if name.endswith("s") else "s"
    return f"{number:,} {name}{ending}"


def join_words(words: Iterable[str]) -> str:
    """Words in a sentence: ``exact times, modes and owners``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def join_choices(choices: Sequence[str]) -> str:
    """What a user may do: ``use -k 1, name another -o, or start over``."""
    *most, last = choices
    return f"{', '.join(most)}, or {last}" if most else last


def nearest(name: str, choices: Iterable[str]) -> str:
    """` (did you mean ...?)` with the choice most similar to ``name``; empty if none is similar."""
    similar = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean {similar[0]}?)" if similar else ""


def printable(text: str) -> str:
    r"""The text on one line, with control characters escaped; bytes that are not UTF-8 appear as ``\xNN``."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # a surrogate escape of Python
    return f"\\x{ord(character) & 0xFF:02x}" if is_byte else ascii(character)[1:-1]
