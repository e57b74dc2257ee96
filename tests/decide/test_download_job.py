"""Jobs that bring models: when they begin, when they are tried again, and where they run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.contracts.node_caches import ROOM
from penstock.decide.download_job import (
    ATTEMPT,
    FIRST_WAIT_S,
    JOB_NAMESPACE,
    LAST_WAIT_S,
    Step,
    download_job,
    is_turn,
    job_name,
    next_step,
)
from penstock.kit.timestamps import rfc3339
from penstock.resources.caching import LocalModelInfo, LocalModelNode
from penstock.resources.workload import Job

NOW = 1_800_000_000.0
M = LocalModelInfo(source_model_uri="hf://o/m", model_name="m", node_group="a")


def node(name: str = "n1", *infos: LocalModelInfo, **states: str) -> LocalModelNode:
    document = {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {"localModels": msgspec.to_builtins(infos)},
        "status": {"modelStatus": states},
    }
    return msgspec.convert(document, LocalModelNode)


def job(attempt: int = 1, ended: str = "", at: float = NOW, active: int = 0) -> Job:
    status: dict[str, Any] = {"active": active}
    if ended:
        status["conditions"] = [{"type": ended, "status": "True", "lastTransitionTime": rfc3339(at)}]
    document = {"metadata": {"name": "j", "labels": {ATTEMPT: str(attempt)}}, "spec": {}, "status": status}
    return msgspec.convert(document, Job)


def test_what_the_disk_says_goes_before_what_any_job_says() -> None:
    for one in (None, job(), job(ended="Failed"), job(ended="Complete")):
        assert next_step(one, is_ready=True, now=NOW) == Step("ModelDownloaded")


def test_a_first_job_begins_when_it_is_the_nodes_turn() -> None:
    assert next_step(None, is_ready=False, now=NOW).starts == 1
    waits = next_step(None, is_ready=False, now=NOW, turn=False)
    assert (waits.state, waits.starts) == ("ModelDownloadPending", 0)
    assert waits.again_s


def test_a_job_is_pending_until_its_pod_runs() -> None:
    assert next_step(job(), is_ready=False, now=NOW).state == "ModelDownloadPending"
    assert next_step(job(active=1), is_ready=False, now=NOW).state == "ModelDownloading"


@pytest.mark.parametrize("attempt", range(1, 12))
def test_a_failed_job_is_replaced_after_a_wait_that_doubles_up_to_a_bound(attempt: int) -> None:
    wait_s = min(LAST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
    early = next_step(job(attempt, "Failed"), is_ready=False, now=NOW + wait_s - 1)
    assert (early.state, early.starts) == ("ModelDownloadError", 0)
    assert early.again_s == pytest.approx(1.0)
    late = next_step(job(attempt, "Failed"), is_ready=False, now=NOW + wait_s)
    assert (late.state, late.starts) == ("ModelDownloadError", attempt + 1)


def test_a_model_that_vanished_is_brought_again_and_never_in_a_loop_without_waits() -> None:
    just_now = next_step(job(3, "Complete"), is_ready=False, now=NOW)
    assert (just_now.state, just_now.starts) == ("ModelDownloadPending", 0)
    later = next_step(job(3, "Complete"), is_ready=False, now=NOW + LAST_WAIT_S)
    assert later.starts == 4


def test_one_of_the_nodes_that_share_begins_and_others_when_it_has_the_model_or_failed() -> None:
    holds = (node("n1", M), node("n2", M))
    assert is_turn("n1", M.source_model_uri, holds, ("n1", "n2"))
    assert not is_turn("n2", M.source_model_uri, holds, ("n1", "n2"))
    assert is_turn("n2", M.source_model_uri, holds, ("n2",)), "the first one runs no pods"
    for state in ("ModelDownloadError", "ModelDownloaded"):
        holds = (node("n1", M, m=state), node("n2", M))
        assert is_turn("n2", M.source_model_uri, holds, ("n1", "n2"))


def test_a_job_is_kept_to_its_node_whatever_taints_that_has_and_told_how_much_room_there_is() -> None:
    made = download_job(node(), M, 2, room_bytes=1000)
    pod = made.spec.template.spec
    assert made.metadata.namespace == JOB_NAMESPACE
    assert made.metadata.owner_references[0].uid == "uid-n1"
    assert pod.node_selector == {"kubernetes.io/hostname": "n1"}
    assert (pod.restart_policy, made.spec.backoff_limit) == ("Never", 0)
    assert pod.tolerations[0].operator == "Exists"
    assert {env.name: env.value for env in pod.containers[0].env} == {ROOM: "1000"}


def test_entries_with_one_address_share_a_job_and_a_namespaces_own_runs_where_its_secrets_are() -> None:
    own = msgspec.structs.replace(M, model_name="other", namespace="team")
    assert job_name("n1", own) == job_name("n1", M)
    assert job_name("n2", M) != job_name("n1", M)
    assert download_job(node(), own, 1).metadata.namespace == "team"
