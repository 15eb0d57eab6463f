"""Formats of sidecars: one file each here, and its name in `SidecarFormat`."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from dinoclassify.results.sidecars.formats.base import SidecarContent

SidecarFormat = Literal["xmp", "txt", "json"]  # each the name of a module here and the suffix of its sidecars
FORMATS: tuple[SidecarFormat, ...] = get_args(SidecarFormat)
Update = Callable[[bytes | None, "SidecarContent"], bytes | None]


def update_of(name: SidecarFormat) -> Update:
    """The function ``update`` of a format: the old bytes of a sidecar -> the new ones, with None for no file.

    It raises SidecarError if the old bytes are not of the format.
    """
    update: Update = import_module(f"{__name__}.{name}").update
    return update
