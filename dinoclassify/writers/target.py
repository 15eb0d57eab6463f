"""Where the rows of a run go, from the name of its output."""

from dataclasses import dataclass

from dinoclassify.storage.atomic import is_regular
from dinoclassify.storage.lock import lock_of
from dinoclassify.storage.output_paths import OutputPaths, journal_name
from dinoclassify.storage.remote.object_store import is_url
from dinoclassify.writers.formats import Format
from dinoclassify.writers.staging import stage_of


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: a file or an object or, with ``in_parts``, a folder of such; ``file`` is None for stdout."""

    file: str | None
    chosen: Format
    in_parts: bool = False

    @property
    def url(self) -> str | None:
        """The URL of an object or of a folder in a store; None for other targets."""
        return self.file if self.file is not None and is_url(self.file) else None

    @property
    def kept_in(self) -> str | None:
        """The regular file, if any, that appears whole and can be resumed; for an object, its local stage."""
        if self.in_parts:
            return None
        if self.url is not None:
            return stage_of(self.url)
        return self.file if self.file is not None and is_regular(self.file) else None

    @property
    def is_kept(self) -> bool:
        """Whether rows are kept with run metadata, and can be resumed; otherwise they are streamed."""
        return self.in_parts or self.kept_in is not None

    @property
    def locked(self) -> str | None:
        """The path to lock, so that no other run writes the target meanwhile; None for a stream."""
        if self.in_parts and self.file is not None:
            folder = self.file.rstrip("/")
            return folder if self.url is None else stage_of(folder)
        return self.kept_in

    @property
    def journal(self) -> str | None:
        """The file or folder of the finished rows of an unfinished run; None for a stream."""
        if self.in_parts and self.file is not None:
            return OutputPaths(self.file).journal
        return journal_name(self.locked) if self.locked is not None else None


def files_of(output: str) -> set[str]:
    """Return the real paths of an output and of the files that a run keeps beside it, its lock included."""
    return {lock_of(output), *OutputPaths.resolved(output).files}
