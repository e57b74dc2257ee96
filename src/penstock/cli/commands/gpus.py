"""Show who holds what of the GPUs: in bytes and slices, as a table, a picture or JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from penstock.cli.api import connect
from penstock.cli.console import check_output, print_json, print_table
from penstock.cli.devices import every, gib, gpus_by_node
from penstock.cli.moves import show_moves
from penstock.cli.options import Context, Kubeconfig
from penstock.decide.device_holders import LETTERS, GpuView, gpu_views, picture
from penstock.resources.pod import Pod

OUTPUTS = ("picture", "json")


def run(
    output: Annotated[
        str, typer.Option("--output", "-o", help="picture or json; without, a table", show_default=False)
    ] = "",
    node: Annotated[str, typer.Option("--node", help="Only this node's.", show_default=False)] = "",
    defragment: Annotated[
        bool,
        typer.Option(
            "--defragment",
            help="Instead: which pods would move now so that GPUs serve better, and why the others stay. Nothing is changed.",
        ),
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """A GPU is bytes of memory, thousandths of its compute, and with MIG slices of memory; what no pod holds is free."""
    check_output(output, OUTPUTS)
    api = connect(kubeconfig, context)
    if defragment:
        show_moves(api, output)
        return
    gpus = {name: found for name, found in gpus_by_node(api).items() if node in ("", name)}
    views = gpu_views(gpus, every(api, Pod))
    if output == "json":
        print_json(msgspec.to_builtins(views))
    elif not views:
        typer.echo("No GPUs found.", err=True)
    elif output == "picture":
        _draw(views)
    else:
        headers = ("node", "gpu", "type", "mode", "pod", "holds", "memory", "slices", "free", "problem")
        print_table(headers, [row for view in views for row in _rows(view)])


def _rows(view: GpuView) -> list[tuple[object, ...]]:
    """One for each holding, and one for a GPU that nobody holds."""
    free = gib(view.free_bytes)
    if view.free_slices is not None:
        free += f", {len(view.free_slices)} of {view.slices} slices"
    about = (view.node, view.index, view.type, view.mode)
    rows: list[tuple[object, ...]] = [
        (
            *about,
            f"{one.namespace}/{one.pod}",
            one.what,
            gib(one.memory_bytes),
            _range(one.slices),
            free,
            view.problem,
        )
        for one in view.holdings
    ]
    return rows or [(*about, "", "", "", "", free, view.problem)]


def _draw(views: tuple[GpuView, ...]) -> None:
    node = ""
    for view in views:
        if view.node != node:
            node = view.node
            typer.echo(node)
        problem = f"  {view.problem}" if view.problem else ""
        typer.echo(
            f"  {view.index:>2}  {view.type:<16} {picture(view)}  {gib(view.free_bytes)} of {gib(view.memory_bytes)} free{problem}"
        )
        for letter, one in zip(LETTERS, view.holdings, strict=False):
            typer.echo(f"        {letter}  {one.namespace}/{one.pod}  {one.what}  {gib(one.memory_bytes)}")


def _range(slices: tuple[int, ...]) -> str:
    if not slices:
        return ""
    return f"{slices[0]}" if len(slices) == 1 else f"{slices[0]} to {slices[-1]}"
