"""Locks of outputs, and claims where the file system has no locks."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from dinoclassify.errors import LockedError
from dinoclassify.storage.lock import lock_of, locked
from tests.conftest import Refuse


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_claim_keeps_other_runs_out_and_names_its_holder(
    number: int, working_folder: Path, refuse_locks: Refuse
) -> None:
    claim = working_folder / ".out.csv.dinoclassify.claim"
    refuse_locks(number)
    with locked("out.csv", wait=False):
        for able in (number, None):  # this host, and one that can lock the file
            refuse_locks(able)
            with pytest.raises(LockedError) as caught, locked("out.csv", wait=False):
                pass
            assert str(caught.value).startswith(f"another run is writing out.csv (process {os.getpid()} on ")
            assert str(caught.value).endswith(
                f": --wait waits for it; if that run is dead, remove {claim} (dinoclassify guide resume)"
            )
        refuse_locks(number)
    assert not [path for path in working_folder.iterdir() if path.name.startswith(".out")]


def test_a_claim_respects_a_lock(working_folder: Path, refuse_locks: Refuse) -> None:
    with locked("out.csv", wait=False):
        refuse_locks(errno.ENOLCK)
        with pytest.raises(LockedError, match=r"if that run is dead, remove .*lock"), locked("out.csv", wait=False):
            pass
    Path(lock_of("out.csv")).write_text("1\nnode7\n")  # of a run that was killed, or is not to be seen from here
    with pytest.raises(LockedError, match=r"\(process 1 on node7\)"), locked("out.csv", wait=False):
        pass


@pytest.mark.parametrize("able", [True, False])
def test_a_claim_of_a_dead_process_is_only_taken_over_on_its_own_host(
    able: bool, working_folder: Path, refuse_locks: Refuse
) -> None:
    refuse_locks(errno.ENOSYS)
    child = os.fork()
    if child == 0:
        taken = locked("out.csv", wait=False)
        taken.__enter__()
        os._exit(0)
    os.waitpid(child, 0)
    claim = working_folder / ".out.csv.dinoclassify.claim"
    assert claim.read_text().startswith(f"{child}\n")
    refuse_locks(None if able else errno.ENOSYS)
    with locked("out.csv", wait=False):
        assert claim.exists() != able
    claim.write_text(f"{child}\nnode7\n")
    with (
        pytest.raises(LockedError, match=rf"\(process {child} on node7\).* remove {claim}"),
        locked("out.csv", wait=False),
    ):
        pass


def test_a_killed_run_with_workers_that_are_still_ending_does_not_lock_others_out(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    asked, asking = os.pipe()
    child = os.fork()
    if child == 0:
        taken = locked("out.csv", wait=False)
        taken.__enter__()
        if os.fork() == 0:  # a worker, which shares the lock
            os.close(reading)
            os.close(asking)
            os.read(asked, 1)
            time.sleep(2)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # who started it may be slow to notice
    os.close(writing)
    with monkeypatch.context() as patch:
        patch.setattr("dinoclassify.storage.lock._WORKERS_END", 0.0)
        with pytest.raises(LockedError, match=rf"\(process {child} on .*, which has ended; a process that it started"):
            locked("out.csv", wait=False).__enter__()
    os.close(asking)  # the worker ends soon
    with locked("out.csv", wait=False):
        assert os.read(reading, 1) == b"", "the worker has ended"
    os.close(reading)
    os.close(asked)
    os.waitpid(child, 0)
