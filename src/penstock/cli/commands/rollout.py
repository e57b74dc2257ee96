"""See how a service's newest revision comes on, list its revisions, go back, promote or abort."""

from __future__ import annotations

import time
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
import typer

from penstock.cli.api import Api, connect
from penstock.cli.console import print_table
from penstock.cli.names import of_kind
from penstock.cli.options import Context, Kubeconfig, Namespace
from penstock.decide.evidence import strength
from penstock.decide.progression import rollout_name
from penstock.decide.revision_change import Change, abort, history, promote, undo
from penstock.decide.workload import ComponentName, component_labels, component_of
from penstock.kit.errors import InvalidInput, NotFound
from penstock.resources.meta import Resource
from penstock.resources.rollout import Rollout
from penstock.resources.scheme import kind_of
from penstock.resources.serving import ComponentStatus, InferenceService
from penstock.resources.workload import Deployment

R = TypeVar("R", bound=Resource)
JSON_PATCH, MERGE = "application/json-patch+json", "application/merge-patch+json"
POLL_S = 1.0
ENDED = ("RolledBack", "Paused")
DONE, FAILED = "done", "failed"
Name = Annotated[str, typer.Argument(help="Name of the InferenceService.", show_default=False)]
Part = Annotated[ComponentName, typer.Option("--component", help="predictor, transformer or explainer.")]
Entry = Annotated[
    str, typer.Option("--canary", help="Name of an entry of spec.canary (Standard mode).", show_default=False)
]


def status(
    service: Name,
    component: Part = "predictor",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until the newest revision has everything, or failed.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Who has which share of the traffic, how far the rollout has come, and what speaks against the newest revision.

    With --watch the exit code is 1 if the newest revision failed.
    """
    target = _Target(service, component, namespace, kubeconfig, context)
    said = ""
    while True:
        lines, outcome = target.progress()
        if (text := "\n".join(lines)) != said:
            print(text, flush=True)
            said = text
        if watch and outcome == FAILED:
            raise typer.Exit(1)
        if outcome or not watch:
            return
        time.sleep(POLL_S)


def revisions(
    service: Name,
    component: Part = "predictor",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the revisions that are kept, the oldest first. The annotation kubernetes.io/change-cause says why each is there."""
    target = _Target(service, component, namespace, kubeconfig, context)
    rows = [
        (past.name, f"{past.available}/{past.wished}", f"{past.percent} %", past.created_at, past.cause)
        for past in history(target.service, component, target.deployments())
    ]
    print_table(("revision", "ready", "traffic", "created", "cause"), rows)


def back(
    service: Name,
    to_revision: Annotated[
        str, typer.Option(help="Name or number; default: the one before.", show_default=False)
    ] = "",
    component: Part = "predictor",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write the spec of a kept revision again: its traffic comes when its pods are ready. Scaling stays as it is now."""
    target = _Target(service, component, namespace, kubeconfig, context)
    target.apply(undo(target.service, component, target.deployments(), to_revision))


def onward(
    service: Name,
    canary: Entry = "",
    component: Part = "predictor",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give the newest revision, or a canary of spec.canary, everything."""
    target = _Target(service, component, namespace, kubeconfig, context)
    target.apply(promote(target.service, component, canary))


def stop(
    service: Name,
    canary: Entry = "",
    component: Part = "predictor",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Take the traffic of the newest revision, or of a canary of spec.canary, away."""
    target = _Target(service, component, namespace, kubeconfig, context)
    target.apply(abort(target.service, component, target.deployments(), canary))


ACTIONS = {"status": status, "history": revisions, "undo": back, "promote": onward, "abort": stop}


class _Target:
    """One component of one service, as it is on the server."""

    def __init__(
        self, name: str, component: ComponentName, namespace: str | None, kubeconfig: Any, context: str | None
    ) -> None:
        self._api: Api = connect(kubeconfig, context)
        self._namespace = namespace or self._api.namespace
        self._name, self._component = name, component
        self.service = self._get(InferenceService, name)
        if component_of(self.service, component) is None:
            raise InvalidInput(f"--component: {self._namespace}/{name} has no {component}")

    def deployments(self) -> tuple[Deployment, ...]:
        """Those of its revisions."""
        labels = component_labels(self.service, self._component)
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        path = of_kind(kind_of(Deployment)).path(self._namespace)
        items = self._api.get(path, labelSelector=selector).get("items", ())
        found = (msgspec.convert(item, Deployment) for item in items)
        uid = self.service.metadata.uid
        return tuple(d for d in found if any(owner.uid == uid for owner in d.metadata.owner_references))

    def apply(self, change: Change) -> None:
        """What was decided, or why nothing is. A rollout's override comes first, so that it holds for what the patch brings."""
        if change.refusal:
            raise InvalidInput(change.refusal)
        if change.override is not None:
            action, revision = change.override
            path = of_kind(kind_of(Rollout)).path(self._namespace, rollout_name(self._name, self._component))
            body = {"spec": {"override": {"action": action, "revision": revision}}}
            self._api.send("PATCH", path, body=body, media=MERGE)
        if change.patch:
            path = of_kind(kind_of(InferenceService)).path(self._namespace, self._name)
            self._api.send("PATCH", path, body=change.patch, media=JSON_PATCH)
        print(change.told)

    def progress(self) -> tuple[list[str], str]:
        """Lines to print, and how it ended: "" while something is under way."""
        self.service = self._get(InferenceService, self._name)
        now = self.service.status.components.get(self._component, ComponentStatus())
        shares = ", ".join(f"{t.revision_name} {t.percent or 0} %" for t in now.traffic) or "no traffic yet"
        rollout = self._rollout()
        lines = [shares]
        current = self.service.status.observed_generation == self.service.metadata.generation
        settled = now.latest_created_revision == now.latest_rolledout_revision != ""
        done = DONE if current and settled else ""
        if rollout is not None and rollout.status.phase:
            told = rollout.status
            lines.append(f"{told.phase}: {told.message}")
            lines += [
                f"  {one.gate}: {one.canary_rate:.3g} against {one.stable_rate:.3g}; evidence {strength(one)}"
                for one in told.evidence
            ]
            failed = current and told.canary == now.latest_created_revision and told.phase in ENDED
            return lines, FAILED if failed else done
        if now.latest_created_revision and now.latest_created_revision != now.latest_ready_revision:
            lines.append(f"{now.latest_created_revision} is not ready yet{self._why()}")
        return lines, done

    def _why(self) -> str:
        model = self.service.status.model_status
        failure = model.last_failure_info if model is not None else None
        return f": {failure.message}" if failure is not None else ""

    def _rollout(self) -> Rollout | None:
        try:
            return self._get(Rollout, rollout_name(self._name, self._component))
        except NotFound:
            return None

    def _get(self, kind: type[R], name: str) -> R:
        document = self._api.get(of_kind(kind_of(kind)).path(self._namespace, name))
        return msgspec.json.decode(orjson.dumps(document), type=kind)
