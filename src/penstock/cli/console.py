"""Output: tables and text on standard output, everything else on standard error. Colours only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.kit.errors import InvalidInput

UNBOUNDED_COLUMNS = 100_000
GOOD = frozenset(("True", "Running", "Ready", "Completed", "Succeeded", "Bound", "Normal", "Active", "yes"))
BAD = frozenset(
    (
        "False",
        "Failed",
        "Error",
        "CrashLoopBackOff",
        "Warning",
        "OOMKilled",
        "CreateContainerError",
        "NotReady",
        "no",
    )
)


def console(stream: TextIO | None = None) -> Console:
    """Rich obeys NO_COLOR by itself; output into a file or pipe is never wrapped."""
    target = stream or sys.stdout
    return Console(
        file=target,
        width=None if target.isatty() else UNBOUNDED_COLUMNS,
        highlight=False,
        soft_wrap=not target.isatty(),
    )


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as they need to be, three spaces apart."""
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header.upper(), no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*(Text(shown(cell), style(shown(cell))) for cell in row))
    out = console()
    with out.capture() as captured:
        out.print(table, soft_wrap=True)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()


def print_yaml(document: Any) -> None:
    """Keys in the order they have."""
    sys.stdout.write(yaml_text(document))


def yaml_text(document: Any) -> str:
    """YAML with keys in the order they have."""
    return msgspec.yaml.encode(document, order=None).decode()


def print_json(document: Any) -> None:
    """Indented by four, as kubectl does."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=4) + b"\n")
    sys.stdout.flush()


def warn(message: str) -> None:
    """For the person, not for the pipe."""
    console(sys.stderr).print(Text.assemble(("warning: ", "yellow"), message))


def shown(cell: Any) -> str:
    """A cell as kubectl prints it."""
    return "<none>" if cell is None else str(cell)


def style(cell: str) -> str:
    """Green for what is well, red for what is not."""
    return "green" if cell in GOOD else "red" if cell in BAD else ""


def check_output(output: str, known: Sequence[str]) -> None:
    """Raises InvalidInput for an unknown `-o`."""
    if output and output not in known:
        raise InvalidInput(f"--output: found {output!r}, expected one of {', '.join(known)}")
