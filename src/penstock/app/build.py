"""Constructs the control plane of one machine: the store, the API, the caches and every controller, tied together.

The only place that knows them all by class. Nothing runs until `ControlPlane.run`.
"""

from __future__ import annotations

import asyncio
import os

import psutil
from starlette.applications import Starlette

from penstock import __version__
from penstock.app.declared_nodes import node_template
from penstock.app.gpu_types import load_gpu_types
from penstock.app.home import Home
from penstock.app.local_files import at_once
from penstock.app.model_headers import read_headers
from penstock.app.prices import load_prices
from penstock.app.registry import trigger_plugin
from penstock.app.settings import Settings
from penstock.contracts.controller import Controller
from penstock.controlplane.autoscaling.applying import Applier
from penstock.controlplane.autoscaling.loop import Autoscaler
from penstock.controlplane.controllers.api_keys import ApiKeyController
from penstock.controlplane.controllers.cache_gate import CacheGateController
from penstock.controlplane.controllers.inference_service import InferenceServiceController
from penstock.controlplane.controllers.llm_inference_service import LLMInferenceServiceController
from penstock.controlplane.controllers.local_model_node import LocalModelNodeController
from penstock.controlplane.controllers.model_cache import ModelCacheController
from penstock.controlplane.controllers.references import ObjectiveController, RoutingProfileController
from penstock.controlplane.controllers.rollout import RolloutController
from penstock.controlplane.events import EventRecorder
from penstock.controlplane.feed import Feed
from penstock.controlplane.informer import InformerCache
from penstock.controlplane.manager import Manager
from penstock.controlplane.routes import RouteController
from penstock.controlplane.service_demand import demand_reader, stream_reader
from penstock.controlplane.starts import Starts
from penstock.decide.move_budget import Limits
from penstock.decide.routing_profile import Platform
from penstock.host.api.app import build_api
from penstock.host.checkpoints import CheckpointController
from penstock.host.claims import ClaimController
from penstock.host.cluster import EmbeddedCluster
from penstock.host.defragmentation import DefragmentationController, Rule
from penstock.host.deployments import DeploymentController
from penstock.host.device_book import DeviceBook
from penstock.host.device_eviction import DeviceEvictionController
from penstock.host.fit_book import FitBook
from penstock.host.fit_learning import FitLearner
from penstock.host.fit_store import Observations
from penstock.host.garbage import GarbageCollector
from penstock.host.gpu_faults import GpuFaults
from penstock.host.gpu_readings import read_gpus
from penstock.host.gpus import discover_gpus
from penstock.host.hpa import HpaController
from penstock.host.jobs import JobController
from penstock.host.kubelet.devices import known_gpus
from penstock.host.kubelet.kubelet import Kubelet
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.logs import PodLogs
from penstock.host.load_times import LoadTimes
from penstock.host.metrics.dcgm import DeviceMetrics
from penstock.host.metrics.gpus import Nvml
from penstock.host.metrics.objects import ObjectMetrics, PodMetrics, ServiceMetrics
from penstock.host.metrics.readings import MetricReader
from penstock.host.metrics.sampler import UsageSampler, reading_processes
from penstock.host.mig_layouts import MigLayoutController
from penstock.host.model_shapes import ModelShapes
from penstock.host.mps import MpsDaemon
from penstock.host.namespaces import NamespaceController
from penstock.host.node_caches import HostCaches
from penstock.host.node_devices import NodeDevices
from penstock.host.node_loss import NodeLossController
from penstock.host.nodes import NodeController, this_machine
from penstock.host.objects import ObjectStore
from penstock.host.peer_server import PeerServer
from penstock.host.placement import PlacementController
from penstock.host.preemption import PreemptionController
from penstock.host.replicasets import ReplicaSetController
from penstock.host.resource_claims import ResourceClaimController
from penstock.host.scaled_object import ScaledObjectController
from penstock.host.store import Store
from penstock.host.vpa import VpaController
from penstock.host.weights import WeightKeeper
from penstock.kit.clock import Clock


class ControlPlane:
    """Every part of one machine's control plane, wired."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Opens the store. Raises Unavailable if it cannot be used."""
        home = Home(settings.home)
        self.objects = ObjectStore(Store(home.store), clock)
        self.cluster = EmbeddedCluster(self.objects)
        self.cache = InformerCache(self.cluster, clock)
        self.recorder = EventRecorder(self.cluster, clock)
        self.feed = Feed(clock)
        templates = [this_machine(), *map(node_template, settings.nodes)]
        self.mps = MpsDaemon(
            self.cache,
            self.recorder.named("mps"),
            clock,
            node=templates[0].name,
            folder=Layout(home.path).mps(templates[0].name),
            gpus=known_gpus(self.cache, load_gpu_types()),
        )
        self.nodes = NodeController(
            self.cluster,
            self.cache,
            self.recorder.named("nodes"),
            clock,
            home=home.path,
            nodes=templates,
            devices=self._devices(settings, clock, templates[0].name),
        )
        self.kubelet = Kubelet(
            self.cluster,
            self.cache,
            self.recorder.named("kubelet"),
            clock,
            home=home.path,
            nodes=frozenset(template.name for template in templates),
            at_once=at_once,
            gpu_types=load_gpu_types(),
        )
        self.usages = UsageSampler(
            self.cache, clock, layout=Layout(home.path), read=reading_processes(Nvml())
        )
        names = frozenset(template.name for template in templates)
        self.model_caches = HostCaches(Layout(home.path), names, clock)
        beyond = settings.model_peers
        self.peers = PeerServer(Layout(home.path), names, opening=beyond.opening(), others=beyond.peers())
        self.weights = WeightKeeper(self.cluster, self.cache, layout=Layout(home.path))
        self.shapes = ModelShapes(
            lambda model: read_headers(model, os.environ).shape, home.model_shapes, clock
        )
        self.observations = Observations(home.fit_observations)
        controllers = self._controllers(settings, clock, Layout(home.path))
        autoscaler = self._autoscaler(clock)
        self.manager = Manager(
            controllers, cache=self.cache, recorder=self.recorder, beside={"autoscaler": autoscaler.run}
        )
        self.logs = PodLogs(home.path, clock)

    def _devices(self, settings: Settings, clock: Clock, local: str) -> NodeDevices:
        namespace, _, name = settings.device_plugin_config.partition("/")
        types = load_gpu_types()
        return NodeDevices(
            self.cluster,
            self.cache,
            self.recorder.named("nodes"),
            clock,
            types=types,
            local=local,
            discover=lambda: discover_gpus(types),
            faults=GpuFaults((self.mps,)),
            plugin_config=(namespace, name),
            started_at=psutil.boot_time(),
        )

    def _controllers(self, settings: Settings, clock: Clock, layout: Layout) -> list[Controller]:
        cluster, cache, named = self.cluster, self.cache, self.recorder.named
        demand = demand_reader(self.feed, cache)
        self.scaled_objects = ScaledObjectController(
            cluster, cache, named("keda-operator"), clock, plugin=trigger_plugin, demand=demand
        )
        objects: dict[str, ObjectMetrics] = {
            "InferenceService": ServiceMetrics(demand),
            "Pod": PodMetrics(cache),
        }
        metrics = MetricReader(clock, self.usages, self.scaled_objects, objects)
        rollouts = RolloutController(cluster, cache, named("rollout"), clock)
        self.feed.subscribe(rollouts.hear)
        return [
            InferenceServiceController(
                cluster, cache, named("inference-service"), clock, gateway_addr=settings.gateway_addr
            ),
            LLMInferenceServiceController(
                cluster, cache, named("llm-inference-service"), clock, gateway_addr=settings.gateway_addr
            ),
            RouteController(
                cache,
                self.feed,
                clock,
                Platform(settings.enable_kv_aware_routing, settings.prompt_token_threshold),
            ),
            rollouts,
            self.usages,
            self.scaled_objects,
            HpaController(cluster, cache, named("horizontal-pod-autoscaler"), clock, metrics=metrics),
            VpaController(cluster, cache, named("vertical-pod-autoscaler"), clock, usages=self.usages),
            ApiKeyController(cluster, cache, named("api-keys"), clock),
            ObjectiveController(cluster, cache, named("inference-objectives"), clock),
            RoutingProfileController(cache, named("routing-profiles")),
            DeploymentController(cluster, cache, named("deployment-controller"), clock),
            ReplicaSetController(cluster, cache, named("replicaset-controller"), clock),
            JobController(cluster, cache, named("job-controller"), clock),
            ModelCacheController(cluster, cache, named("model-cache"), clock),
            LocalModelNodeController(
                cluster, cache, named("local-model-node"), clock, caches=self.model_caches
            ),
            CacheGateController(cluster, cache, named("cache-gate"), clock),
            self.weights,
            ClaimController(cluster, cache, named("claims"), volumes=layout.home / "volumes"),
            *self._placing(settings, clock, layout),
            self.mps,
            GarbageCollector(self.objects),
            NamespaceController(self.objects),
            self.nodes,
            self.kubelet,
        ]

    def _placing(self, settings: Settings, clock: Clock, layout: Layout) -> list[Controller]:
        """Who gives pods nodes and devices, makes room for them, and takes them off what failed."""
        cluster, cache, named = self.cluster, self.cache, self.recorder.named
        types, prices = load_gpu_types(), load_prices(Home(settings.home).prices)
        fits = FitBook(self.shapes, self.observations, named("placement"))
        return [
            PlacementController(
                cluster,
                cache,
                named("placement"),
                clock,
                gpu_types=types,
                prices=prices,
                loads=LoadTimes(cache, clock, layout=layout, nodes=self.model_caches.nodes),
                fits=fits,
            ),
            PreemptionController(
                cluster,
                cache,
                named("preemption"),
                clock,
                layout=layout,
                gpu_types=types,
                prices=prices,
                fits=fits,
            ),
            FitLearner(
                cache,
                named("fit-learning"),
                clock,
                layout=layout,
                shapes=self.shapes,
                observations=self.observations,
                gpu_types=types,
            ),
            CheckpointController(cluster, cache, named("checkpoints"), layout=layout),
            ResourceClaimController(cluster, cache, clock),
            self._defragmentation(settings, clock, fits),
            MigLayoutController(
                cluster,
                cache,
                named("mig-layouts"),
                clock,
                declared=[node.name for node in settings.nodes],
                gpu_types=types,
            ),
            DeviceEvictionController(cluster, cache, named("device-eviction"), clock, types=types),
            NodeLossController(cluster, cache, named("node-loss"), clock),
        ]

    def _defragmentation(self, settings: Settings, clock: Clock, fits: FitBook) -> DefragmentationController:
        return DefragmentationController(
            self.cluster,
            self.cache,
            self.recorder.named("defragmentation"),
            clock,
            rule=Rule(
                settings.defragment,
                Limits(
                    moves=settings.defragment_moves_per_hour,
                    gpu_seconds=settings.defragment_gpu_seconds_per_hour,
                ),
            ),
            streams=stream_reader(self.feed),
            gpu_types=load_gpu_types(),
            fits=fits,
        )

    def _autoscaler(self, clock: Clock) -> Autoscaler:
        starts = Starts(clock)
        nodes = DeviceBook(self.cache, load_gpu_types())
        applier = Applier(self.cluster, self.cache, self.recorder.named("autoscaler"), clock, starts, nodes)
        return Autoscaler(self.cache, self.feed, applier, starts, clock)

    def api(self, token: str, pepper: bytes) -> Starlette:
        """The ASGI application that serves the objects; `pepper` keys the hashes of API keys."""
        return build_api(
            self.objects,
            token=token,
            pepper=pepper,
            version=__version__,
            logs=self.logs,
            usages=self.usages,
            devices=DeviceMetrics(self.cache, load_gpu_types(), read_gpus).exposition,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Reconcile until `stop`; nodes are there before the first pod asks for one."""
        await self.nodes.register()
        self.peers.start()
        try:
            await self.manager.run(stop)
        finally:
            await self.scaled_objects.close()

    def close(self) -> None:
        """Let go of files, and of the store, last of all."""
        self.peers.close()
        self.weights.close()
        self.shapes.close()
        self.objects.store.close()
