"""The panels of options in ``--help``: each function makes an option in one."""

from functools import partial

import typer

# The epilog says once that an environment variable can set each option.
in_input = partial(typer.Option, show_envvar=False, rich_help_panel="Inputs")
in_model = partial(typer.Option, show_envvar=False, rich_help_panel="Model")
in_labels = partial(typer.Option, show_envvar=False, rich_help_panel="Labels")
in_output = partial(typer.Option, show_envvar=False, rich_help_panel="Output")
in_run = partial(typer.Option, show_envvar=False, rich_help_panel="Run")
in_training = partial(typer.Option, show_envvar=False, rich_help_panel="Training")
