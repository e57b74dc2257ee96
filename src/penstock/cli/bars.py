"""Progress bars of long work: on standard error, gone when it is done, and none where nobody watches."""

from __future__ import annotations

import sys

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from penstock.cli.console import console


def progress_bars() -> Progress:
    """Each shows what is done, which share of it, and for how long."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console(sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
