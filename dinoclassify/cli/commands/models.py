"""`dinoclassify models`."""

from dinoclassify.cli import options
from dinoclassify.cli.terminal import print_table


def models(as_json: options.AsJson = False) -> None:
    """List the models with short names.

    Shows the accuracy on ImageNet-1k that their authors report, and the folder of each model on this machine. Any
    other image classifier works by its Hub id or folder.
    """
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
    rows.append(
        {
            "name": BUILTIN,
            "model": "EfficientNet-Lite0",
            "parameters": "5 M",
            "imagenet_top1": None,
            "on_this_machine": "installed" if is_builtin_installed() else None,
        }
    )
    print_table(rows, as_json=as_json)
