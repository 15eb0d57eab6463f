"""Images with the same content, and images of one group: they belong in one fold."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress

import numpy as np
import numpy.typing as npt

from dinoclassify.discovery.labelled import SEPARATOR, Labelled
from dinoclassify.errors import UsageError
from dinoclassify.storage.remote import object_store
from dinoclassify.storage.remote.url import is_url
from dinoclassify.training.extra import needs_train_extra
from dinoclassify.training.folds import Integers

with needs_train_extra():
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

_CHUNK = 1 << 20  # bytes


def find_copies(paths: Sequence[str], sizes: Sequence[int | None]) -> Integers:
    """The index of the first image with the same content, for each image; its own where it is the first.

    ``sizes`` are those of the files, in bytes; None if unknown. Only files of equal sizes are read. A file that is gone
    is no copy.
    """
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for number, size in enumerate(sizes):
        if size is not None:
            by_size[size].append(number)
    first = np.arange(len(paths))
    for numbers in by_size.values():
        known: dict[bytes, int] = {}
        for number in numbers if len(numbers) > 1 else ():
            with suppress(OSError):
                first[number] = known.setdefault(_digest(paths[number]), number)
    return first


def check_labels(images: Sequence[Labelled], first: Integers) -> None:
    """Check that copies have the same labels; ``first`` is what `find_copies` returns. Raises UsageError."""
    pairs = [(images[original], images[number]) for number, original in enumerate(first.tolist())]
    contradictions = [(original, copy) for original, copy in pairs if original.labels != copy.labels]
    if contradictions:
        original, copy = contradictions[0]
        labels = " and ".join(SEPARATOR.join(each.labels) or "nothing" for each in (original, copy))
        more = f"; {len(contradictions) - 1:,} more like these" if len(contradictions) > 1 else ""
        raise UsageError(
            f"{original.path} and {copy.path} are the same image with different labels, {labels}: leave one out{more}"
        )


def as_units(images: Sequence[Labelled], first: Integers) -> Integers:
    """The unit of each image: images that are copies or of one group, directly or through others, have the same."""
    group_of: dict[str, int] = {}
    for number, image in enumerate(images):
        if image.group:
            group_of.setdefault(image.group, number)
    links = [(number, group_of[image.group]) for number, image in enumerate(images) if image.group]
    links += list(enumerate(first.tolist()))
    rows, columns = np.array(links).T
    graph = coo_array((np.ones(len(links), np.int8), (rows, columns)), shape=(len(images), len(images)))
    units: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return units.astype(np.intp)


def _digest(path: str) -> bytes:
    digest = hashlib.sha256()
    with closing(object_store.open_stream(path) if is_url(path) else open(path, "rb")) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()
