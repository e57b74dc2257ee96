"""Show what the containers of a service or pod have written; -f follows."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from penstock.cli.api import Api, connect
from penstock.cli.names import of_kind
from penstock.cli.options import Context, Kubeconfig, Namespace
from penstock.decide.workload import SERVICE_LABEL
from penstock.kit.errors import InvalidInput, NotFound, PlatformError
from penstock.resources.pod import Pod
from penstock.resources.scheme import kind_of, resolve
from penstock.resources.serving import InferenceService

MAX_WAITING_LINES = 1000


def run(
    name: Annotated[
        str, typer.Argument(help="An InferenceService's name, or pod/NAME, deploy/NAME", show_default=False)
    ],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    container: Annotated[
        str, typer.Option("--container", "-c", help="Default: the main one.", show_default=False)
    ] = "",
    tail: Annotated[int | None, typer.Option(help="Only the last lines.", show_default=False)] = None,
    since: Annotated[int | None, typer.Option(help="Only the last seconds.", show_default=False)] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="When each line was written.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the run before the last restart.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """With several pods, each line starts with the pod's name."""
    api = connect(kubeconfig, context)
    place = namespace or api.namespace
    pods = pods_of(api, name, place)
    query = {
        "container": container,
        "follow": "true" if follow else "",
        "tailLines": "" if tail is None else str(tail),
        "sinceSeconds": "" if since is None else str(since),
        "timestamps": "true" if timestamps else "",
        "previous": "true" if previous else "",
    }
    paths = {pod: of_kind(kind_of(Pod)).path(place, pod, "log") for pod in pods}
    if len(pods) == 1:
        _write(api.lines(paths[pods[0]], accept="*/*", **query))
    else:
        _write(_merged(api, paths, query))


def pods_of(api: Api, name: str, namespace: str) -> list[str]:
    """The pods that `SERVICE`, `pod/NAME` or another owner's `TYPE/NAME` means. Raises NotFound."""
    word, slash, rest = name.partition("/")
    kind = resolve(word) if slash else kind_of(InferenceService)
    if kind is None:
        raise InvalidInput(f"found {name!r}, expected a service's name, pod/NAME or deploy/NAME")
    target = rest if slash else name
    if kind.type is Pod:
        return [target]
    owner = api.get(of_kind(kind).path(namespace, target))
    if kind.type is InferenceService:
        labels = f"{SERVICE_LABEL}={target}"
    else:
        matched = (owner["spec"].get("selector") or {}).get("matchLabels") or {"job-name": target}
        labels = ",".join(f"{label}={value}" for label, value in matched.items())
    items = api.get(of_kind(kind_of(Pod)).path(namespace), labelSelector=labels).get("items", [])
    if not items:
        raise NotFound(
            f"{kind.singular} {target!r} has no pods",
            hint=f"`penstock describe {kind.singular} {target}` says why",
        )
    return [item["metadata"]["name"] for item in items]


def _merged(api: Api, paths: dict[str, str], query: dict[str, str]) -> Iterator[bytes]:
    """Lines of all pods as they come; a reader waits while nobody takes them."""
    waiting: queue.Queue[bytes | PlatformError | None] = queue.Queue(MAX_WAITING_LINES)

    def read(pod: str, path: str) -> None:
        try:
            for line in api.lines(path, accept="*/*", **query):
                waiting.put(f"[{pod}] ".encode() + line)
        except PlatformError as error:
            waiting.put(f"[{pod}] ({error.message})".encode())
        finally:
            waiting.put(None)

    for pod, path in paths.items():
        threading.Thread(target=read, args=(pod, path), daemon=True).start()
    left = len(paths)
    while left:
        item = waiting.get()
        if isinstance(item, bytes):
            yield item
        else:
            left -= 1


def _write(lines: Iterator[bytes]) -> None:
    for line in lines:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()
