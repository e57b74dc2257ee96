"""The shipped runtimes: valid, complete, and never written over a user's change."""

from __future__ import annotations

import json

import msgspec

from penstock.app.runtimes import SHIPPED, ensure_runtimes, shipped_runtimes
from penstock.resources.runtime import ClusterServingRuntime
from penstock.testing.factories import memory_cluster

NAMES = (
    "cpu",
    "sim",
    "vllm",
    "sglang",
    "tgi",
    "triton",
    "ollama",
    "llama-cpp",
    "huggingface",
    "sklearn",
    "xgboost",
    "lightgbm",
)


def test_all_are_there_with_a_command_a_hint_probes_and_a_port() -> None:
    runtimes = {runtime.metadata.name: runtime for runtime in shipped_runtimes()}
    assert set(runtimes) == {f"penstock-{name}" for name in NAMES}
    for runtime in runtimes.values():
        annotations = runtime.metadata.annotations
        assert json.loads(annotations["penstock.dev/local-command"])
        assert annotations["penstock.dev/install-hint"]
        [container] = runtime.spec.containers
        assert container.name == "kserve-container"
        assert container.ports[0].container_port == 8080
        assert container.startup_probe.http_get.port == container.readiness_probe.http_get.port == 8080


async def test_an_edited_runtime_is_left_alone_and_an_untouched_one_follows_the_new_version() -> None:
    cluster = memory_cluster()
    await ensure_runtimes(cluster)
    there = await cluster.get(ClusterServingRuntime, "penstock-cpu")
    edited = msgspec.structs.replace(there, spec=msgspec.structs.replace(there.spec, disabled=True))
    await cluster.replace(edited)
    older = await cluster.get(ClusterServingRuntime, "penstock-vllm")
    await ensure_runtimes(cluster)
    assert (await cluster.get(ClusterServingRuntime, "penstock-cpu")).spec.disabled
    assert await cluster.get(ClusterServingRuntime, "penstock-vllm") == older
    assert older.metadata.labels[SHIPPED]


async def test_a_runtime_of_an_older_version_that_nobody_edited_is_renewed() -> None:
    cluster = memory_cluster()
    await ensure_runtimes(cluster)
    there = await cluster.get(ClusterServingRuntime, "penstock-vllm")
    from penstock.app.runtimes import _hash

    spec = msgspec.structs.replace(there.spec, protocol_versions=("v1",))
    old = msgspec.structs.replace(there, spec=spec)
    labels = {**there.metadata.labels, SHIPPED: _hash(old)}
    old = msgspec.structs.replace(old, metadata=msgspec.structs.replace(there.metadata, labels=labels))
    await cluster.replace(old)
    await ensure_runtimes(cluster)
    assert (await cluster.get(ClusterServingRuntime, "penstock-vllm")).spec == there.spec
