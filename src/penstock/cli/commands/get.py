"""List objects: as a table, YAML, JSON or names; -w keeps watching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer

from penstock.cli.api import TABLE, Api, Document, connect, error_of
from penstock.cli.console import check_output, print_json, print_table, print_yaml, shown
from penstock.cli.names import Wanted, parse_arguments
from penstock.cli.options import AllNamespaces, Context, Kubeconfig, Labels, Namespace
from penstock.kit.errors import InvalidInput

OUTPUTS = ("wide", "yaml", "json", "name")


def run(
    what: Annotated[
        list[str], typer.Argument(help="TYPE, TYPE NAME…, TYPE/NAME…, or all", show_default=False)
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="wide, yaml, json or name", show_default=False)
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with changes as they come.")] = False,
    selector: Labels = "",
    namespace: Namespace = None,
    all_namespaces: AllNamespaces = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Tables come from the server, so they fit whatever kinds it has."""
    check_output(output, OUTPUTS)
    api = connect(kubeconfig, context)
    wanted = parse_arguments(api, what)
    if watch and len(wanted) > 1:
        raise InvalidInput("--watch: found several types, expected one")
    getter = Getter(api, None if all_namespaces else namespace or api.namespace, output, selector)
    if not getter.show(wanted) and output not in ("yaml", "json"):
        place = "" if getter.namespace is None else f" in namespace {getter.namespace}"
        typer.echo(f"No resources found{place}.", err=True)
    if watch:
        getter.watch(wanted[0])


class Getter:
    """One invocation. `namespace` None means all of them."""

    def __init__(self, api: Api, namespace: str | None, output: str, selector: str) -> None:
        self._api = api
        self.namespace = namespace
        self._output = output
        self._selector = selector
        self._version = ""
        self._titles: tuple[tuple[str, int], ...] = ()

    def show(self, wanted: Sequence[Wanted]) -> bool:
        """Everything once; whether a table had a row."""
        answers = [answer for one in wanted for answer in self._read(one)]
        if self._output in ("yaml", "json"):
            self._dump(answers, single=sum(len(one.names) for one in wanted) == 1)
            return False
        printed = False
        for one in wanted:
            tables = [answer for resource, answer in answers if resource is one]
            printed |= self._print(one, tables, several=len(wanted) > 1, gap=printed)
        return printed

    def watch(self, one: Wanted) -> None:
        """Rows as they change, until interrupted. Raises Expired when the server wants a new list."""
        fields = f"metadata.name={one.names[0]}" if len(one.names) == 1 else ""
        lines = self._api.lines(
            one.resource.path(self.namespace),
            accept=self._accept,
            watch="true",
            resourceVersion=self._version,
            labelSelector=self._selector,
            fieldSelector=fields,
        )
        for line in lines:
            event = orjson.loads(line)
            if event["type"] == "ERROR":
                raise error_of(event["object"].get("code", 500), orjson.dumps(event["object"]))
            if event["type"] == "BOOKMARK":
                continue
            if self._output in ("yaml", "json"):
                self._dump([(one, event["object"])], single=True)
            else:
                self._print(one, [event["object"]], several=False, gap=False, again=True)

    @property
    def _accept(self) -> str:
        return "application/json" if self._output in ("yaml", "json") else TABLE

    def _read(self, one: Wanted) -> list[tuple[Wanted, Document]]:
        if not one.names:
            path = one.resource.path(self.namespace)
            answers = [self._api.get(path, accept=self._accept, labelSelector=self._selector)]
        else:
            answers = [
                self._api.get(
                    one.resource.path(self.namespace or self._api.namespace, name), accept=self._accept
                )
                for name in one.names
            ]
        self._version = answers[-1].get("metadata", {}).get("resourceVersion", "")
        return [(one, answer) for answer in answers]

    def _dump(self, answers: list[tuple[Wanted, Document]], *, single: bool) -> None:
        write = print_yaml if self._output == "yaml" else print_json
        if single:
            write(answers[0][1])
            return
        items = []
        for one, answer in answers:
            for item in answer.get("items", [answer]):
                items.append({"apiVersion": one.resource.api_version, "kind": one.resource.kind, **item})
        write({"apiVersion": "v1", "kind": "List", "items": items})

    def _print(
        self, one: Wanted, tables: list[Document], *, several: bool, gap: bool, again: bool = False
    ) -> bool:
        rows = [(row, row["object"]["metadata"]) for table in tables for row in table.get("rows", ())]
        if not rows:
            return False
        prefix = f"{one.resource.title}/"
        if self._output == "name":
            for _, meta in rows:
                print(prefix + meta["name"])
            return True
        if gap:
            print()
        definitions = next((t["columnDefinitions"] for t in tables if t.get("columnDefinitions")), None)
        headers, cells = self._columns(definitions, [row for row, _ in rows])
        if several:
            cells = [[prefix + str(row[0]), *row[1:]] for row in cells]
        if self.namespace is None and one.resource.namespaced:
            headers = ["namespace", *headers]
            cells = [[meta.get("namespace"), *row] for row, (_, meta) in zip(cells, rows, strict=True)]
        if again:
            print("   ".join(shown(cell) for cell in cells[0]), flush=True)
        else:
            print_table(headers, cells)
        return True

    def _columns(
        self, definitions: list[Document] | None, rows: list[Document]
    ) -> tuple[list[str], list[list[Any]]]:
        """A watch names its columns only once, so they are remembered."""
        if definitions:
            self._titles = tuple((column["name"], column.get("priority", 0)) for column in definitions)
        kept = [
            index
            for index, (_, priority) in enumerate(self._titles)
            if priority == 0 or self._output == "wide"
        ]
        return [self._titles[index][0] for index in kept], [
            [row["cells"][index] for index in kept] for row in rows
        ]
