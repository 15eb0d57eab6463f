"""The values of options: text -> value. Each function raises BadParameter with a message that follows the option."""

from collections.abc import Callable

import typer

from dinoclassify.discovery.filters import Shard
from dinoclassify.types.limit import Limit

MOST = 100_000  # images in a batch, processes, labels in a row, thumbnails


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not str(text).removeprefix("-").isdecimal():
            raise typer.BadParameter(f"{text}: write a whole number in digits, such as 1000")
        _check_range(text, int(text), least, most)
        return int(text)

    return parse


def number(least: float, most: float | None = None) -> Callable[[str], float]:
    """Return a parser of numbers from ``least`` to ``most``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise typer.BadParameter(f"{text}: write a number, such as 0.5") from error
        _check_range(text, value, least, most)
        return value

    return parse


def _check_range(text: str, value: float, least: float, most: float | None) -> None:
    if most is not None and value > most:
        raise typer.BadParameter(f"{text}: must be at most {most:,}")
    if not value >= least:  # nan is not
        raise typer.BadParameter(f"{text}: must be at least {least}")


def number_or_auto(text: str) -> int | None:
    """``auto`` -> None, ``8`` -> 8."""
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise typer.BadParameter(f"{text} is neither auto nor a number from 1 to {MOST:,}.")
    return int(text)


def shard(text: str) -> Shard:
    """``2/4`` -> the second of four parts."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise typer.BadParameter(f"{text} is not I/N with I from 1 to N.")
    return Shard(int(index), int(count))


def share(text: str | float) -> float:
    """``0.4`` and ``40%`` -> 0.4."""
    try:
        digits = str(text).removesuffix("%")
        value = float(digits) / (100 if digits != str(text) else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text} is not a share from 0 to 1, such as 0.4 or 40%.")
    return value


def row_limit(text: str) -> Limit:
    """``20`` -> 20 rows, ``5%`` -> a twentieth of all rows."""
    digits = text.removesuffix("%")
    try:
        if text != digits and 0 <= float(digits) <= 100:
            return Limit(text, share=float(digits) / 100)
        if text == digits and int(digits) >= 0:
            return Limit(text, count=int(digits))
    except ValueError:
        pass
    raise typer.BadParameter(f"{text} is neither a number nor a percentage from 0% to 100%.")
