"""Pods are placed where their models fit, and their placements keep the certificate; what engines say afterwards is learned."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.controller import key_of
from penstock.contracts.devices import MEMORY_ANNOTATION, Gpu
from penstock.decide.device_slices import slices_of
from penstock.decide.inventory import shares_of
from penstock.decide.model_config import shape_of
from penstock.decide.model_shape import ModelShape
from penstock.decide.model_size import weights_of
from penstock.decide.pod_fit import CERTIFICATE_ANNOTATION, FIT_ANNOTATION, certificate_of
from penstock.host.fit_book import FitBook
from penstock.host.fit_learning import FitLearner
from penstock.host.fit_store import Observations
from penstock.host.kubelet.command import command_of
from penstock.host.kubelet.layout import Layout
from penstock.host.model_shapes import ModelShapes
from penstock.host.placement import PlacementController
from penstock.kit.errors import NotFound
from penstock.resources.core import Event, Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, ContainerStatus, Pod, PodSpec, ResourceRequirements
from penstock.testing.world import World, condition

pytestmark = pytest.mark.looptime
MODELS = json.loads((Path(__file__).parents[2] / "benchmarks" / "fit" / "models.json").read_text())
CONFIG = next(model["config"] for model in MODELS if model["name"] == "Llama-3-8B")
LLAMA = replace(shape_of(CONFIG), weights=weights_of(CONFIG))
KINDS = {"h": "h100-80gb", "l": "l4"}
LOG = """\
2026-11-22T01:00:00.000000000Z stdout F INFO 11-22 [api_server.py:100] vLLM API server version 0.20.0
2026-11-22T01:00:00.000000000Z stdout F INFO 11-22 non-default args: {'model': '/mnt/models', 'max_num_seqs': 64}
2026-11-22T01:00:00.000000000Z stdout F INFO 11-22 [scheduler.py:239] Chunked prefill is enabled with max_num_batched_tokens=8192.
2026-11-22T01:00:01.000000000Z stdout F INFO 11-22 [gpu_model_runner.py:407] Model loading took 15.10 GiB memory and 3.2 seconds
2026-11-22T01:00:02.000000000Z stdout F INFO 11-22 [gpu_worker.py:391] Free memory on device (78.66/79.19 GiB) on startup. Desired GPU memory \
utilization is (0.9, 71.27 GiB). Actual usage is 15.1 GiB for weight, 1.0 GiB for peak activation, 0.07 GiB for non-torch memory, and 0.65 GiB for CUDAGraph memory.
"""


def read(model: str) -> ModelShape:
    if model.endswith("/llama"):
        return LLAMA
    raise NotFound("there is no such model")


class Fleet(World):
    """Node `h` with an H100, `l` with an L4."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.observations = Observations(folder / "observations.jsonl")
        super().__init__(self._placement)
        self.kubelet.places = False

    def _placement(self, world: World) -> PlacementController:
        self.shapes = ModelShapes(read, self.folder / "shapes.json", world.clock)
        fits = FitBook(self.shapes, self.observations, world.recorder.named("placement"))
        parts = (world.cluster, world.cache, world.recorder.named("placement"), world.clock)
        return PlacementController(*parts, gpu_types=load_gpu_types(), fits=fits)

    async def make(self, *names: str) -> None:
        for name in names:
            gpus = (Gpu(index=0, uuid=f"GPU-{name}", type=find_gpu_type(KINDS[name])),)
            amounts = {"cpu": "16", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "1"}
            status = NodeStatus(allocatable=amounts, conditions=(Condition(type="Ready", status="True"),))
            await self.cluster.create(Node(metadata=ObjectMeta(name=name), status=status))
            for one in slices_of(name, gpus):
                await self.cluster.create(one)

    async def pod(self, name: str, *args: str, model: str = "hf://o/llama", **annotations: Any) -> Pod:
        """A pod that was given a while to find a place."""
        limits = {} if MEMORY_ANNOTATION in annotations else {"nvidia.com/gpu": "1"}
        main = Container(
            name="main", image="x", command=("vllm", "serve"), args=("--model=/mnt/models", *args),
            resources=ResourceRequirements(limits=limits),
        )  # fmt: skip
        bringer = Container(name="storage-initializer", image="x", args=(model, "/mnt/models"))
        meta = ObjectMeta(name=name, namespace="default", annotations=annotations)
        await self.cluster.create(
            Pod(metadata=meta, spec=PodSpec(containers=(main,), init_containers=(bringer,)))
        )
        for _ in range(100):
            await asyncio.sleep(0.02)
            found = await self.cluster.get(Pod, name, "default")
            waits = [one.message for one in found.status.conditions if one.type == "PodScheduled"]
            if found.spec.node_name or (waits and "being read" not in waits[0]):
                return found
        return found

    async def events(self, reason: str) -> list[str]:
        await asyncio.sleep(0.2)
        return [one.message for one in (await self.cluster.list(Event)).items if one.reason == reason]


async def test_a_long_context_goes_to_the_gpu_that_has_room_and_keeps_its_certificate(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.make("h", "l")
        pod = await fleet.pod("p", "--max-model-len=65536")
        assert pod.spec.node_name == "h"
        certificate = certificate_of(pod)
        assert (
            certificate is not None and certificate.gpu == "h100-80gb" and certificate.model == "hf://o/llama"
        )
        assert certificate.need_bytes <= certificate.usable_bytes


async def test_what_fits_nowhere_is_not_started_and_says_what_would_help(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.make("l")
        pod = await fleet.pod("p", "--max-model-len=65536")
        assert not pod.spec.node_name
        message = condition(pod, "PodScheduled").message
        assert "hf://o/llama does not fit: 14.96 weights" in message and "shorten the context to" in message
        forced = await fleet.pod("q", "--max-model-len=65536", **{FIT_ANNOTATION: "ignore"})
        assert forced.spec.node_name == "l" and CERTIFICATE_ANNOTATION not in forced.metadata.annotations


async def test_a_model_that_cannot_be_read_is_placed_without_an_opinion_that_is_said_once(
    tmp_path: Path,
) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.make("l")
        pod = await fleet.pod("p", model="hf://o/unknown")
        assert pod.spec.node_name == "l" and CERTIFICATE_ANNOTATION not in pod.metadata.annotations
        assert await fleet.events("FitUnknown") == [
            "Whether hf://o/unknown fits is not known: there is no such model"
        ]


async def test_auto_takes_the_part_of_a_gpu_that_the_model_needs_and_the_engine_is_told(
    tmp_path: Path,
) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.make("h")
        auto = {MEMORY_ANNOTATION: "auto"}
        pods = [
            await fleet.pod(f"p{i}", "--max-model-len=4096", "--max-num-seqs=8", **auto) for i in range(3)
        ]
        assert [pod.spec.node_name for pod in pods] == ["h", "h", "h"]
        (share,) = shares_of(pods[0])
        certificate = certificate_of(pods[0])
        assert certificate is not None and certificate.footprint_bytes <= share.memory_bytes < 22 << 30
        words = command_of(pods[0], pods[0].spec.containers[0])
        assert words[-2:] == certificate.arguments
        assert words[-1] == f"--kv-cache-memory-bytes={4 << 30}"
        late = await fleet.pod("late", "--max-model-len=4096", "--max-num-seqs=8", **auto)
        assert "GPU memory" in condition(late, "PodScheduled").message
        lost = await fleet.pod("lost", model="hf://o/unknown", **auto)
        assert "give a quantity such as 20Gi" in condition(lost, "PodScheduled").message


def learner(fleet: Fleet) -> FitLearner:
    return FitLearner(
        fleet.cache, fleet.recorder.named("fit-learning"), fleet.clock, layout=Layout(fleet.folder),
        shapes=fleet.shapes, observations=fleet.observations, gpu_types=load_gpu_types(),
    )  # fmt: skip


async def ready(fleet: Fleet, pod: Pod, restarts: int = 0) -> Pod:
    statuses = (ContainerStatus(name="main", image="x", image_id="", ready=True, restart_count=restarts),)
    fresh = await fleet.cluster.get(Pod, pod.metadata.name, "default")
    written = await fleet.cluster.replace(
        replace(fresh, status=replace(fresh.status, container_statuses=statuses)), subresource="status"
    )
    await asyncio.sleep(0.1)
    return written


async def test_a_start_teaches_once_and_the_next_placement_says_so(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.make("h")
        pod = await fleet.pod("p", "--max-model-len=8192", "--max-num-seqs=64")
        attempt = Layout(tmp_path).pod("h", pod.metadata.uid).container("main") / "0"
        attempt.mkdir(parents=True)
        (attempt / "log").write_text(LOG)
        first = learner(fleet)
        assert await first.reconcile(key_of(pod)) is None and fleet.observations.read() == ()  # not ready yet
        await ready(fleet, pod)
        for one in (first, first, learner(fleet)):  # again, and after a restart of the platform
            assert await one.reconcile(key_of(pod)) is None
        (seen,) = fleet.observations.read()
        assert (seen.model, seen.version, seen.gpu) == ("hf://o/llama", "0.20.0", "h100-80gb")
        assert abs(seen.observed_bytes / 2**30 - (15.1 + 1.0 + 0.07 + 0.65)) < 0.001
        assert abs(seen.ratio - 1.0) < 0.03
        assert any(
            "Beside its KV cache the engine took 16.82 GiB" in one for one in await fleet.events("FitLearned")
        )
        await ready(fleet, pod, restarts=1)
        await first.reconcile(key_of(pod))
        assert len(fleet.observations.read()) == 2
        await fleet.cluster.delete(Pod, "p", "default", grace_period_s=0)
        await asyncio.sleep(0.2)
        certificate = certificate_of(await fleet.pod("q", "--max-model-len=8192"))
        assert certificate is not None and "learned from 2 runs (this model with vllm" in certificate.accuracy


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last):", LOG.split("Free memory")[0]])
async def test_a_log_that_says_too_little_teaches_nothing(tmp_path: Path, text: str) -> None:
    async with Fleet(tmp_path) as fleet:
        await fleet.make("h")
        pod = await fleet.pod("p", "--max-model-len=8192")
        attempt = Layout(tmp_path).pod("h", pod.metadata.uid).container("main") / "0"
        attempt.mkdir(parents=True)
        (attempt / "log").write_text(text)
        await ready(fleet, pod)
        assert await learner(fleet).reconcile(key_of(pod)) is None
        assert fleet.observations.read() == ()
