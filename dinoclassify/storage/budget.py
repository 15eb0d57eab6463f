"""The memory budget for remote images: one for all processes of a run together.

Half of it is common: any process takes room there while it lasts. The other half is reserved for one image at a time,
which its process is waiting for and which found no room in the common half. So no image fails because of others, and
the run always progresses: the holder of the reserved half waits for no other process.
"""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dinoclassify.system import cgroups
from dinoclassify.types.source import MOST_BYTES

if TYPE_CHECKING:
    import ctypes

_MOST = 2 * MOST_BYTES  # bytes of a run, if there is enough memory
_SHARE_OF_MEMORY = 4  # at most a quarter of the memory

# Called with the bytes to hold in memory: first with the size that the server states, or None, then with the bytes read
# so far. Raises OSError if they are too many.
Reserve = Callable[[int | None], None]


class NoRoomError(Exception):
    """The budget has no room for an image now."""


class Share:
    """The part of the budget that one process holds.

    Each process writes its own numbers in shared memory and reads those of all. If the sum is too large, it undoes its
    last step. There is no lock, because a killed process would hold it for ever.
    """

    def __init__(
        self,
        number: int,
        held: "ctypes.Array[ctypes.c_int64]",
        holds_reserve: "ctypes.Array[ctypes.c_int64]",
        *,
        common: int,
        most: int,
    ) -> None:
        self.most = most  # bytes of one image
        self._number = number
        self._held = held
        self._holds_reserve = holds_reserve
        self._common = common

    def take(self, size: int) -> bool:
        """Take ``size`` more bytes if the common half has room; a negative size gives bytes back."""
        self._held[self._number] += size
        if size > 0 and sum(self._held) > self._common:
            self._held[self._number] -= size
            return False
        return True

    def take_reserve(self) -> bool:
        """Take the reserved half, if no process holds it."""
        self._holds_reserve[self._number] = 1
        if sum(self._holds_reserve) > 1:
            self._holds_reserve[self._number] = 0
            return False
        return True

    def release_reserve(self) -> None:
        """Release the reserved half."""
        self._holds_reserve[self._number] = 0

    def clear(self) -> None:
        """Release everything that a dead process held."""
        self._held[self._number] = self._holds_reserve[self._number] = 0


class Reservation:
    """The room of one image. One thread may use it; any may set ``awaited``: the process waits for the image."""

    def __init__(self, share: Share) -> None:
        self.awaited = False
        self.refused = 0  # bytes that there was no room for, if known
        self._share = share
        self._size = 0
        self._holds_reserve = False
        self._is_sized = True

    def take(self, size: int) -> bool:
        """Take room for ``size`` bytes in total; False if there is none."""
        more = size - self._size
        if self._holds_reserve or more <= 0:
            return True
        if self._share.take(more):
            self._size = size
            return True
        if self.awaited and self._share.take_reserve():
            self.give_back()
            self._holds_reserve = True
            return True
        return False

    def reserve(self, size: int | None) -> None:
        """Take room for an image: for its whole size if known, else for the bytes read so far; see `Reserve`.

        Raises NoRoomError if there is none now, and OSError with EFBIG if the image is larger than any may be.
        """
        self._is_sized = self._is_sized and size is not None
        check_size(size, self._share.most)
        if size is not None and not self.take(size):
            self.refused = size if self._is_sized else min(2 * size, self._share.most)
            raise NoRoomError

    def keep(self, size: int) -> None:
        """Adjust the room to the ``size`` of the image that was read, which may exceed the size that its store said."""
        if not self._holds_reserve and self._share.take(size - self._size):
            self._size = size

    def give_back(self) -> None:
        """Release the room: the bytes are no longer in memory."""
        if self._holds_reserve:
            self._share.release_reserve()
        self._share.take(-self._size)
        self._size, self._holds_reserve, self._is_sized = 0, False, True


def shares(processes: int, most: int | None = None) -> list[Share]:
    """The shares of a run's processes; ``most`` is the budget in bytes, by default what the memory allows."""
    import ctypes
    from multiprocessing.sharedctypes import RawArray  # with ctypes, slow to import: `check_size` does not need it

    most = min(_MOST, memory() // _SHARE_OF_MEMORY) if most is None else most
    held, holds_reserve = RawArray(ctypes.c_int64, processes), RawArray(ctypes.c_int64, processes)
    largest = min(MOST_BYTES, most // 2)
    return [Share(number, held, holds_reserve, common=most - largest, most=largest) for number in range(processes)]


def check_size(size: int | None, most: int | None = None) -> None:
    """Raise OSError with EFBIG if ``size`` bytes are more than ``most``, by default `MOST_BYTES`, to hold in memory."""
    most = MOST_BYTES if most is None else most
    if size is not None and size > most:
        raise OSError(errno.EFBIG, f"{size:,} bytes, over {most:,}")


def memory() -> int:
    """The memory in bytes that this process may use: that of the machine, or less in a container."""
    limits = [] if (allowed := cgroups.read_limits().memory) is None else [allowed]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=_SHARE_OF_MEMORY * _MOST)
