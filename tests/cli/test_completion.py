"""What the shell offers when the user presses Tab."""

import pytest

from tests.conftest import Cli


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dinoclassify predict -m s", ["small", "small-reg"]),
        ("dinoclassify embed --model bu", ["builtin"]),
        ("dinoclassify guide re", ["resume", "report"]),
        ("dinoclassify predict photos --groups e", ["everyday"]),
        ("dinoclassify predict photos -f csv", ["csv", "csv.gz"]),
        ("dinoclassify embed photos -f n", ["npz", "npy"]),
        ("dinoclassify predict --precision b", ["bf16"]),
        ("dinoclassify tag --naming s", ["stem"]),
        ("dinoclassify predict --max-p", ["--max-pixels", "--max-prune"]),
        ("dinoclassify sor", ["sort"]),
        ("dinoclassify predict -m ./", []),  # then bash offers files
    ],
)
def test_bash_is_offered(cli: Cli, line: str, offered: list[str]) -> None:
    words = len(line.split()) - 1
    done = cli(env={"_DINOCLASSIFY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(words)})
    assert done.stderr == b""
    assert sorted(done.stdout.decode().split()) == sorted(offered)


@pytest.mark.parametrize(
    ("shell", "environment"),
    [("zsh", {}), ("fish", {"_TYPER_COMPLETE_FISH_ACTION": "get-args"})],
)
def test_zsh_and_fish_are_offered_names_with_what_they_stand_for(
    cli: Cli, shell: str, environment: dict[str, str]
) -> None:
    line = {"_TYPER_COMPLETE_ARGS": "dinoclassify predict -m s", "_DINOCLASSIFY_COMPLETE": f"complete_{shell}"}
    done = cli(env=line | environment)
    assert done.stderr == b""
    assert "facebook/dinov2-small-imagenet1k-1-layer" in done.stdout.decode()


@pytest.mark.parametrize("line", ["dinoclassify nosuch ", "dinoclassify predict --groups dinoclassify/labels/e"])
def test_nothing_is_said_in_the_line_that_the_user_types(cli: Cli, line: str) -> None:
    """The shell itself offers files, and quotes their names."""
    done = cli(env={"_DINOCLASSIFY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "3"})
    assert (done.stdout.strip(), done.stderr) == (b"", b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_can_be_printed(cli: Cli, shell: str) -> None:
    done = cli("--show-completion", shell)
    assert done.returncode == 0
    assert b"_DINOCLASSIFY_COMPLETE" in done.stdout
