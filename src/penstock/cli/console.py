"""Output: tables and text on standard output, everything else on standard error. Colours only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, TextIO

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from penstock.kit.errors import InvalidInput

UNBOUNDED_COLUMNS = 100_000
GAP = 3
"""Spaces between columns."""
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
    """Columns as wide as they need to be, three spaces apart. Laid out here: Rich's own table takes a second for a thousand rows."""
    titles = [header.upper() for header in headers]
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip_longest(titles, *cells, fillvalue="")]
    out = console()
    with out.capture() as captured:
        for number, line in enumerate((titles, *cells)):
            text = Text()
            for cell, width in zip(line, widths, strict=False):
                text.append(cell, style(cell) if number else "bold")
                text.append(" " * (width - cell_len(cell) + GAP))
            out.print(text, soft_wrap=True)
    for line_shown in captured.get().splitlines():
        sys.stdout.write(line_shown.rstrip() + "\n")
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
