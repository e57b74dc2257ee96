"""Say why a service is as it is, or why a request went where it went.

Of a service: runtime, revisions, traffic, places, and what keeps it from being ready. Of a request (`penstock explain request ID`): the
endpoint, what was expected of it and what came, and, for requests with the header `x-penstock-explain: true`, what was known of the others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from penstock.cli.api import Api, connect
from penstock.cli.commands.describe import events_about
from penstock.cli.console import print_json, print_table
from penstock.cli.costs import costs, shown
from penstock.cli.decisions import print_rollouts, print_scaling
from penstock.cli.devices import gpus_or_none
from penstock.cli.gateway import Url
from penstock.cli.names import of_kind
from penstock.cli.options import Context, Kubeconfig, Namespace
from penstock.cli.requests import print_record, records_of
from penstock.decide.deployment import replicas_of
from penstock.decide.device_holders import held_gpus
from penstock.decide.plan import ServicePlan, Surroundings, plan_service
from penstock.decide.pod_autoscaler import initialized
from penstock.decide.pod_fit import PodCertificate, certificate_of
from penstock.decide.workload import SERVICE_LABEL
from penstock.gateway.route_record import as_document
from penstock.kit.errors import InvalidInput, NotFound
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.rollout import Rollout
from penstock.resources.runtime import ClusterServingRuntime, ClusterStorageContainer, ServingRuntime
from penstock.resources.scheme import kind_of, resolve
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment

R = TypeVar("R", bound=Resource)
REQUEST = "request"


def run(
    service: Annotated[
        list[str],
        typer.Argument(
            help="Name of an InferenceService (`isvc NAME` and `isvc/NAME` are the same), or `request ID`: the header `x-request-id` of an answer.",
            metavar="[isvc] NAME | request ID",
            show_default=False,
        ),
    ],
    namespace: Namespace = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay", help="Take the recorded decisions again, and say which come out differently."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Of a request: everything as JSON.")] = False,
    url: Url = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Takes the decisions anew from what the cluster holds now, with the code that the control plane runs, and changes nothing.

    The last scaling and rollout decisions are shown as they were recorded: with their reasons, and what else was close. With --replay
    they are taken again from their recorded input; the exit code is 1 if one comes out differently.

    What the fields of a kind mean, `kubectl explain` says.
    """
    if len(service) == 2 and service[0] == REQUEST:
        _explain_request(service[1], url, json=json)
        return
    reader = Reader(connect(kubeconfig, context), namespace)
    subject = _found(reader, service)
    plan = plan_service(subject, reader.surroundings(subject), time.time())
    _print_runtime(plan)
    _print_revisions(subject, plan)
    _print_pods(reader, subject)
    labels = f"{SERVICE_LABEL}={subject.metadata.name}"
    agreed = print_scaling(reader.all(PodAutoscaler, labels), replay=replay)
    own = [
        one
        for one in reader.all(Rollout)
        if any(o.uid == subject.metadata.uid for o in one.metadata.owner_references)
    ]
    agreed = print_rollouts(own, replay=replay) and agreed
    _print_readiness(subject)
    if not agreed:
        raise typer.Exit(1)


def _explain_request(request_id: str, url: str, *, json: bool) -> None:
    """All that had this id, latest first."""
    records = records_of(request_id, url)
    if json:
        print_json([as_document(record) for record in records])
        return
    for place, record in enumerate(records):
        if place:
            print()
        print_record(record)


def _found(reader: Reader, words: list[str]) -> InferenceService:
    try:
        return reader.service(_name(words))
    except NotFound as error:
        if words != [REQUEST]:
            raise
        raise NotFound(error.message, hint="of a request: penstock explain request ID") from None


def _name(words: list[str]) -> str:
    """Of `NAME`, `isvc NAME` or `isvc/NAME`. Raises InvalidInput for anything else."""
    kind, name = words if len(words) == 2 else ("", words[0])
    if len(words) == 1 and "/" in name:
        kind, _, name = name.partition("/")
    if len(words) > 2 or (kind and resolve(kind) is not kind_of(InferenceService)):
        raise InvalidInput(
            f"found {' '.join(words)!r}, expected the name of one InferenceService",
            hint="penstock explain NAME, or penstock explain isvc NAME",
        )
    return name


class Reader:
    """Typed objects from the API, in one namespace."""

    def __init__(self, api: Api, namespace: str | None) -> None:
        self.api = api
        self._namespace = namespace or api.namespace

    def service(self, name: str) -> InferenceService:
        """Raises NotFound."""
        path = of_kind(kind_of(InferenceService)).path(self._namespace, name)
        return msgspec.convert(self.api.get(path), InferenceService)

    def all(self, kind: type[R], labels: str = "") -> tuple[R, ...]:
        """Those in the namespace, or in the cluster for kinds without one."""
        known = kind_of(kind)
        path = of_kind(known).path(self._namespace if known.namespaced else None)
        items = self.api.get(path, labelSelector=labels).get("items", [])
        whole = {"apiVersion": known.api_version, "kind": known.kind}
        return tuple(msgspec.convert({**whole, **item}, kind) for item in items)

    def surroundings(self, service: InferenceService) -> Surroundings:
        """What the decisions need; credentials stay where they are."""
        scalers = self.all(PodAutoscaler, f"{SERVICE_LABEL}={service.metadata.name}")
        return Surroundings(
            gateway_addr=(service.status.url or "http://127.0.0.1:8080").split("/")[2],
            runtimes=self.all(ServingRuntime),
            cluster_runtimes=self.all(ClusterServingRuntime),
            storage_containers=self.all(ClusterStorageContainer),
            deployments=self.all(Deployment, f"{SERVICE_LABEL}={service.metadata.name}"),
            rollouts=self.all(Rollout),
            initialized=initialized(scalers),
            sized_elsewhere=frozenset(scaler.metadata.name for scaler in scalers),
        )


def _print_runtime(plan: ServicePlan) -> None:
    choice = plan.choice
    if choice.runtime is not None:
        print(f"Runtime: {choice.runtime.metadata.name} ({choice.runtime.kind})")
    elif choice.reason:
        print(f"Runtime: none. {choice.reason}: {choice.message}")
    else:
        print("Runtime: none is needed, the service brings its own container")
    if choice.refused:
        print("\nRuntimes that were not taken:")
        print_table(("runtime", "because it"), choice.refused)


def _print_revisions(service: InferenceService, plan: ServicePlan) -> None:
    rows = []
    for part in plan.components:
        shares = {
            target.revision_name: target.percent or 0
            for target in (service.status.components.get(part.name) or part.rollout.status).traffic
        }
        for deployment in part.deployments:
            name, status = deployment.metadata.name, deployment.status
            ready = f"{status.ready_replicas or 0}/{replicas_of(deployment)}"
            rows.append((part.name, name, f"{shares.get(name, 0)} %", ready))
    print("\nRevisions:" + ("" if rows else " none"))
    if rows:
        print_table(("component", "revision", "traffic", "ready pods"), rows)
    reasons = [f"{part.name}: {reason}" for part in plan.components for reason in part.rollout.reasons]
    reasons += [f"{part.name}: {part.workload.failure}" for part in plan.components if part.workload.failure]
    print(
        "\nTo do now: " + ("; ".join(reasons) if reasons else "nothing, what is there is what is asked for")
    )


def _print_pods(reader: Reader, service: InferenceService) -> None:
    pods = reader.all(Pod, f"{SERVICE_LABEL}={service.metadata.name}")
    print("\nPods:" + ("" if pods else " none"))
    if pods:
        prices = costs(reader.api, pods)
        holds = held_gpus(gpus_or_none(reader.api), pods)
        has_prices = any(quote.usd_micros is not None for quote in prices.values())
        rows = [
            (
                pod.metadata.name,
                pod.status.phase,
                pod.spec.node_name or "-",
                *((holds.get(f"{pod.metadata.namespace}/{pod.metadata.name}", "-"),) if holds else ()),
                *((shown(prices.get(pod.metadata.uid)),) if has_prices else ()),
                _why(reader, pod),
            )
            for pod in pods
        ]
        known = (*(("gpus",) if holds else ()), *(("cost",) if has_prices else ()))
        print_table(("pod", "phase", "node", *known, "why there"), rows)
        _print_fits(pods)


def _print_fits(pods: Sequence[Pod]) -> None:
    """What the placements stand on, where that is known; pods that stand on the same are one line."""
    fits: dict[PodCertificate, list[str]] = {}
    for pod in pods:
        if (certificate := certificate_of(pod)) is not None:
            fits.setdefault(certificate, []).append(pod.metadata.name)
    if fits:
        print("\nMemory of each GPU:")
        for certificate, names in fits.items():
            print(f"  {', '.join(names)}: {certificate.model} fits: {certificate.inequality}")
            print(f"  {certificate.accuracy}")


def _why(reader: Reader, pod: Pod) -> str:
    waiting = next(
        (c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"), None
    )
    if waiting is not None:
        return waiting.message
    document: dict[str, Any] = {"metadata": msgspec.to_builtins(pod.metadata)}
    placed = [event for event in events_about(reader.api, document) if event.get("reason") == "Scheduled"]
    return placed[-1].get("message", "") if placed else "the Event that said so is gone"


def _print_readiness(service: InferenceService) -> None:
    not_ready = [c for c in service.status.conditions if c.status != "True"]
    ready = any(c.type == "Ready" and c.status == "True" for c in service.status.conditions)
    print("\nReady: " + ("yes" if ready else "no"))
    rows = [(c.type, c.status, c.reason, c.message) for c in not_ready if c.message or c.reason]
    if rows and not ready:
        print_table(("condition", "status", "reason", "message"), rows)
