"""A pod's READY, STATUS and RESTARTS, as kubectl shows them."""

from __future__ import annotations

from typing import Any

from penstock.host.api.durations import human_duration
from penstock.host.metadata import Document
from penstock.kit.timestamps import parse_rfc3339


def pod_ready(document: Document, now_s: float) -> str:
    """Ready containers of all."""
    statuses = _statuses(document, "containerStatuses")
    total = len((document.get("spec") or {}).get("containers") or ())
    return f"{sum(bool(status.get('ready')) for status in statuses)}/{total}"


def pod_status(document: Document, now_s: float) -> str:
    """What keeps the pod from running, or its phase."""
    status = document.get("status") or {}
    if "deletionTimestamp" in document["metadata"]:
        return "Terminating"
    reason = str(status.get("reason") or status.get("phase") or "Unknown")
    return _init_reason(document) or _container_reason(document) or reason


def pod_age_of_restart(document: Document, now_s: float) -> str:
    """How often containers were restarted, and when last."""
    statuses = [*_statuses(document, "initContainerStatuses"), *_statuses(document, "containerStatuses")]
    restarts = sum(status.get("restartCount", 0) for status in statuses)
    ends = [
        parse_rfc3339(end)
        for status in statuses
        if (end := ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
    ]
    return f"{restarts} ({human_duration(now_s - max(ends))} ago)" if restarts and ends else str(restarts)


def _statuses(document: Document, field: str) -> list[dict[str, Any]]:
    return list((document.get("status") or {}).get(field) or ())


def _init_reason(document: Document) -> str:
    """Why the pod is still initialising, "" when it is not."""
    specs = (document.get("spec") or {}).get("initContainers") or ()
    sidecars = {spec.get("name") for spec in specs if spec.get("restartPolicy") == "Always"}
    for index, status in enumerate(_statuses(document, "initContainerStatuses")):
        state = status.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if ended and ended.get("exitCode") == 0:
            continue
        if status.get("name") in sidecars and status.get("started"):
            continue
        if ended:
            return f"Init:{_ended(ended)}"
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(specs)}"
    return ""


def _container_reason(document: Document) -> str:
    """The first container's trouble; Running or NotReady when some have ended and others run; "" when there is nothing to say."""
    found, running = "", False
    for status in reversed(_statuses(document, "containerStatuses")):
        state = status.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if waiting and waiting.get("reason"):
            found = str(waiting["reason"])
        elif ended:
            found = _ended(ended)
        elif status.get("ready") and state.get("running") is not None:
            running = True
    if found == "Completed" and running:
        return "Running" if _is_ready(document) else "NotReady"
    return found


def _is_ready(document: Document) -> bool:
    conditions = (document.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _ended(terminated: dict[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"
