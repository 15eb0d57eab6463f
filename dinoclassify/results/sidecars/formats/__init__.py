"""Formats of sidecars: one file each here, and its name in `SidecarFormat`."""

from importlib import import_module
from typing import Literal, Protocol, get_args

from dinoclassify.results.sidecars.formats.base import SidecarContent

SidecarFormat = Literal["xmp", "txt", "json"]  # each the name of a module here and the suffix of its sidecars
FORMATS: tuple[SidecarFormat, ...] = get_args(SidecarFormat)


class Update(Protocol):
    """What the module of a format has as ``update``."""

    def __call__(self, old: bytes | None, content: SidecarContent, /) -> bytes | None:
        """The new bytes of a sidecar whose old bytes are ``old``; None for no file. Raises SidecarError."""


def update_of(name: SidecarFormat) -> Update:
    """The function that updates sidecars of a format."""
    update: Update = import_module(f"{__name__}.{name}").update
    return update
