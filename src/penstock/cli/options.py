"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="File that says how to reach the cluster.", show_default=False),
]
Context = Annotated[
    str | None, typer.Option("--context", help="Context in the kubeconfig.", show_default=False)
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace; default: the context's.", show_default=False),
]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In every namespace.")]
Labels = Annotated[
    str, typer.Option("--selector", "-l", help="Labels, as in app=x,tier!=y.", show_default=False)
]
Filenames = Annotated[
    list[str],
    typer.Option(
        "--filename",
        "-f",
        help="File, folder, or - for standard input; may be given again.",
        show_default=False,
    ),
]
