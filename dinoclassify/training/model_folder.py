"""The checks on the folder that a model is written to."""

import os
from fnmatch import fnmatch

from dinoclassify.errors import OutputError, UsageError
from dinoclassify.messages import name_some
from dinoclassify.models.names import MODEL_FILES
from dinoclassify.storage.atomic import as_output_errors
from dinoclassify.storage.missing import why_no_folder


def check_model_folder(folder: str, *, force: bool, images: str | None = None) -> None:
    """Check that a model may be written to ``folder``, before the work begins; ``force`` replaces one that exists.

    ``folder`` must not be inside ``images``, whose subfolders are classes.

    Raises:
        UsageError: ``folder`` exists and may not be replaced, or is inside ``images``.
        OutputError: the parent folder does not exist or is not writable.
    """
    if not folder:
        raise UsageError("name a folder with --output")
    path = os.path.realpath(folder)
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        raise OutputError(f"cannot write {folder}: {why_no_folder(above)}")
    if not os.access(above, os.W_OK):
        cure = "let this user write there, or choose another place"
        raise OutputError(f"cannot write {folder}: the folder {above} may not be written to: {cure}")
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
