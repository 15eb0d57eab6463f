"""What stands on the command line of a run, and whether it can be done."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dinoclassify.cli import options
from dinoclassify.cli.runs.inputs import check_inputs, names_of
from dinoclassify.discovery.containers.archive import is_archive
from dinoclassify.discovery.containers.table import is_table
from dinoclassify.discovery.filters import has_image_suffix
from dinoclassify.errors import OutputError, UsageError
from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.lock import lock_of
from dinoclassify.storage.missing import why_saved_again
from dinoclassify.storage.remote.object_store import filesystem
from dinoclassify.storage.remote.url import is_url
from dinoclassify.writers.fingerprint import META, PARTIAL
from dinoclassify.writers.formats import FORMATS, Format, refuse_reserved
from dinoclassify.writers.staging import stage_of
from dinoclassify.writers.stream import check_output


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: to a file or an object, or ``in_parts`` to a folder of these; ``file`` is None for stdout."""

    file: str | None
    chosen: Format
    in_parts: bool = False

    @property
    def url(self) -> str | None:
        """The object, if it is one."""
        return self.file if self.file is not None and is_url(self.file) else None

    @property
    def kept_in(self) -> str | None:
        """The regular file, if any, which appears whole and can be resumed; of an object, before it is sent."""
        if self.in_parts:
            return None
        if self.url is not None:
            return stage_of(self.url)
        return self.file if self.file is not None and is_regular(self.file) else None

    @property
    def is_kept(self) -> bool:
        """Whether rows are kept with metadata, and can be resumed; else they are streamed."""
        return self.in_parts or self.kept_in is not None

    @property
    def locked(self) -> str | None:
        """The file or folder that no other run may write meanwhile."""
        if self.in_parts and self.file is not None:
            folder = self.file.rstrip("/")
            return folder if self.url is None else stage_of(folder)
        return self.kept_in

    @property
    def journal(self) -> str | None:
        """The file or folder of the rows that are finished before the output is."""
        from dinoclassify.writers.output_file import journal_of

        if self.in_parts and self.file is not None:
            return self.file.rstrip("/") + PARTIAL
        return journal_of(self.locked) if self.locked is not None else None


@dataclass(frozen=True, slots=True)
class Request:
    """What stands on the command line of a run, but for the model and what it is asked.

    ``parameters`` are all options, for the metadata. ``tables`` are files that are read besides the inputs.
    """

    inputs: options.Inputs
    passing: options.InferenceOptions
    target: Target
    upkeep: options.OutputOptions
    messages: options.Messages
    parameters: Mapping[str, object]
    tables: Sequence[str] = ()


def check_run(request: Request) -> None:
    """Find out what can be known before the work begins.

    Raises:
        UsageError, OutputError: it cannot be done so.
        NoInputsError: an input is away.
    """
    target, upkeep = request.target, request.upkeep
    named = [*names_of(request.inputs), *request.tables]
    _check_upkeep(upkeep)
    if target.url is not None:
        _check_object(target.url, named)
    elif not target.in_parts:
        _check_new_file(target.file, target.chosen, named)
    _check_tables(request)
    if upkeep.errors_to is not None:
        _check_errors_to(upkeep.errors_to, target, named)
    if upkeep.resume and not target.in_parts and target.kept_in is None:
        raise UsageError("--resume goes with a file: name one with --output")
    _check_earlier(request)
    if not request.parameters.get("watch"):  # which waits for what comes
        check_inputs(request.inputs)


def _check_upkeep(upkeep: options.OutputOptions) -> None:
    if (upkeep.retry_failed or upkeep.prune) and not upkeep.resume:
        raise UsageError("--retry-failed and --prune go with --resume")
    if upkeep.max_prune is not None and not upkeep.prune:
        raise UsageError("--max-prune goes with --prune")
    if upkeep.fresh and upkeep.resume:
        raise UsageError("--fresh discards what --resume goes on with: leave one out")
    if upkeep.strict and upkeep.max_failures is not None:
        raise UsageError("--strict is --max-failures 0: leave one out")


def _check_earlier(request: Request) -> None:
    """Find out whether what stands at the output, or where its unfinished rows go, is what a run writes there."""
    target = request.target
    if target.file is None or target.url is not None:
        return
    journal = target.journal
    if journal is not None and os.path.lexists(journal) and os.path.isdir(journal) != target.in_parts:
        cure = f"is where its unfinished rows go, and no {'folder' if target.in_parts else 'file'}: move it away"
        raise OutputError(f"cannot write {target.file}: {journal} {cure}")
    resumes = request.upkeep.resume or request.parameters.get("watch")
    if resumes and not target.in_parts and (why := why_saved_again(target.file)) is not None:
        cure = "go on with the file as it was, or name another one"
        raise UsageError(f"another program has saved {target.file}, {why}: {cure}")


def _check_object(url: str, named: list[str]) -> None:
    """Find out whether there may be an object, or a folder, of this name."""
    filesystem(url)
    if "/" not in url.partition("://")[2].strip("/"):
        raise UsageError(f"{url} is a whole bucket: name an object, or a folder with / behind, in it")
    if is_archive(url):
        raise UsageError(f"{url} has the suffix of an archive: choose another name")
    if url in named:
        raise UsageError(f"{url} would be written over an input")


def _check_errors_to(file: str, target: Target, named: list[str]) -> None:
    _check_new_file(file, FORMATS[0], named)
    if target.file is not None:
        if target.in_parts and target.url is None and _is_below(file, target.file):
            raise UsageError(f"--errors-to {file} is in the output folder: choose another name")
        if os.path.realpath(file) in files_of(target.file):
            raise UsageError(f"--errors-to {file} would be written over the output: choose another name")
    refuse_reserved(file)


def _check_tables(request: Request) -> None:
    """Find out whether a table would be written over that may be one of those with images."""
    file, inputs = request.target.file, request.inputs
    if file is None or inputs.column is None or inputs.files_from is not None:
        return
    if is_table(file) and os.path.exists(file) and not os.path.exists(file + META):
        raise UsageError(f"{file} is a table that no run wrote, and may be an input: choose another name")


def _is_below(file: str, folder: str) -> bool:
    """Whether a file is in a folder, or below it."""
    return os.path.realpath(file).startswith(os.path.join(os.path.realpath(folder), ""))


def _check_new_file(file: str | None, chosen: Format, named: list[str]) -> None:
    """Find out whether a file may be written, as far as that can be known before the work begins."""
    check_output(file, chosen)
    if file is not None and _is_input(file, named):
        raise UsageError(f"{file} would be written over an input")


def files_of(output: str) -> set[str]:
    """What a run that writes ``output`` makes beside it."""
    path = os.path.realpath(output)
    return {lock_of(output), *(path + ending for ending in ("", PARTIAL, META, PARTIAL + META))}


def _is_input(file: str, named: list[str]) -> bool:
    """Whether ``file`` has the suffix of an image or an archive, or is one of the files that were named."""
    same = any(os.path.isfile(path) and os.path.isfile(file) and os.path.samefile(path, file) for path in named)
    return same or has_image_suffix(file) or is_archive(file)
