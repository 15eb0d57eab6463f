"""Plans -> files in the folder; the journal has each plan before any of its files is touched."""

import errno
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from dinoclassify.errors import OutputError
from dinoclassify.messages import join_words
from dinoclassify.results.sort.journal import JOURNAL_NAME, Entry, append_entries
from dinoclassify.results.sort.plans import Done, File, Plan, SortResult
from dinoclassify.results.sort.transfer import TRANSFERS, Mode, identity, lost, rights_of, unfinished_name
from dinoclassify.results.sort.undo import KeptError, take_back
from dinoclassify.storage.atomic import FULL
from dinoclassify.storage.signature import file_signature

log = logging.getLogger(__name__)

_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Executor:
    """Carries plans out. Its methods raise OutputError if the disk is full or the journal cannot be written.

    ``folder`` is an absolute path. ``key`` signs the entries of the journal, if there is one. ``new_folders`` were made
    for the run, and enter the journal with the first plan. The source of each file moved here is added to ``moved``.
    """

    def __init__(
        self, folder: str, mode: Mode, *, key: bytes | None, new_folders: Iterable[str], moved: set[str]
    ) -> None:
        self._folder, self._mode, self._key, self._moved = folder, mode, key, moved
        self._journal = os.path.join(folder, JOURNAL_NAME)
        self._pending = [Entry("mkdir", path) for path in new_folders]  # entries that the journal does not have yet
        self._entries: dict[str, Entry] = {}  # by target, of the plans that the journal has and that are still to do
        self._folders: set[PurePosixPath] = set()  # targets of folders that exist or that the journal has
        self._has_warned = False  # of attributes that the file system does not keep

    def write_ahead(self, plans: Iterable[Plan]) -> bool:
        """Write to the journal what plans will do; returns whether that is anything."""
        plans = [plan for plan in plans if not plan.is_twin]
        if not plans:
            return False
        entries, self._pending = self._pending, []
        for plan in plans:
            entries += self._missing_folders(plan)
            entries += self._transfers(plan)
        append_entries(self._journal, entries, key=self._key)
        return True

    def end_run(self) -> None:
        """Write to the journal that the run is complete."""
        append_entries(self._journal, [Entry("end")], key=self._key)

    def execute(self, plan: Plan) -> SortResult | None:
        """Carry out a plan that the journal has; None if one of its targets was taken meanwhile: plan it again."""
        entries = {file.target: self._entries.pop(file.target) for file in plan.files}
        if changed := [file for file in plan.files if file_signature(file.source) != file.signature]:
            return self._leave(plan, entries, "changed", f"{_subject(changed[0], plan)}has changed just now")
        transferred: list[File] = []
        for file in plan.files:
            target, entry = self._in_folder(file.target), entries[file.target]
            try:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                TRANSFERS[self._mode](file.source, target, entry.temp_name)
            except FileExistsError as error:
                why = f"{_subject(file, plan)}cannot be put there: {error.strerror}: {error.filename}"
                result = self._leave(plan, entries, "error", why, transferred)
                # A companion of this plan may have held the name (undone by now), or a file may stand where its folder
                # should be. Only a foreign file at the target is a reason to plan again.
                return None if os.path.lexists(target) else result
            except OSError as error:
                return self._leave(plan, entries, "error", self._why_not(plan, file, error), transferred)
            transferred.append(file)
            if self._mode == "move":
                self._moved.add(file.source)
                self._warn_of_losses(entry, target)
        return plan.result("differs" if plan.why else "there", plan.why) if plan.is_there else plan.result("done")

    def _missing_folders(self, plan: Plan) -> Iterator[Entry]:
        for folder in reversed(PurePosixPath(plan.image.target).parents[:-1]):
            if folder not in self._folders:
                self._folders.add(folder)
                if not os.path.lexists(self._in_folder(str(folder))):
                    yield Entry("mkdir", str(folder))

    def _transfers(self, plan: Plan) -> Iterator[Entry]:
        image_temp_name = "" if plan.is_there else unfinished_name()
        for file in plan.files:
            is_image = file is plan.image
            temp_name = image_temp_name if is_image else unfinished_name()
            leader = "" if is_image else image_temp_name
            entry = Entry(self._mode, file.target, file.source, file.signature, temp_name, image=leader)
            if self._mode == "move" and os.path.lexists(file.source):
                entry = replace(entry, identity=identity(file.source), rights=rights_of(file.source))
            self._entries[file.target] = entry
            yield entry

    def _leave(
        self, plan: Plan, entries: Mapping[str, Entry], done: Done, why: str, transferred: Sequence[File] = ()
    ) -> SortResult:
        """Leave an image and its companions at their old places, and void their entries in the journal."""
        stuck = set()
        for file in reversed(transferred):
            target = self._in_folder(file.target)
            try:
                take_back(entries[file.target], target)
            except (KeptError, OSError) as error:
                log.warning("%s stays at %s: %s", file.source, target, error)
                stuck.add(file.target)
        void = [Entry("void", target, temp_name=entries[target].temp_name) for target in entries if target not in stuck]
        append_entries(self._journal, void, key=self._key)
        return plan.result(done, why)

    def _warn_of_losses(self, entry: Entry, target: str) -> None:
        """Warn once if the file system of the folder does not keep all attributes of the images moved there."""
        missing = () if self._has_warned else lost(target, entry.signature, entry.rights)
        if words := [word for word in missing if word != "owners" or os.geteuid() == 0]:  # others give no files away
            self._has_warned = True
            log.warning("%s does not keep the %s of images: --undo restores them", self._folder, join_words(words))

    def _why_not(self, plan: Plan, file: File, error: OSError) -> str:
        """Why a file cannot be put into the folder, and the cure; raises OutputError if the disk is full."""
        why, target, subject = error.strerror or str(error), self._in_folder(file.target), _subject(file, plan)
        if self._mode == "move" and error.errno in _FORBIDDEN and os.access(os.path.dirname(target), os.W_OK | os.X_OK):
            cure = "let this user write there, or take another --mode"
            return f"{subject}cannot be taken out of {os.path.dirname(file.source)} ({why}): {cure}"
        if error.errno in FULL:
            raise OutputError(f"cannot write {target}: {why}") from error
        if error.errno == errno.EXDEV:
            why = "that is another file system, and has no hard links to this one: take another --mode"
        return f"{subject}cannot be put there: {why}"

    def _in_folder(self, target: str) -> str:
        return os.path.join(self._folder, target)


def _subject(file: File, plan: Plan) -> str:
    """The start of a message about a file of a plan; the message follows the path of the image."""
    return "" if file is plan.image else f"is left alone: its companion {os.path.basename(file.source)} "
