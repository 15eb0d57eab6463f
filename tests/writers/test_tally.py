"""The counts of the rows of a run."""

from dinoclassify.writers.tally import Tally


def test_a_tally_has_rows_once_there_are_some() -> None:
    tally = Tally()
    tally.start({})
    assert not tally.has_rows
    tally.start({"ok": 156})  # of an interrupted run
    assert tally.has_rows
