"""Where rows go, and whether they may go there."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from dinoclassify.discovery.containers.suffixes import is_archive, is_table
from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.errors import FailuresError, OutputError, UsageError
from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.lock import lock_of, locked
from dinoclassify.storage.missing import why_saved_again
from dinoclassify.storage.output_paths import OutputPaths, journal_name, refuse_reserved
from dinoclassify.storage.remote.opening import filesystem
from dinoclassify.storage.remote.url import is_url
from dinoclassify.writers.formats import FORMATS, Format
from dinoclassify.writers.staging import published, stage_of
from dinoclassify.writers.stream import check_output


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: to a file or an object, or ``in_parts`` to a folder of these; ``file`` is None for stdout."""

    file: str | None
    file_format: Format
    in_parts: bool = False

    @property
    def url(self) -> str | None:
        """The URL of the object or the folder of a store; None on this machine."""
        return self.file if self.file is not None and is_url(self.file) else None

    @property
    def local_file(self) -> str | None:
        """The local file that is written atomically and can be resumed; None for other outputs.

        For an object: its local stage, which is uploaded.
        """
        if self.in_parts:
            return None
        if self.url is not None:
            return stage_of(self.url)
        return self.file if self.file is not None and is_regular(self.file) else None

    @property
    def is_resumable(self) -> bool:
        """Whether rows are kept with metadata, so that a run can be resumed; otherwise they are streamed."""
        return self.in_parts or self.local_file is not None

    @property
    def lock_path(self) -> str | None:
        """The file or folder to lock, so that no other run writes it meanwhile."""
        if self.in_parts and self.file is not None:
            folder = self.file.rstrip("/")
            return folder if self.url is None else stage_of(folder)
        return self.local_file

    @property
    def journal(self) -> str | None:
        """The file or folder that holds finished rows until the output is complete."""
        if self.in_parts and self.file is not None:
            return OutputPaths(self.file).journal
        return journal_name(self.lock_path) if self.lock_path is not None else None

    def resume_hint(self) -> str:
        """Where the finished rows of an interrupted run are, as the end of a sentence; empty if there are none."""
        journal = self.journal
        if journal is None or not (is_url(journal) or os.path.exists(journal)):
            return ""
        return f"; finished rows are in {journal}, --resume goes on"


@contextmanager
def exclusive(target: Target, *, wait: bool = False, resume: bool = False, fresh: bool = False) -> Iterator[None]:
    """Keep other runs from writing the output; if it is an object, send it when the block ends without an error.

    Raises:
        LockedError, OutputError, UsageError: see `storage.lock.locked` and `writers.staging.published`.
        FailuresError: raised by the block; what becomes of the output is added to its message.
    """
    path = target.lock_path
    try:
        with (
            locked(path, wait=wait) if path is not None else nullcontext(),
            published(target.url, path, resume=resume, fresh=fresh)
            if target.url is not None and path is not None and not target.in_parts
            else nullcontext(),
        ):
            yield
    except FailuresError as error:
        fate = f": {target.file} stays as it was{target.resume_hint()}" if path is not None else ""
        raise FailuresError(f"{error}{fate}") from None


def output_files(output: str) -> set[str]:
    """Return the paths of all files that a run may write for ``output``: itself, its lock, journal and metadata."""
    return {lock_of(output), *OutputPaths.resolved(output).files}


def check_target(target: Target, inputs: Sequence[str]) -> None:
    """Check, as far as possible before the work begins, that the output may be written and is none of the inputs.

    Raises:
        UsageError: it is an input, or its name or format is not one for an output.
        OutputError: it cannot be written.
    """
    if target.url is not None:
        _check_object(target.url, inputs)
    elif not target.in_parts:
        _check_new_file(target.file, target.file_format, inputs)


def check_errors_to(file: str, target: Target, inputs: Sequence[str]) -> None:
    """Check the list of failed images as `check_target` checks the output, and that it is not the output itself."""
    _check_new_file(file, FORMATS[0], inputs)
    if target.file is not None:
        if target.in_parts and target.url is None and _is_below(file, target.file):
            raise UsageError(f"--errors-to {file} is in the output folder: choose another name")
        if os.path.realpath(file) in output_files(target.file):
            raise UsageError(f"--errors-to {file} is a file of the output: choose another name")
    refuse_reserved(file)


def check_not_image_table(file: str) -> None:
    """Raise UsageError if the output is a table that no run wrote: it may hold images."""
    if is_table(file) and os.path.exists(file) and not os.path.exists(OutputPaths(file).meta):
        raise UsageError(f"{file} is a table that dinoclassify did not write, perhaps an input: choose another name")


def check_earlier_run(target: Target, *, resume: bool) -> None:
    """Check what an earlier run left at the output and its journal.

    Raises:
        OutputError: the journal is a folder where a file is needed, or the other way round.
        UsageError: with ``resume``, another program has saved the output since.
    """
    if target.file is None or target.url is not None:
        return
    journal = target.journal
    if journal is not None and os.path.lexists(journal) and os.path.isdir(journal) != target.in_parts:
        cure = f"is where its unfinished rows go, and no {'folder' if target.in_parts else 'file'}: move it away"
        raise OutputError(f"cannot write {target.file}: {journal} {cure}")
    if resume and not target.in_parts and (why := why_saved_again(target.file)) is not None:
        cure = "restore the file as it was, or name another -o (dinoclassify guide resume)"
        raise UsageError(f"another program, such as a spreadsheet, saved {target.file} ({why}): {cure}")


def _check_object(url: str, inputs: Sequence[str]) -> None:
    filesystem(url)
    if "/" not in url.partition("://")[2].strip("/"):
        raise UsageError(f"{url} is a whole bucket: name an object in it, or a folder that ends in /")
    if is_archive(url):
        raise UsageError(f"{url} has the suffix of an archive: choose another name")
    if url in inputs:
        raise UsageError(f"{url} is also an input: choose another name")


def _check_new_file(file: str | None, file_format: Format, inputs: Sequence[str]) -> None:
    check_output(file, file_format)
    if file is not None and _is_input(file, inputs):
        raise UsageError(f"{file} is also an input: choose another name")
    if file is not None and (has_image_suffix(file) or is_archive(file)):
        raise UsageError(f"{file} has the suffix of an image or an archive: choose another name")


def _is_input(file: str, inputs: Sequence[str]) -> bool:
    return any(os.path.isfile(path) and os.path.isfile(file) and os.path.samefile(path, file) for path in inputs)


def _is_below(file: str, folder: str) -> bool:
    return os.path.realpath(file).startswith(os.path.join(os.path.realpath(folder), ""))
