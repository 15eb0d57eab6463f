"""What an update keeps and what it makes again, in outputs of every kind."""

import os
from pathlib import Path

import pytest

from dinoclassify.errors import PruneError, UsageError
from dinoclassify.storage.remote.url import is_url
from dinoclassify.types.limit import Limit
from dinoclassify.types.prediction import Failure, Label, Prediction
from tests.helpers.outputs import PATHS, change, content, interrupt, leftovers, prepare, row, rows, write_output

pytestmark = pytest.mark.usefixtures("eleven_images")


def test_an_update_tells_what_becomes_of_each_input(output_name: str) -> None:
    inputs = prepare(output_name, update=True)
    changes = dict(write_output(output_name, inputs, resume=True, retry_failed=True))
    assert changes == {
        **dict.fromkeys(PATHS[8:], "new"),
        **dict.fromkeys(("1.jpg", "3.jpg"), "changed"),
        **dict.fromkeys(("2.jpg", "4.jpg", "5.jpg"), "kept"),
    }
    assert [row.path for row in rows(output_name)] == ["0.jpg", "6.jpg", "7.jpg", *inputs]


@pytest.mark.parametrize(
    ("failed", "image"),
    [
        ("m", "m/1.jpg"),
        ("m", "./m/below/it/1.jpg"),
        ("a.zip", "a.zip!m/1.jpg"),
        ("m", "m/a.zip!1.jpg"),
        ("t.parquet", "t.parquet!0"),
        ("memory://bucket/m/", "memory://bucket/m/below/it/1.jpg"),
        ("memory://bucket/m", "memory://bucket/m/1.jpg"),
    ],
)
def test_the_failed_row_of_a_folder_or_archive_goes_when_its_first_image_has_a_row(failed: str, image: str) -> None:
    def make(path: str) -> Prediction:
        failure = Failure("unreadable", "not now")
        return Prediction(path, "failed", failure=failure) if path == failed else Prediction(path, "ok", label)

    label = (Label("fish", 1, 0.5),)
    write_output("file.csv", ["0.jpg", failed, "mm/1.jpg"], make)
    write_output("file.csv", [image], make, resume=True)
    assert [row.path for row in rows("file.csv")] == ["0.jpg", "mm/1.jpg", image]


def test_the_failed_row_of_a_folder_stays_if_it_still_cannot_be_read() -> None:
    def make(path: str) -> Prediction:
        failure = Failure("unreadable", "not now")
        return Prediction(path, "failed", failure=failure) if path == "m/sub" else row(path)

    write_output("file.csv", ["0.jpg", "m/sub"], make)
    assert write_output("file.csv", ["m/1.jpg", "m/sub"], make, resume=True) == [("m/1.jpg", "new"), ("m/sub", "kept")]


def test_an_update_without_changes_leaves_the_output_as_it_was(output_name: str) -> None:
    write_output(output_name, PATHS)
    before = content(output_name)
    assert write_output(output_name, PATHS, resume=True) == [(path, "kept") for path in PATHS]
    assert content(output_name) == before
    assert leftovers() == []


def test_an_image_keeps_its_row_under_any_spelling_of_its_path(output_name: str) -> None:
    write_output(output_name, PATHS)
    for folder in ("./", f"{os.getcwd()}/", f"{os.getcwd()}/.//", ""):
        paths = [folder + path for path in PATHS]
        assert {change for _, change in write_output(output_name, paths, resume=True)} == {"kept"}, folder
        assert [row.path for row in rows(output_name)] == paths, "the row takes today's spelling"


def test_kept_rows_have_absolute_paths_after_an_update_from_another_folder(output_name: str) -> None:
    output_name = output_name if is_url(output_name) else os.path.abspath(output_name) + "/" * output_name.endswith("/")
    here = os.getcwd()
    write_output(output_name, PATHS)
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    change("0.jpg", "another file")
    assert write_output(output_name, ["0.jpg", "../1.jpg"], resume=True) == [("0.jpg", "new"), ("../1.jpg", "kept")]
    assert [row.path for row in rows(output_name)] == [
        *(f"{here}/{path}" for path in (PATHS[0], *PATHS[2:])),
        *("0.jpg", "../1.jpg"),
    ]


def test_a_path_that_is_named_twice_has_two_rows(output_name: str) -> None:
    paths = [*PATHS, *PATHS[:3], "gone.jpg", "gone.jpg"]
    interrupt(output_name, paths, 14)
    assert [change for _, change in write_output(output_name, paths, resume=True)].count("kept") >= 12
    assert [row.path for row in rows(output_name)] == paths
    assert {change for _, change in write_output(output_name, paths, resume=True)} == {"kept"}


def test_failed_images_are_retried_only_with_retry_failed(output_name: str) -> None:
    change("3.jpg", "?")
    status = os.stat("3.jpg")
    interrupt(output_name, PATHS, 8)
    change("3.jpg", "x")
    os.utime("3.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))  # a failure that passes by itself
    assert ("3.jpg", "kept") in write_output(output_name, PATHS, resume=True)
    assert ("3.jpg", "retried") in write_output(output_name, PATHS, resume=True, retry_failed=True)
    assert [row.status for row in rows(output_name)] == ["ok"] * 11


@pytest.mark.parametrize("limit", [None, Limit("3", count=3), Limit("10%", share=0.1)])
def test_pruning_more_than_half_of_the_rows_needs_max_prune(output_name: str, limit: Limit | None) -> None:
    paths = [*PATHS, *(f"more-{number}.jpg" for number in range(11))]
    for path in paths:
        Path(path).write_bytes(b"x")
    write_output(output_name, paths)
    before = content(output_name)
    for path in paths[:12]:
        os.unlink(path)
    with pytest.raises(PruneError, match=r"would drop 12 of 22 rows.* --max-prune 12 allows it"):
        write_output(output_name, paths[12:], resume=True, prune=True, max_prune=limit)
    assert content(output_name) == before
    write_output(output_name, paths[12:], resume=True, prune=True, max_prune=Limit("55%", share=0.55))
    assert [row.path for row in rows(output_name)] == paths[12:]


def test_any_number_of_a_few_rows_may_be_pruned(output_name: str) -> None:
    write_output(output_name, PATHS)
    for path in PATHS[1:]:
        os.unlink(path)
    write_output(output_name, PATHS[:1], resume=True, prune=True)
    assert [row.path for row in rows(output_name)] == PATHS[:1]


def test_rows_with_another_fingerprint_are_refused_and_the_message_names_the_right_option(output_name: str) -> None:
    write_output(output_name, PATHS)
    other = {"model": "m", "runtime": "torch"}
    with pytest.raises(
        UsageError, match="made with --runtime openvino, not torch: use --runtime openvino, name another"
    ):
        write_output(output_name, PATHS, fingerprint=other, resume=True)
    write_output(output_name, PATHS, fingerprint=other)
    interrupt(output_name, PATHS, 5)
    with pytest.raises(
        UsageError, match=r"partial was made with --runtime openvino, not torch: use --runtime openvino"
    ):
        write_output(output_name, PATHS, fingerprint=other, resume=True)


def test_an_output_of_no_rows(output_name: str) -> None:
    write_output(output_name, [])
    assert rows(output_name) == []
    write_output(output_name, [], resume=True)
    write_output(output_name, PATHS, resume=True)
    assert len(rows(output_name)) == 11
