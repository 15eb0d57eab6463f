"""Updates of a file to which `--watch` has added rows: the last row of each image counts."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from dinoclassify.writers.formats import open_format
from dinoclassify.writers.output import Output, UpdateOptions
from dinoclassify.writers.output_file import OutputFile
from tests.helpers.outputs import FINGERPRINT, KINDS, PATHS, change, row, rows, write_output

pytestmark = pytest.mark.usefixtures("eleven_images")


def append(output_name: str, paths: list[str], *, is_said: bool = True) -> None:
    """Add a row for each path at the end, as `--watch` does."""
    meta = json.loads(Path(f"{output_name}.meta.json").read_text())
    Path(f"{output_name}.meta.json").write_text(json.dumps({**meta, "appended": is_said}))
    with open(output_name, "ab") as file:
        file.writelines(
            open_format(KINDS[f"file{Path(output_name).suffix}"], 1).lines.line(row(path)) for path in paths
        )


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize("name", ["file.csv", "file.jsonl"])
def test_the_last_row_of_an_image_counts_if_rows_were_added_at_the_end(name: str, is_said: bool) -> None:
    paths = [*PATHS, "3.jpg", "4.jpg"]
    change("1.jpg", "?")
    write_output(name, paths)
    for text in ("one", "three"):
        for path in PATHS[:4]:
            change(path, text)
        append(name, [f"./{path}" for path in PATHS[:4]], is_said=is_said)
    append(name, PATHS[5:6], is_said=is_said)
    assert set(write_output(name, PATHS[:1], resume=True)) == {("0.jpg", "kept")}
    found = [(shown.path, shown.label) for shown in rows(name)]
    assert [label for path, label in found if path == "./3.jpg"] == ["fish 5"], "the other rows are of earlier content"
    assert ("1.jpg", None) not in found
    many = [path for path, _ in found if found.count((path, "fish 1")) > 1]
    assert set(many) == (set() if is_said else {"4.jpg", "5.jpg"}), "4.jpg was named twice"
    assert found[-1] == ("0.jpg", "fish 5")


@pytest.mark.parametrize("name", ["file.csv", "file.jsonl"])
def test_replaced_rows_are_not_counted(name: str) -> None:
    """Rows of passed failures, of files with the same size and time."""
    change("0.jpg", "?")
    write_output(name, PATHS)
    change("0.jpg", "x")
    append(name, PATHS[:1])
    with closing(
        Output.open(
            OutputFile(name, open_format(KINDS[name], 1), batch_size=2),
            open_format(KINDS[name], 1).lines,
            FINGERPRINT,
            UpdateOptions(resume=True),
        )
    ) as output:
        assert output.statuses == {"ok": 11}
