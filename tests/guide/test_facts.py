"""README and the guide agree with the program: options, variables, models, codes."""

import re

import pytest
import typer

from dinoclassify import errors
from dinoclassify.cli.app import app
from dinoclassify.models.names import KNOWN
from dinoclassify.types.prediction import ErrorCode
from tests.helpers.pages import EACH_PAGE, PAGES, README, blocks, commands, table

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
GENERAL = {"--help", "-h"}
OF_OTHERS = {"--extra-index-url", "--array", "--wrap"}  # options of pip and of sbatch
OF_THE_PROGRAM = {"--version", "--install-completion", "--show-completion"}


def options(command: str) -> set[str]:
    """The options of a command, in all their spellings."""
    parameters = [one for one in COMMANDS[command].params if one.param_type_name == "option"]
    return {option for one in parameters for option in (*one.opts, *one.secondary_opts)} | GENERAL


@pytest.mark.parametrize("name", EACH_PAGE)
def test_the_options_that_a_page_names_are_there(name: str) -> None:
    known = {option for command in COMMANDS for option in options(command)}
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", PAGES[name]))
    assert named <= known | OF_OTHERS | OF_THE_PROGRAM


def test_each_option_is_named_on_a_page() -> None:
    named = set(re.findall(r"(?<![\w-])--?[A-Za-z0][\w-]*", "".join(PAGES.values())))
    unnamed = {
        one.name
        for command in COMMANDS.values()
        for one in command.params
        if one.param_type_name == "option" and named.isdisjoint([*one.opts, *one.secondary_opts])
    }
    assert unnamed == set()


def test_the_options_that_embed_lacks_are_those_that_its_page_names() -> None:
    section = PAGES["dinoclassify/guide/embed.md"].split("## Options that embed lacks\n")[1]
    lacking = {option for option in options("predict") - options("embed") if option.startswith("--")}
    assert set(re.findall(r"`(--[\w-]+)`", section)) == lacking


@pytest.mark.parametrize("name", EACH_PAGE)
def test_commands_in_blocks_of_code_have_the_options_that_they_are_given(name: str) -> None:
    for command, given in commands(PAGES[name]):
        assert command in COMMANDS
        assert set(given) <= options(command), command


def test_commands_are_found_in_blocks_of_code() -> None:
    page = "```text\nls | /opt/dinoclassify predict a -k 5 --resume && dinoclassify sort - --into b  # --no\n```\n"
    assert list(commands(page)) == [("predict", ["-k", "--resume"]), ("sort", ["--into"])]
    assert len([one for page in PAGES.values() for one in commands(page)]) > 100


def test_readme_names_each_command() -> None:
    named = [row[0].split("`")[1].split()[0] for row in table(README, "## Use")]
    assert set(named) == set(COMMANDS)


def test_every_option_has_an_environment_variable_of_its_command_and_name() -> None:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                assert parameter.envvar is None
            elif parameter.name != "help":
                long = next(option for option in parameter.opts if option.startswith("--"))
                assert parameter.envvar == f"DINOCLASSIFY_{name}_{long[2:].replace('-', '_')}".upper()


@pytest.mark.parametrize("name", EACH_PAGE)
def test_the_environment_variables_that_a_page_names_are_those_of_options(name: str) -> None:
    known = {option.envvar for command in COMMANDS.values() for option in command.params}
    assert set(re.findall(r"DINOCLASSIFY_[A-Z_]+\b", PAGES[name])) <= known


@pytest.mark.parametrize("name", EACH_PAGE)
def test_crontab_lines_have_no_bare_percent_sign(name: str) -> None:
    """Cron turns it into a newline, and passes what follows to standard input."""
    lines = [line for block in blocks(PAGES[name]) for line in block.splitlines()]
    crontab = [line for line in lines if re.match(r"([\d*/,-]+ +){5}\S", line)]
    assert crontab or name not in ("README.md", "dinoclassify/guide/cron.md")
    assert [line for line in crontab if re.search(r"(?<!\\)%", line)] == []


def test_the_table_of_models_is_the_program_s() -> None:
    rows = {row[0].split("`")[1]: row for row in table(PAGES["dinoclassify/guide/models.md"], "## Names")}
    assert list(rows) == [*KNOWN, "builtin"]
    for name, known in KNOWN.items():
        assert rows[name][1:] == [f"`{known.hub_id}`", f"{known.parameters} M", f"{known.top1} %"]


@pytest.mark.parametrize(
    ("name", "heading"),
    [("README.md", "### What happens to a bad file"), ("dinoclassify/guide/failures.md", "## Error codes")],
)
def test_the_error_codes_are_the_program_s(name: str, heading: str) -> None:
    codes = [code for row in table(PAGES[name], heading) for code in re.findall(r"`(\w+)`", row[0])]
    assert sorted(codes) == sorted(ErrorCode.__args__)  # type: ignore[attr-defined]  # a Literal


def test_the_exit_codes_are_the_program_s() -> None:
    rows = table(PAGES["dinoclassify/guide/failures.md"], "## Exit codes")
    documented = {int(code) for row in rows for code in row[0].split(", ")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")]
    assert documented == {0, 3, 130, 143} | {kind.exit_code for kind in kinds}
    for kind in kinds:
        assert re.search(rf"{kind.__name__}\s+{kind.exit_code}\b", errors.__doc__ or ""), "the tree in errors.py"


def test_the_verdicts_on_int8_are_those_that_a_run_gives() -> None:
    from dinoclassify.runtimes.openvino.int8 import Verdict

    page = PAGES["dinoclassify/guide/check.md"]
    assert f"`{Verdict(994, 1000, 'bf16').sentence}`" in page


def test_the_suffixes_of_images_are_the_program_s() -> None:
    from dinoclassify.discovery.filters import IMAGE_SUFFIXES

    rows = table(PAGES["dinoclassify/guide/inputs.md"], "## What a folder walk takes")
    assert {suffix for row in rows for suffix in re.findall(r"`(\.\w+)`", row[1])} == set(IMAGE_SUFFIXES)
