"""The memory budget: bytes of remote images that all processes of a run may hold at once."""

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dinoclassify.storage import budget
from dinoclassify.storage.budget import NoRoomError, Reservation, Share, shares
from dinoclassify.storage.fetcher import Fetcher
from dinoclassify.system.cgroups import CgroupLimits
from dinoclassify.types.prediction import Failure
from dinoclassify.types.source import MOST_BYTES, Source
from tests.helpers.servers import Page, Web


def fetch(share: Share, sources: list[Source], *, timeout: float = 20.0, seconds: float = 0.0) -> list[Source]:
    """Read the sources as a process that takes so many ``seconds`` to decode each image."""
    fetcher = Fetcher(timeout=timeout, private=True, beat=lambda: None, share=share)
    found = []
    for source in fetcher.fetched(sources, []):
        found.append(source)
        time.sleep(seconds)
    return found


def check_all_is_given_back(share: Share) -> None:
    """Nothing is held any more: a process with no work left may be killed at any time."""
    assert (sum(share._held), sum(share._holds_reserve)) == (0, 0)


def test_processes_share_one_half_and_take_turns_with_the_other() -> None:
    one, other = shares(2, 200)
    assert one.take(60)
    assert not other.take(60)
    assert other.take(40)
    assert one.take(-60)
    assert other.take(60)
    assert one.take_reserve()
    assert not other.take_reserve()
    one.release_reserve()
    assert other.take_reserve()
    other.clear()  # it is dead
    assert one.take(100)
    assert one.take_reserve()


def test_the_awaited_image_may_use_the_other_half() -> None:
    one, other = (Reservation(share) for share in shares(2, 200))
    one.reserve(90)
    for size in (None, 5, 8):
        other.reserve(size)
    with pytest.raises(NoRoomError):
        other.reserve(20)
    assert other.refused == 40  # more may come
    other.awaited = True
    other.reserve(20)
    one.reserve(100)  # what the other one had of the first half is free
    with pytest.raises(OSError, match="101 bytes, over 100") as caught:
        other.reserve(101)
    assert caught.value.errno == errno.EFBIG
    one.awaited = True
    one.give_back()
    one.reserve(100)
    other.give_back()
    one.keep(10)
    other.reserve(90)
    other.keep(120)  # more than was said, and more than there is room for
    other.give_back()
    one.reserve(100)


def test_the_budget_is_a_quarter_of_the_memory_of_the_machine_or_container(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = budget.memory()
    assert machine > 1 << 27
    monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda: CgroupLimits(memory=1 << 26))
    assert budget.memory() == 1 << 26
    assert shares(1)[0].most == 1 << 23
    monkeypatch.setattr("dinoclassify.system.cgroups.read_limits", lambda: CgroupLimits(memory=1 << 60))
    assert budget.memory() == machine
    monkeypatch.setattr(budget, "memory", lambda: 1 << 40)
    assert shares(1)[0].most == MOST_BYTES


@pytest.mark.parametrize("sized", [True, False])
def test_all_images_are_read_in_order_with_hardly_any_room(site: Web, sized: bool) -> None:
    contents = [bytes([number]) * (1000 * number % 70_001) for number in range(1, 101)]
    for number, content in enumerate(contents):
        site.pages[f"/{number}.jpg"] = Page(content, sized=sized)
    sources = [Source(f"{site.url}/{number}.jpg") for number in range(100)]
    processes = shares(3, 140_002)  # so that the largest fits, and few others with it
    held = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.001):
            held.append(sum(processes[0]._held))

    with ThreadPoolExecutor(4) as pool:
        looking = pool.submit(look)
        found = list(pool.map(lambda share: fetch(share, sources), processes))
        over.set()
        looking.result()
    assert [[source.content for source in some] for some in found] == [contents] * 3
    assert max(held) > 20_000
    check_all_is_given_back(processes[0])


def test_an_image_over_the_budget_is_too_large_and_harms_no_other(site: Web) -> None:
    for number in range(40):
        size = 3_000_000 if number % 3 == 0 else 900_000
        site.pages[f"/{number}.jpg"] = Page(bytes(size), sized=number % 2 == 0)
    share, *_ = shares(1, 2_000_000)
    found = fetch(share, [Source(f"{site.url}/{number}.jpg") for number in range(40)])
    codes = [source.content.code if isinstance(source.content, Failure) else "" for source in found]
    assert codes == ["too_large" if number % 3 == 0 else "" for number in range(40)]
    check_all_is_given_back(share)


def test_waiting_for_room_does_not_count_as_reading_time(site: Web) -> None:
    for number in range(12):
        site.pages[f"/{number}.jpg"] = Page(bytes(100_000))
    share, *_ = shares(1, 200_000)
    sources = [Source(f"{site.url}/{number}.jpg") for number in range(12)]
    found = fetch(share, sources, timeout=2, seconds=0.3)
    assert all(source.content == bytes(100_000) for source in found)
    assert len(site.faults.asked) < 36  # some were given up, and asked for again
    check_all_is_given_back(share)


def test_the_other_half_is_free_once_its_holder_dies(site: Web) -> None:
    site.pages["/a.jpg"] = Page(bytes(90_000))
    dead, waiting = shares(2, 200_000)
    assert dead.take(50_000)
    assert dead.take_reserve()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(fetch, waiting, [Source(f"{site.url}/a.jpg")], timeout=20)
        with pytest.raises(TimeoutError):
            reading.result(0.5)
        dead.clear()
        assert reading.result(60)[0].content == bytes(90_000)
