"""Model folders: checked before the work begins, and replaced as a whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.messages import name_some
from dinoclassify.models.names import MODEL_FILES
from dinoclassify.storage.atomic import as_output_errors, fsync_path, sweep, temporary_name
from dinoclassify.storage.rename import exchange


def check_model_folder(folder: str, *, force: bool, images: str | None = None) -> None:
    """Check that a model may be written to ``folder``, before the work begins.

    Args:
        folder: the model's folder.
        force: replace a model that exists.
        images: a folder of images that must not contain ``folder``, because its subfolders are classes.

    Raises:
        UsageError: ``folder`` exists and may not be replaced, or is inside ``images``.
        OutputError: the parent folder does not exist or is not writable.
    """
    if not folder:
        raise UsageError("name a folder with --output")
    path = os.path.realpath(folder)
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        raise OutputError(f"cannot write {folder}: there is no folder {above}")
    if not os.access(above, os.W_OK):
        raise OutputError(f"cannot write {folder}: the folder {above} may not be written to")
    if images is not None and f"{path}/".startswith(f"{os.path.realpath(images)}/"):
        raise UsageError(f"{folder} would lie among the images of {images}: choose another place")
    if not os.path.lexists(path):
        return
    with as_output_errors(folder):
        names = os.listdir(path) if os.path.isdir(path) else [os.path.basename(path)]
    if names and "config.json" not in names:
        raise UsageError(f"{folder} is there, and is not a model: choose another name")
    if others := [name for name in names if not any(fnmatch(name, pattern) for pattern in MODEL_FILES)]:
        raise UsageError(f"{folder} holds {name_some(others)} beside a model: move that away, or choose another name")
    if names and not force:
        raise UsageError(f"{folder} is there already: --force replaces it")


@contextmanager
def replacing_folder(folder: str) -> Iterator[str]:
    """A new folder, which takes the name ``folder`` when the block ends well; else what is there stays as it was.

    Until then it stands beside it, under a name that nobody can guess. Only one process at a time may do this.

    Raises:
        OutputError: it cannot be written.
    """
    path = os.path.realpath(folder)  # a link stays one
    above, name = os.path.split(path)
    made, aside = temporary_name(path), os.path.join(above, f".{name}.dinoclassify.old")
    with as_output_errors(folder):
        if os.path.lexists(aside) and not os.path.lexists(path):  # of a run that was killed, as is the rest
            os.rename(aside, path)
        shutil.rmtree(aside, ignore_errors=True)
        sweep(path)
        try:
            os.mkdir(made)
            yield made
            for file in os.listdir(made):
                fsync_path(os.path.join(made, file))
            fsync_path(made)
            _swap(made, path, aside)
            fsync_path(above)
        finally:
            shutil.rmtree(made, ignore_errors=True)  # of what was begun, or replaced


def _swap(made: str, path: str, aside: str) -> None:
    """Give the folder ``made`` the name ``path``, and that name's folder, if there is one, the other."""
    if not os.path.lexists(path):
        os.rename(made, path)
    elif not exchange(made, path):
        os.rename(path, aside)
        try:
            os.rename(made, path)
        finally:
            os.rename(aside, made if os.path.lexists(path) else path)
