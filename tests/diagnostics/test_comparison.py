"""`bench --against`: ratios of new to old figures, and what else has changed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dinoclassify import UsageError
from dinoclassify.cli import run
from dinoclassify.cli.commands.bench import _print_comparison
from dinoclassify.diagnostics.comparison import Change, Comparison, compare, read_report
from dinoclassify.diagnostics.core_time import CoreTime
from dinoclassify.diagnostics.report import Conditions, Figure, Report
from dinoclassify.diagnostics.start import Start

CONDITIONS = Conditions("small", 64, 0.2, 1000, 1, "cpu", 2, "a processor", {"dinoclassify": "1", "torch": "2.13"})
OLD = Report(
    machine="a machine",
    pictures="64 images",
    conditions=CONDITIONS,
    rounds=3,
    figures=[Figure("torch fp32", 10.0, 9.0, 11.0), Figure("openvino bf16", 20.0, 19.0, 21.0)],
    ratios=[],
    stages={},
    bottleneck=None,
    advice="",
    starts=[Start("dinoclassify, torch", "warm", 4.0, 3.0, 5.0, 3.0, 600.0, 3)],
    core_ms=CoreTime(38.0, 31.0, 7.0, 6.0, 3.7),
)
NEW = replace(
    OLD,
    figures=[Figure("torch fp32", 15.0, 9.0, 16.0), Figure("torch bf16", 20.0, 19.0, 21.0)],
    starts=[Start("dinoclassify, torch", "warm", 1.0, 0.9, 1.1, 0.9, 300.0, 3)],
    core_ms=CoreTime(35.5, 31.0, 4.5, 4.2, 0.0),
)


def save(report: Report, folder: Path) -> str:
    """What `bench --json` would print for a report, in a file."""
    path = folder / "old.json"
    path.write_text(json.dumps(report.as_json()))
    return str(path)


def test_each_figure_of_both_reports_has_its_ratio(tmp_path: Path) -> None:
    compared = compare(read_report(save(OLD, tmp_path)), NEW.as_json())
    assert compared.figures == [
        Change("torch fp32", "images/s", 10.0, 15.0, 1.5),
        Change("start of dinoclassify, torch, warm", "s", 4.0, 1.0, 0.25),
        Change("start of dinoclassify, torch, warm", "core s", 3.0, 0.9, 0.3),
        Change("start of dinoclassify, torch, warm", "MB", 600.0, 300.0, 0.5),
        Change("core time, whole run", "ms/image", 38.0, 35.5, 0.934),
        Change("core time, model", "ms/image", 31.0, 31.0, 1.0),
        Change("core time, outside model", "ms/image", 7.0, 4.5, 0.643),
        Change("core time, without model", "ms/image", 6.0, 4.2, 0.7),
        Change("core time, decode only", "ms/image", 3.7, 0.0, None),
    ]
    assert compared.lines() == [f"only in {tmp_path}/old.json: openvino bf16", "only in this run: torch bf16"]
    assert compared.as_json()["only_new"] == ["torch bf16"]


@pytest.mark.parametrize(("old", "new"), [(0.0, 3.7), (3.7, 0.0), (-0.1, 3.7), (3.7, -0.1)])
def test_a_figure_that_is_not_above_0_in_both_reports_has_no_ratio(old: float, new: float, tmp_path: Path) -> None:
    """The core time outside the model is a difference, which may be less than 0."""
    before, after = (replace(OLD, core_ms=CoreTime(38.0, 31.0, value, 6.0, 3.7)) for value in (old, new))
    compared = compare(read_report(save(before, tmp_path)), after.as_json())
    assert Change("core time, outside model", "ms/image", old, new, None) in compared.figures


def test_a_figure_without_a_ratio_is_a_row_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    _print_comparison(Comparison("old.json", [Change("core time", "ms/image", 0.0, 3.7, None)], [], [], []))
    assert capsys.readouterr().out.splitlines()[3:] == ["core time\tms/image\t0.0\t3.7\t"]


def test_what_the_figures_depend_on_is_named_where_it_differs(tmp_path: Path) -> None:
    old = read_report(save(OLD, tmp_path))
    versions = {"dinoclassify": "2", "torch": "2.13"}
    other = replace(CONDITIONS, model="base", images=32, image_bytes=999, workers=2, versions=versions)
    assert compare(old, replace(NEW, conditions=other).as_json()).notes == [
        "the model differs: small, now base",
        "the number of images differs: 64, now 32",
        "the size of the images differs: 1000, now 999",
        "the number of workers differs: 1, now 2",
        "versions differ: dinoclassify 1, now 2",
    ]
    other = replace(CONDITIONS, processors=16, device="a GPU")
    assert compare(old, replace(NEW, conditions=other).as_json()).notes == [
        "the device differs: cpu, now a GPU",
        "the number of processors differs: 2, now 16",
        "the machines, or what they were allowed, differ: the ratios say nothing about the versions",
    ]


def test_a_report_of_a_stopped_run_can_be_compared(tmp_path: Path) -> None:
    stopped = replace(OLD, starts=[], core_ms=None)
    compared = compare(read_report(save(stopped, tmp_path)), NEW.as_json())
    assert [change.name for change in compared.figures] == ["torch fp32"]
    assert compared.only_new[0] == "torch bf16"


ODD_CONDITIONS = '{"machine": "m", "figures": [], "conditions": {"versions": [1]}}'


def with_conditions(figures: str, others: str = "") -> str:
    """A report with conditions like ours."""
    return f'{{"conditions": {{"versions": {{}}}}, "figures": {figures}{others}}}'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "name\timages/s\n",
        "[]",
        "{}",
        '{"machine": "m", "figures": []}',
        '{"machine": "m", "figures": [], "conditions": []}',
        '{"machine": "m", "figures": [], "conditions": {}}',
        ODD_CONDITIONS,
        with_conditions("{}"),
        with_conditions('[{"name": "a", "median": "fast"}]'),
        with_conditions('[{"name": "a", "median": NaN}]'),
        with_conditions(f'[{{"name": "a", "median": {10**400}}}]'),
        with_conditions("[]", ', "starts": [{}]'),
        with_conditions("[]", ', "core_ms": 3'),
        "\ud800",
    ],
)
def test_something_else_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(content, errors="surrogatepass")
    with pytest.raises(UsageError, match=r"cannot read the report .*: it needs what dinoclassify bench --json prints"):
        read_report(str(path))


def test_a_report_that_cannot_be_compared_is_refused_before_anything_is_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text("[]")
    (tmp_path / "odd.json").write_text(ODD_CONDITIONS)
    for name, why in [
        ("old.json", "cannot read the report"),
        ("odd.json", "cannot read the report"),
        ("none.json", "is not there"),
        ("", "is a folder"),
    ]:
        assert run(["bench", "-m", "some/model", "--against", str(tmp_path / name)]) == 2
        err = capfd.readouterr().err
        assert why in err
        assert err.count("\n") == 1
