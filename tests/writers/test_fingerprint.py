"""The refusal of rows that were made with other options, as whole lines."""

from collections.abc import Mapping

import pytest

from dinoclassify.errors import UsageError
from dinoclassify.writers.fingerprint import check_fingerprint

BEFORE = {
    "model": "small",
    "revision": "a" * 40,
    "labels": "9 of sha256 0",
    "groups": None,
    "top-k": 1,
    "threshold": 0.0,
    "exact": False,
    "decoder": "cpu",
    "column": None,
    "format": "csv",
    "precision": "fp32",
}
OTHERS = "name another -o, or start over with --fresh instead of --resume (dinoclassify guide resume)"


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({}, {"threshold": 0.3}, "was made with --threshold 0.0, not 0.3: use --threshold 0.0, "),
        ({}, {"top-k": 3}, "has 1 label a row, you ask for 3: use -k 1, "),
        ({}, {"exact": True}, "was made without --exact: leave out --exact, "),
        ({"exact": True}, {}, "was made with --exact: use --exact, "),
        ({}, {"groups": "2 of sha256 1"}, "was made without --groups: leave out --groups, "),
        ({"groups": "2 of sha256 1"}, {}, "was made with --groups: use the same --groups as before, "),
        ({}, {"labels": "9 of sha256 1"}, "was made with other --labels: use the same --labels as before, "),
        ({}, {"column": "image"}, "was made without --column: leave out --column, "),
        ({}, {"format": "jsonl"}, "was made with --format csv, not jsonl: use --format csv, "),
        (
            {},
            {"format": "excel"},
            "was made with --format csv, not excel: leave out --excel-safe and use --format csv, ",
        ),
        ({"format": "excel"}, {}, "was made with --format excel, not csv: use --excel-safe, "),
        ({"decoder": "gpu"}, {}, "was made with decoder gpu, not cpu: "),
        ({"revision": "5e1f"}, {}, "was made with other weights of the model: "),
        ({}, {"model": "base", "top-k": 3}, "was made with --model small, not base: use --model small, "),
        (
            {},
            {"groups": "2 of sha256 1", "top-k": 3, "threshold": 0.3},
            "was made with other options (--groups, --top-k, --threshold): "
            "repeat them (leave out --groups, use --top-k 1 and --threshold 0.0), ",
        ),
        (
            {"exact": True},
            {"groups": "2 of sha256 1", "column": "image"},
            "was made with other options (--groups, --exact, --column): "
            "repeat them (leave out --groups and --column, use --exact), ",
        ),
        ({"decoder": "gpu"}, {"top-k": 3}, "was made with other options (--top-k, decoder): "),
        ({"revision": "5e1f"}, {"top-k": 3}, "was made with other options (weights of the model, --top-k): "),
    ],
)
def test_rows_made_with_other_options_are_refused_with_the_options_to_repeat(
    before: Mapping[str, object], now: Mapping[str, object], said: str
) -> None:
    with pytest.raises(UsageError) as raised:
        check_fingerprint({**BEFORE, **before}, "labels.csv", {**BEFORE, **now})
    assert str(raised.value) == f"--resume: labels.csv {said}{OTHERS}"


def test_a_watch_says_what_it_can_do() -> None:
    with pytest.raises(UsageError) as raised:
        check_fingerprint(BEFORE, "x.csv", {**BEFORE, "top-k": 3}, option="--watch", cures=["name another --output"])
    said = "--watch: x.csv has 1 label a row, you ask for 3: use -k 1, or name another --output"
    assert str(raised.value) == f"{said} (dinoclassify guide resume)"


def test_equal_fingerprints_are_accepted() -> None:
    check_fingerprint({**BEFORE, "of a later version": 1}, "labels.csv", BEFORE)
