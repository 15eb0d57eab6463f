"""Two hours of `predict --watch`, 60 times as fast: everything that can go wrong with a service, in turn."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import PHOTOS
from tests.helpers.drop_folder import heed_hang_ups

SPEED = 60
SECONDS = 120  # two hours at this speed
DISK = 400  # KiB, of the disk that the output is on
ROOT = os.geteuid() == 0

SCRIPT = f"""
import sys
from dinoclassify.cli import main
from dinoclassify.discovery import watch
from dinoclassify.writers import heartbeat, rotated_file
for module in (watch, heartbeat, rotated_file):
    for name in ("FIRST_RETRY", "LAST_RETRY", "PAUSE", "SETTLED", "EVERY", "FIRST_PAUSE", "LAST_PAUSE"):
        if hasattr(module, name):
            setattr(module, name, getattr(module, name) / {SPEED})
main()
"""


class Service:
    """A watch that is started again whenever it has died; for root with disks of its own."""

    def __init__(self, place: "Place", model: str) -> None:
        self._enter, self.place = place.enter, place
        watch = ["predict", "--watch", "inbox", "-m", model, "-o", "out/labels.csv", "--status", "status.json"]
        self._command = [*self._enter, *place.as_user, sys.executable, "-c", SCRIPT, *watch, "-j", "1"]
        self._log = open("log.txt", "ab")  # noqa: SIM115 - as long as the test
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stderr=self._log, preexec_fn=heed_hang_ups)
        self.wait_until(lambda: self.status().get("pid") == self.process.pid)

    def status(self) -> dict[str, object]:
        try:
            content: dict[str, object] = json.loads(Path("status.json").read_text())
        except FileNotFoundError:
            return {}
        return content

    def wait_until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 90
        while not holds():
            assert self.process.poll() is None, Path("log.txt").read_text()
            assert time.monotonic() < end, f"{self.status()}\n{Path('log.txt').read_text()[-2000:]}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until nothing waits for a row."""
        since = time.time() + 1
        self.wait_until(lambda: self.status()["waiting"] == 0 and _seconds(self.status()["time"]) > since)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self._log.close()
        return code


def _seconds(text: object) -> float:
    from datetime import datetime

    return datetime.fromisoformat(str(text)).timestamp()


class Place:
    """Where the watch runs: for root, a mount namespace in which the output is on a small disk."""

    def __init__(self, holder: subprocess.Popen[bytes] | None) -> None:
        self.enter: list[str] = []
        self.as_user: list[str] = []
        self.output = Path("out")
        if holder is not None:
            self.enter = ["nsenter", "-t", str(holder.pid), "-m", "sh", "-c", 'cd "$0" && exec "$@"', os.getcwd()]
            self.as_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
            self.output = Path(f"/proc/{holder.pid}/root{os.getcwd()}/out")

    def run(self, *command: str) -> None:
        subprocess.run([*self.enter, *command], check=True)


@contextmanager
def place() -> Iterator[Place]:
    """A place with a small disk; the usual disk without root or where namespaces are not allowed."""
    command = f"mount -t tmpfs -o size={DISK}k tmpfs out && echo ready && exec sleep 1000"
    if not ROOT or not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        yield Place(None)
        return
    with subprocess.Popen(["unshare", "-m", "sh", "-c", command], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        is_ready = holder.stdout.readline() == b"ready\n"
        try:
            yield Place(holder if is_ready else None)
        finally:
            holder.kill()


class Faults:
    """Faults of the service while images arrive."""

    def __init__(self, service: Service) -> None:
        self.service, self.place, self.rotations = service, service.place, 0
        self.images: Counter[str] = Counter()  # how many contents each has had
        self.chance = random.Random(17)

    @property
    def output(self) -> Path:
        return self.place.output / "labels.csv"

    def drop(self, name: str) -> None:
        """Put an image into the inbox as a whole, or replace its earlier content."""
        self.images[name] += 1
        photo = self.chance.choice(sorted(PHOTOS.glob("*.jpg"))).read_bytes()
        Path(f".{name}").write_bytes(photo + bytes(self.images[name]))
        os.rename(f".{name}", f"inbox/{name}")

    def new_name(self) -> str:
        return f"{len(self.images):04}.jpg"

    def images_come(self) -> None:
        for _ in range(3):
            self.drop(self.new_name())

    def an_image_changes(self) -> None:
        self.service.settle()
        self.drop(self.chance.choice(sorted(self.images)))

    def an_image_comes_slowly(self) -> None:
        name, content = self.new_name(), (PHOTOS / "coffee.jpg").read_bytes()
        self.images[name] = 1
        with open(f"inbox/{name}", "wb", buffering=0) as file:
            for start in range(0, len(content), 8192):
                file.write(content[start : start + 8192])
                time.sleep(0.005)

    def an_image_comes_unreadable(self) -> None:
        name = self.new_name()
        self.images[name] = 1
        with open(f"inbox/{name}", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            if ROOT:
                os.chown(file.fileno(), 1234, 1234)
            file.write((PHOTOS / "coffee.jpg").read_bytes())
        self.service.settle()
        os.chmod(f"inbox/{name}", 0o644)

    def output_is_renamed(self) -> None:
        self._rotated(self._rename)

    def output_is_renamed_with_hup(self) -> None:
        os.rename(self.output, self.place.output / "old")
        self.service.process.send_signal(signal.SIGHUP)
        self._move_old_away()

    def output_is_copied_and_truncated(self) -> None:
        self.service.settle()  # what is written between the copy and the truncation would be lost
        self._rotated(self._truncate)

    def it_is_killed(self) -> None:
        self.images_come()
        time.sleep(self.chance.uniform(0, 0.5))
        self.service.kill()

    def it_is_killed_as_output_is_renamed(self) -> None:
        self.service.process.send_signal(signal.SIGSTOP)
        os.rename(self.output, self.place.output / "old")
        self.service.kill()
        self._move_old_away()

    def output_is_renamed_while_it_is_down(self) -> None:
        self.service.process.send_signal(signal.SIGTERM)
        assert self.service.process.wait(timeout=30) == 0
        os.rename(self.output, self.place.output / "old")
        self.images_come()
        self.service.start()
        self._move_old_away()

    def inbox_is_unmounted(self) -> None:
        self._unmount()
        self.images_come()
        self.place.run("umount", "-l", "inbox")

    def it_is_killed_while_inbox_is_unmounted(self) -> None:
        self._unmount()
        self.service.kill()
        self.service.wait_until(lambda: self.service.status()["away"] == ["inbox"])
        self.place.run("umount", "-l", "inbox")

    def disk_is_full(self) -> None:
        self._fill_disk()
        os.unlink(self.place.output / "ballast")

    def disk_is_full_over_a_restart(self) -> None:
        self._fill_disk()
        self.service.process.send_signal(signal.SIGTERM)
        assert self.service.process.wait(timeout=30) == 0
        self.service.start()
        os.unlink(self.place.output / "ballast")

    def _fill_disk(self) -> None:
        self.service.wait_until(lambda: not self.service.status()["trouble"])  # of the last time that it was full
        with open(self.place.output / "ballast", "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

        def is_full() -> bool:
            """Whether the last block of the output is full, too."""
            self.images_come()
            time.sleep(0.2)
            return bool(self.service.status()["trouble"])

        self.service.wait_until(is_full)

    def _unmount(self) -> None:
        self.place.run("mount", "--bind", "empty", "inbox")
        self.service.wait_until(lambda: self.service.status()["away"] == ["inbox"])

    def _rename(self, old: str) -> None:
        os.rename(self.output, self.place.output / "old")
        self.service.wait_until(self.output.is_file)
        shutil.move(self.place.output / "old", old)

    def _move_old_away(self) -> None:
        self.rotations += 1
        self.service.wait_until(self.output.is_file)
        shutil.move(self.place.output / "old", f"old/{self.rotations:03}.csv")

    def _truncate(self, old: str) -> None:
        watch = self.service.process.pid
        os.kill(watch, signal.SIGSTOP)  # a row between the two would be lost
        os.waitid(os.P_PID, watch, os.WSTOPPED)
        shutil.copy(self.output, old)
        os.truncate(self.output, 0)
        os.kill(watch, signal.SIGCONT)
        self.service.wait_until(lambda: self.output.stat().st_size > 0)

    def _rotated(self, rotate: Callable[[str], None]) -> None:
        self.rotations += 1
        rotate(f"old/{self.rotations:03}.csv")


@pytest.mark.slow
@pytest.mark.trust
@pytest.mark.timeout(SECONDS + 400)
def test_every_image_has_one_current_row_after_all_faults_of_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("inbox", "out", "old", "empty"):
        os.mkdir(name)
    happened: Counter[str] = Counter()
    history: list[str] = []
    with place() as here:
        service = Service(here, tiny)
        faults = Faults(service)
        todo = [
            faults.images_come, faults.an_image_changes, faults.an_image_comes_slowly,
            faults.an_image_comes_unreadable, faults.output_is_renamed, faults.output_is_renamed_with_hup,
            faults.output_is_copied_and_truncated, faults.it_is_killed, faults.it_is_killed_as_output_is_renamed,
            faults.output_is_renamed_while_it_is_down,
        ]  # fmt: skip
        if here.enter:
            todo += [
                faults.inbox_is_unmounted, faults.it_is_killed_while_inbox_is_unmounted, faults.disk_is_full,
                faults.disk_is_full_over_a_restart,
            ]  # fmt: skip
        faults.images_come()
        service.settle()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or len(happened) < len(todo):
            for fault in faults.chance.sample(todo, len(todo)):
                history.append(f"{len(faults.images)} images, {faults.rotations} rotations: {fault.__name__}")
                Path("history.txt").write_text("\n".join(history))
                fault()
                happened[fault.__name__] += 1
        service.settle()  # also of an image that has changed last
        service.wait_until(lambda: (service.status()["rows"], service.status()["failed"]) == (len(faults.images), 0))
        assert service.stop() == 0
        shutil.copy(faults.output, "old/999.csv")
    rows = _rows(faults.images)
    print(f"\n{len(faults.images)} images, {sum(map(len, rows.values()))} rows; {dict(happened)}")
    for name, of_image in rows.items():
        status = os.stat(f"inbox/{name}")
        assert of_image[-1] == ("", status.st_size, status.st_mtime_ns), "the last row is current"
        assert len(of_image) == len(set(of_image)), (f"{name} has a row twice", rows_with(name), history)


def rows_with(name: str) -> list[str]:
    """The rotated outputs in which an image has rows."""
    return [path.name for path in sorted(Path("old").iterdir()) if f"inbox/{name}," in path.read_text()]


def _rows(images: Counter[str]) -> dict[str, list[tuple[str, int, int]]]:
    """The error code and signature in the rows of each image, in order, from all rotated outputs."""
    rows: dict[str, list[tuple[str, int, int]]] = {name: [] for name in images}
    for path in sorted(Path("old").iterdir()):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                found = row["error_code"], int(row["size"]), int(row["mtime_ns"])
                rows[os.path.basename(row["path"])].append(found)
    return rows
