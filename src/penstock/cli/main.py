"""`penstock`: finds its commands by listing `cli/commands/`, and imports only the one that was asked for.

A command is one file there: its docstring's first line is the short help, its function `run` the command. A file with several
has `ACTIONS` instead, each function by the word that follows the command.
"""

from __future__ import annotations

import ast
import importlib
import io
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from penstock.cli.exits import INTERRUPTED, exit_code
from penstock.kit.errors import PlatformError

COMMANDS = Path(__file__).parent / "commands"


@cache
def command_names() -> tuple[str, ...]:
    """Every command, by file name."""
    return tuple(sorted(p.stem.replace("_", "-") for p in COMMANDS.glob("*.py") if p.stem != "__init__"))


def short_help(name: str) -> str:
    """The first line of the command's docstring, read without importing it."""
    source = (COMMANDS / f"{name.replace('-', '_')}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


class Commands(TyperGroup):
    """The group behind `penstock`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names alone."""
        return list(command_names())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; None if there is none of this name."""
        if cmd_name not in command_names():
            return None
        module = importlib.import_module(f"penstock.cli.commands.{cmd_name.replace('-', '_')}")
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        actions = getattr(module, "ACTIONS", None)
        if actions is None:
            app.command(name=cmd_name, help=module.__doc__)(module.run)
            return get_command(app)
        app.info.help, app.info.no_args_is_help = module.__doc__, True
        for name, action in actions.items():
            app.command(name=name)(action)
        return get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help(name)) for name in command_names()])


def main() -> None:
    """The entry point. An error is a message and a hint on standard error, never a traceback."""
    os.environ.setdefault("COLUMNS", "100") if not sys.stdout.isatty() else None
    _write_whole()
    group = Commands(
        name="penstock",
        help="Penstock serves AI models: on one machine with one command, on a cluster with the same manifests.\n\n"
        "Exit codes: 0 done, 1 error, 2 wrong usage, 3 not found, 4 not reachable or timed out, 5 refused as invalid, "
        "6 not allowed, 130 interrupted. NO_COLOR=1 turns colours off, PENSTOCK_DEBUG=1 shows where an error arose.",
        no_args_is_help=True,
        rich_markup_mode=None,
        commands=dict.fromkeys(command_names(), TyperCommand("")),  # names alone, for "did you mean"
    )
    sys.exit(_run(group))


def _write_whole() -> None:
    """Without a buffer (PYTHONUNBUFFERED) a write into a pipe that a signal interrupts is short, and Python forgets the rest."""
    out = sys.__stdout__
    if out is not None and sys.stdout is out and isinstance(raw := out.buffer, io.RawIOBase):
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), out.encoding, out.errors, line_buffering=True)


def _run(group: Commands) -> int:
    try:
        group.main(prog_name="penstock")
    except PlatformError as error:
        if os.environ.get("PENSTOCK_DEBUG"):
            raise
        _complain(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _complain(error: PlatformError) -> None:
    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if _colours() else ("", "", "")
    print(f"{red}error:{plain} {error.message}", file=sys.stderr)
    if len(error.causes) > 1:
        for cause in error.causes:
            print(f"  {cause.field}: {cause.message}", file=sys.stderr)
    if error.hint:
        print(f"{dim}hint: {error.hint}{plain}", file=sys.stderr)


def _colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


if __name__ == "__main__":
    main()
