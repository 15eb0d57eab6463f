"""Labels in a JSON object, under a key of ours; all other bytes of the file stay the same."""

import codecs
import json
import re
from dataclasses import dataclass

from dinoclassify.results.sidecars.formats.base import SidecarContent, SidecarError

KEY = "dinoclassify"

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class _Member:
    """A key with its value: where both start, and where the value ends."""

    key: str
    start: int
    value_start: int
    stop: int
    value: object


def update(old: bytes | None, content: SidecarContent) -> bytes | None:
    """The file with the labels under our key; None if it would have no keys."""
    ranks = [{"label": rank.label, "score": rank.rounded_score, "index": rank.index} for rank in content.labels]
    value = {"labels": ranks} if ranks else None
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
        new = _with(text, members, ours[0] if ours else None, value)
    elif len(members) == 1:
        return None
    else:
        new = _without(text, members, ours[0])
    return mark + _encode(new)


def _members(text: str) -> list[_Member]:
    decoder, members = json.JSONDecoder(), []
    place = _after_space(text, 0) + 1
    while text[start := _after_space(text, place)] != "}":
        key, stop = decoder.raw_decode(text, start)
        value_start = _after_space(text, _after_space(text, stop) + 1)
        value, stop = decoder.raw_decode(text, value_start)
        members.append(_Member(key, start, value_start, stop, value))
        place = _after_space(text, stop)
        place += text[place] == ","
    return members


def _with(text: str, members: list[_Member], place: int | None, value: object) -> str:
    """The text with our member, indented like its neighbours; ``place`` is its index, None for a new one."""
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
    return text.encode("utf-8", "backslashreplace")  # JSON can only hold a lone surrogate escaped


def _after_space(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    return space.end() if space else place
