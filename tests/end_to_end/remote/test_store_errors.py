"""Objects, buckets and credentials that are missing, and stores that fail or hang."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dinoclassify.discovery.filters import Filters, InputSelector
from dinoclassify.discovery.roots import check_roots
from tests.helpers.prepared import Program
from tests.helpers.remote_images import COMMAND, Predict, fill_store, images_read, parse_table, wait_until
from tests.helpers.servers import Store


@pytest.mark.parametrize(
    ("url", "status", "code", "message"),
    [
        ("s3://nowhere/1.jpg", "", "vanished", "The specified bucket does not exist"),
        ("s3://bucket/none.jpg", "", "vanished", "The specified key does not exist"),
        ("s3://bucket/photos/00000.jpg", "403 Forbidden", "unreadable", "Forbidden"),
    ],
)
def test_a_named_object_that_cannot_be_read_is_a_failed_row(
    store: Store, predict: Predict, url: str, status: str, code: str, message: str
) -> None:
    fill_store(store, 1)
    if status:
        store.faults.status, store.faults.share = status, 1.0
    exit_code, out, err = predict("photos", url, "-q")
    assert (exit_code, err) == (3, "")
    good, bad = parse_table(out)
    assert (good["path"], bad["path"], bad["error_code"]) == ("photos/00000.jpg", url, code)
    assert message in bad["error"]


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("s3://nowhere/photos/", "", "cannot be listed (The specified bucket does not exist): check its name"),
        ("s3://nowhere/*.jpg", "", "cannot be listed (The specified bucket does not exist): check its name"),
        ("s3://bucket/none/", "", "there is nothing at s3://bucket/none/: check its name"),
        ("s3://bucket/none", "", "there is nothing at s3://bucket/none: check its name"),
        ("s3://bucket/*.gif", "", "nothing matches s3://bucket/*.gif: check the pattern"),
        ("s3://bucket/photos/", "403 Forbidden", "cannot be listed (403 Forbidden): check its name and your access"),
        ("s3://bucket/photos", "403 Forbidden", "cannot be listed (Forbidden): check its name and your access"),
    ],
)
def test_a_missing_prefix_ends_the_run_before_the_output_is_changed(
    store: Store, predict: Predict, url: str, status: str, message: str
) -> None:
    fill_store(store, 1)
    assert predict("s3://bucket/photos/", "-o", "labels.csv", "-q")[0] == 0
    before = Path("labels.csv").read_bytes()
    if status:
        store.faults.status, store.faults.share = status, 1.0
    for more in ([], ["--resume", "--prune"]):
        code, out, err = predict("photos", url, "-o", "labels.csv", *more)
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert message in err
        assert Path("labels.csv").read_bytes() == before


def test_checking_a_prefix_takes_one_request_and_an_object_none(store: Store, predict: Predict) -> None:
    fill_store(store, 1)
    check_roots(
        ["s3://bucket/photos/00000.jpg", "https://example.org/x/", "s3://bucket/x.tar"], InputSelector(Filters())
    )
    assert store.faults.asked == []
    check_roots(["s3://bucket/photos/"], InputSelector(Filters()))
    assert len(store.faults.asked) == 1


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("s3://nowhere/out.csv", "s3://nowhere/out.csv: there is no bucket nowhere"),
        ("s3://nowhere/labels/", "s3://nowhere/labels.partial: The specified bucket does not exist"),
    ],
)
def test_an_output_in_a_missing_bucket_is_refused_before_the_work(
    store: Store, predict: Predict, output: str, said: str
) -> None:
    fill_store(store, 1)
    code, out, err = predict("s3://bucket/photos/", "-o", output)
    assert (code, out, err) == (6, "", f"dinoclassify: cannot write {said}\n")
    assert images_read(store) == []


@pytest.mark.parametrize("output", ["s3://bucket", "s3://"])
def test_a_whole_bucket_cannot_be_the_output(store: Store, predict: Predict, output: str) -> None:
    fill_store(store, 1)
    code, _, err = predict("photos", "-o", output)
    assert (code != 0, err.count("\n"), err.startswith(f"dinoclassify: {output} ")) == (True, 1, True), err


@pytest.mark.parametrize("output", ["s3://bucket/out.csv", "s3://bucket/labels/"])
def test_missing_credentials_are_one_line(
    store: Store, predict: Predict, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    fill_store(store, 1)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, out, err = predict("s3://bucket/photos/", "-q")
    assert (code, out) == (4, "")
    assert "s3://bucket/photos/ cannot be listed (Unable to locate credentials): check its name and your access" in err
    code, out, err = predict("photos", "-o", output)
    assert (code in (2, 6), out, err.count("\n")) == (True, "", 1)
    assert "Unable to locate credentials" in err


def test_an_output_that_the_store_refuses_stays_on_this_machine(store: Store, predict: Predict) -> None:
    fill_store(store, 3)
    store.faults.only, store.faults.status, store.faults.share = "PUT", "403 Forbidden", 1.0
    code, _, err = predict("s3://bucket/photos/", "-o", "s3://bucket/out.csv", "-q")
    match = re.fullmatch(r"dinoclassify: cannot write s3://bucket/out.csv: .*; the rows are in (.*), .*\n", err)
    assert code == 6
    assert match is not None, err
    kept = Path(match[1]).read_bytes()
    assert len(images_read(store)) == kept.count(b".jpg") == 3
    store.faults.share = 0
    assert predict("s3://bucket/photos/", "-o", "s3://bucket/out.csv", "-q", "--resume") == (0, "", "")
    assert (images_read(store), store.get("out.csv")) == ([], kept)


@pytest.mark.parametrize("silent", ["list-type", pytest.param(".jpg", marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_that_waits_for_a_store(store: Store, tiny: str, silent: str) -> None:
    fill_store(store, 3)
    real = store.faults

    class Silent(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            real.delay = 240 if silent in line else 0

    real.asked = Silent()
    command = [*COMMAND, "predict", "s3://bucket/photos/", "-m", tiny, "-o", "out.csv"]
    with Program(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(silent in line for line in store.faults.asked))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 40
    assert "Traceback" not in err
    assert "stopped by SIGINT" in err
    assert not Path("out.csv").exists()
