"""`dinoclassify models`."""

from typing import TYPE_CHECKING

from dinoclassify.cli import options
from dinoclassify.cli.terminal import print_table, say
from dinoclassify.errors import OutputError, UsageError

if TYPE_CHECKING:
    from dinoclassify.storage.cache.upkeep import Usage


def models(as_json: options.AsJson = False, clear_cache: options.ClearCache = False) -> None:
    """List the models with short names.

    Shows the accuracy on ImageNet-1k that their authors report, and the folder of each model on this machine. Any
    other image classifier works by its Hub id or folder. The last line has the size of the cache of prepared models.
    """
    if clear_cache:
        if as_json:
            raise UsageError("--clear-cache prints no table: leave out --json")
        _clear()
        return
    print_table(_rows(), as_json=as_json)
    if not as_json:
        _describe_cache()


def _rows() -> list[dict[str, object]]:
    from dinoclassify.models.hub import cached_snapshot
    from dinoclassify.models.names import BUILTIN, KNOWN, find_flaw, is_builtin_installed

    def where(hub_id: str) -> str | None:
        folder = cached_snapshot(hub_id)
        return folder if folder is not None and find_flaw(folder) is None else None

    rows: list[dict[str, object]] = [
        {
            "name": name,
            "model": known.hub_id,
            "parameters": f"{known.parameters} M",
            "imagenet_top1": known.top1,
            "on_this_machine": where(known.hub_id),
        }
        for name, known in KNOWN.items()
    ]
    builtin: dict[str, object] = {
        "name": BUILTIN,
        "model": "EfficientNet-Lite0",
        "parameters": "5 M",
        "imagenet_top1": None,
        "on_this_machine": "installed" if is_builtin_installed() else None,
    }
    return [*rows, builtin]


def _describe_cache() -> None:
    """Say on stderr how large the cache is; a table on stdout has no other lines."""
    from dinoclassify.storage.cache.folder import cache_root
    from dinoclassify.storage.cache.upkeep import measure

    root = cache_root()
    try:
        share = measure(root)
    except OSError as error:
        say(f"cache: {root} cannot be read ({error.strerror or error})")
        return
    say(f"cache: {root}, {_amount(share)}; --clear-cache empties it" if share.entries else f"cache: {root}, empty")


def _clear() -> None:
    """Empty the cache, and say what that freed. Raises OutputError if something cannot be removed."""
    from dinoclassify.storage.cache.folder import cache_root
    from dinoclassify.storage.cache.upkeep import clear

    root = cache_root()
    cure = "run this as the user who owns it"
    try:
        cleared = clear(root)
    except OSError as error:
        raise OutputError(f"cannot read the cache {root} ({error.strerror or error}): {cure}") from error
    done = f"freed {_amount(cleared.removed)}" if cleared.removed.entries else "nothing to remove"
    if cleared.in_use:
        done += f", {_entries(cleared.in_use)} in use by another process left"
    if cleared.errors:
        first = cleared.errors[0]
        trouble = f"cannot remove {first.filename or root} ({first.strerror or first})"
        others = f" and {len(cleared.errors) - 1:,} more" if len(cleared.errors) > 1 else ""
        raise OutputError(f"{trouble}{others}: {cure}; {done}")
    say(f"{root}: {done}")


def _amount(usage: "Usage") -> str:
    from rich.filesize import decimal

    return f"{decimal(usage.size)} in {_entries(usage.entries)}"


def _entries(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"
