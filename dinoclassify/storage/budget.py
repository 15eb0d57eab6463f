"""How many bytes of images from elsewhere the processes of a run may hold: one budget for all of them together.

Half of it is common: whoever finds room in it takes some. The other half is for one image at a time, which its process
waits for and which finds no room in the common half. So no image fails because of others, and the run always goes on:
whoever has the other half waits for nobody.
"""

import ctypes
import os
from multiprocessing.sharedctypes import RawArray

from dinoclassify.storage.remote.web import check_size
from dinoclassify.system import cgroups
from dinoclassify.types.source import MOST_BYTES

_MOST = 2 * MOST_BYTES  # bytes of a run, where there is memory enough
_SHARE_OF_MEMORY = 4  # at most a quarter of it


class NoRoomError(Exception):
    """The budget has no room for an image now."""


class Share:
    """What one process holds of the budget.

    Each process writes its own numbers in shared memory, and reads those of all. Where it sees too much, it takes its
    own back. There is no lock, which a process that is killed would hold for ever.
    """

    def __init__(
        self,
        number: int,
        held: "ctypes.Array[ctypes.c_int64]",
        alone: "ctypes.Array[ctypes.c_int64]",
        *,
        common: int,
        most: int,
    ) -> None:
        self.most = most  # bytes of an image
        self._number = number
        self._held = held
        self._alone = alone
        self._common = common

    def take(self, size: int) -> bool:
        """Hold ``size`` more bytes, if the common half has room for them; less than none are given back."""
        self._held[self._number] += size
        if size > 0 and sum(self._held) > self._common:
            self._held[self._number] -= size
            return False
        return True

    def take_other_half(self) -> bool:
        """Hold the other half, if nobody does."""
        self._alone[self._number] = 1
        if sum(self._alone) > 1:
            self._alone[self._number] = 0
            return False
        return True

    def give_other_half_back(self) -> None:
        """Let others have the other half."""
        self._alone[self._number] = 0

    def clear(self) -> None:
        """Give back what a process has left that is dead."""
        self._held[self._number] = self._alone[self._number] = 0


class Room:
    """The room of one image. One thread may use it; any may set ``awaited``: its process waits for the image."""

    def __init__(self, share: Share) -> None:
        self.awaited = False
        self.refused = 0  # bytes for which there was no room, as far as that is known
        self._share = share
        self._size = 0
        self._alone = False
        self._is_sized = True

    def take(self, size: int) -> bool:
        """Have room for ``size`` bytes altogether, if there is any."""
        more = size - self._size
        if self._alone or more <= 0:
            return True
        if self._share.take(more):
            self._size = size
            return True
        if self.awaited and self._share.take_other_half():
            self.give_back()
            self._alone = True
            return True
        return False

    def reserve(self, size: int | None) -> None:
        """Have room for what is read: for all of it, if its size is known, else for what has come so far.

        Raises:
            OSError: with ``errno`` EFBIG, it is larger than any image may be.
            NoRoomError: there is no room now.
        """
        self._is_sized = self._is_sized and size is not None
        check_size(size, self._share.most)
        if size is not None and not self.take(size):
            self.refused = size if self._is_sized else min(2 * size, self._share.most)
            raise NoRoomError

    def keep(self, size: int) -> None:
        """The image is here and has ``size`` bytes: give back what is more. It may have more than its store said."""
        if not self._alone and self._share.take(size - self._size):
            self._size = size

    def give_back(self) -> None:
        """The bytes are gone."""
        if self._alone:
            self._share.give_other_half_back()
        self._share.take(-self._size)
        self._size, self._alone, self._is_sized = 0, False, True


def shares(processes: int, most: int | None = None) -> list[Share]:
    """The budget of a run, for its processes; ``most`` is in bytes, by default what the machine allows."""
    most = min(_MOST, memory() // _SHARE_OF_MEMORY) if most is None else most
    held, alone = RawArray(ctypes.c_int64, processes), RawArray(ctypes.c_int64, processes)
    largest = min(MOST_BYTES, most // 2)
    return [Share(number, held, alone, common=most - largest, most=largest) for number in range(processes)]


def memory() -> int:
    """The bytes that this process may use: those of the machine, or fewer in a container."""
    limits = [] if (allowed := cgroups.read_limits().memory) is None else [allowed]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=_SHARE_OF_MEMORY * _MOST)
