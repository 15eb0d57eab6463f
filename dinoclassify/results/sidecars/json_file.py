"""Labels in a JSON object, under one key of ours. Whatever else is in it stays as it is, to the byte."""

import codecs
import json
import re
from dataclasses import dataclass

from dinoclassify.results.sidecars.base import SidecarContent, SidecarError
from dinoclassify.types.prediction import Label

KEY = "dinoclassify"

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class _Member:
    """A key with its value: where it begins and ends, and where the value does."""

    key: str
    start: int
    value_start: int
    stop: int
    value: object


def update(old: bytes | None, wanted: SidecarContent) -> bytes | None:
    """The file with the labels that are wanted under our key; None if there is nothing in it.

    Raises:
        SidecarError: it is no JSON object.
    """
    value = {"labels": [_rank(label) for label in wanted.labels]} if wanted.labels else None
    if old is None:
        return _encode(json.dumps({KEY: value}, indent=2, ensure_ascii=False) + "\n") if value is not None else None
    mark = codecs.BOM_UTF8 if old.startswith(codecs.BOM_UTF8) else b""
    text = _decode(old[len(mark) :])
    members = _members(text)
    ours = [place for place, member in enumerate(members) if member.key == KEY]
    if len(ours) > 1:
        raise SidecarError(f"has the key {KEY} twice")
    if (members[ours[0]].value if ours else None) == value:
        return old
    if value is not None:
        changed = _with(text, members, ours[0] if ours else None, value)
    elif len(members) == 1:
        return None
    else:
        changed = _without(text, members, ours[0])
    return mark + _encode(changed)


def _rank(label: Label) -> dict[str, str | float | int]:
    return {"label": label.label, "score": label.rounded_score, "index": label.index}


def _members(text: str) -> list[_Member]:
    """The members of the object that the text is."""
    decoder, found = json.JSONDecoder(), []
    place = _after_space(text, 0) + 1
    while text[start := _after_space(text, place)] != "}":
        key, stop = decoder.raw_decode(text, start)
        value_start = _after_space(text, _after_space(text, stop) + 1)
        value, stop = decoder.raw_decode(text, value_start)
        found.append(_Member(key, start, value_start, stop, value))
        place = _after_space(text, stop)
        place += text[place] == ","
    return found


def _with(text: str, members: list[_Member], place: int | None, value: object) -> str:
    """The text with our member, which is written as its neighbours are."""
    brace = _after_space(text, 0) + 1
    before = text[brace : members[0].start] if members else "\n  "
    newline, line, indent = before.rpartition("\n")
    shown = json.dumps(value, indent=indent if line else None, ensure_ascii=False)
    if line:
        shown = shown.replace("\n", ("\r\n" if newline.endswith("\r") else "\n") + indent)
    if place is not None:
        return text[: members[place].value_start] + shown + text[members[place].stop :]
    member = f'{before}"{KEY}": {shown}'
    if not members:
        return text[:brace] + member + "\n" + text[_after_space(text, brace) :]
    last = members[-1].stop
    return f"{text[:last]},{member}{text[last:]}"


def _without(text: str, members: list[_Member], place: int) -> str:
    """The text without our member, which is not the only one."""
    if place:
        return text[: members[place - 1].stop] + text[members[place].stop :]
    return text[: members[0].start] + text[members[1].start :]


def _decode(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"is not JSON ({error})") from error
    if not isinstance(whole, dict):
        raise SidecarError("is no JSON object")
    return text


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # of a lone surrogate, which JSON has only escaped


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place
