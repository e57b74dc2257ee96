"""The node's side of model caches: Jobs bring what the LocalModelNode names, what it no longer names goes, and it says how far that is."""

from __future__ import annotations

import contextlib

import msgspec

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Cache, Key, Recorder, Watch, own_key
from penstock.contracts.node_caches import PROGRESS, CachedModel, Download, NodeCaches
from penstock.controlplane.controllers.credentials import account_credentials, storage_secret
from penstock.decide.caching import Cache as ModelCache
from penstock.decide.caching import is_ready, room_for
from penstock.decide.download_job import (
    DOWNLOADED,
    DOWNLOADING,
    ERROR,
    Step,
    download_job,
    is_turn,
    job_name,
    job_namespace,
    model_name,
    next_step,
)
from penstock.decide.storage_config import SECRET, config_env
from penstock.kit.clock import Clock
from penstock.kit.errors import AlreadyExists, NotFound
from penstock.resources.caching import (
    LocalModelCache,
    LocalModelInfo,
    LocalModelNamespaceCache,
    LocalModelNode,
    LocalModelNodeGroup,
    LocalModelNodeStatus,
)
from penstock.resources.core import Namespace, Node
from penstock.resources.meta import ObjectMeta, Resource
from penstock.resources.workload import Job

LOOK_AGAIN_S = 60.0
"""As KServe's node agent: what the disk has is looked at also when nothing changes."""
WATCH_S = 1.0
"""How often it is told how far a download is."""


class LocalModelNodeController:
    """One key per node."""

    name = "local-model-node"

    def __init__(
        self, cluster: Cluster, cache: Cache, recorder: Recorder, clock: Clock, *, caches: NodeCaches
    ) -> None:
        """`caches` are those of the nodes that this process answers for."""
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._clock = clock
        self._caches = caches

    def watches(self) -> tuple[Watch, ...]:
        """Nodes' models, and the Jobs that bring them."""
        looked_at = (Node, LocalModelCache, LocalModelNamespaceCache, LocalModelNodeGroup)
        return (
            Watch(LocalModelNode, own_key),
            Watch(Job, _node_of),
            *(Watch(kind, _nobody) for kind in looked_at),
        )

    async def reconcile(self, key: Key) -> float | None:
        """Look at the disk, start what is missing, say where it stands."""
        if key.name not in self._caches.nodes:
            return None
        node = self._cache.get(LocalModelNode, key.name)
        models = node.spec.local_models if node is not None and not node.metadata.deletion_timestamp else ()
        if node is not None:
            await self._drop_jobs(node, models)
        removed = await self._caches.keep(key.name, {info.source_model_uri for info in models})
        if node is None:
            return None
        for sentence in removed:
            self._recorder.event(node, "Normal", "ModelRemoved", sentence)
        states: dict[str, str] = {}
        told: dict[str, Download] = {}
        again_s = LOOK_AGAIN_S
        for uri in sorted({info.source_model_uri for info in models}):
            same = [info for info in models if info.source_model_uri == uri]
            looked = await self._caches.look(key.name, uri)
            step = await self._step(node, same[0], looked)
            for info in same:
                name = model_name(info)
                states[name] = step.state
                if step.state in (DOWNLOADING, ERROR):
                    told[name] = looked.download
            wait_s = WATCH_S if step.state == DOWNLOADING else step.again_s
            again_s = min(again_s, wait_s or again_s)
        await self._tell(node, states, told)
        return again_s

    async def _step(self, node: LocalModelNode, info: LocalModelInfo, looked: CachedModel) -> Step:
        job = self._cache.get(Job, job_name(node.metadata.name, info), job_namespace(info))
        turn = not self._caches.share or self._is_turn(node, info.source_model_uri)
        step = next_step(job, is_ready=looked.is_ready, now=self._clock.now(), turn=turn)
        if step.starts:
            if job is not None:
                with contextlib.suppress(NotFound):
                    await self._cluster.delete(Job, job.metadata.name, job.metadata.namespace)
            await self._start(node, info, step.starts)
        return step

    def _is_turn(self, node: LocalModelNode, uri: str) -> bool:
        ours = [hold for hold in self._cache.list(LocalModelNode) if hold.metadata.name in self._caches.nodes]
        ready = {one.metadata.name for one in self._cache.list(Node) if is_ready(one)}
        return is_turn(node.metadata.name, uri, ours, ready)

    async def _start(self, node: LocalModelNode, info: LocalModelInfo, attempt: int) -> None:
        """One of that name may still be on its way out: the change when it is gone brings us back."""
        namespace = job_namespace(info)
        env = await account_credentials(self._cluster, namespace, info.service_account_name)
        if info.storage is not None:
            key = info.storage.key or "default"
            secret = await storage_secret(self._cluster, namespace, SECRET)
            env = (*env, *config_env(secret, key, info.storage.parameters))
        with contextlib.suppress(AlreadyExists):
            await self._cluster.create(Namespace(metadata=ObjectMeta(name=namespace)))
        with contextlib.suppress(AlreadyExists):
            job = download_job(node, info, attempt, room_bytes=self._room(info), secret_env=env)
            await self._cluster.create(job)
            what = f"attempt {attempt} to bring {info.model_name}"
            self._recorder.event(node, "Normal", "ModelDownloadStarted", what)

    def _room(self, info: LocalModelInfo) -> int | None:
        caches: tuple[ModelCache, ...] = (
            *self._cache.list(LocalModelCache),
            *self._cache.list(LocalModelNamespaceCache),
        )
        return room_for(info, caches, self._cache.list(LocalModelNodeGroup))

    async def _drop_jobs(self, node: LocalModelNode, models: tuple[LocalModelInfo, ...]) -> None:
        """Of models that are not wanted any more. All of them go with the node."""
        wanted = {(job_namespace(info), job_name(node.metadata.name, info)) for info in models}
        for job in self._cache.list(Job, owner=node.metadata.uid):
            meta = job.metadata
            if (meta.namespace, meta.name) not in wanted and meta.deletion_timestamp is None:
                with contextlib.suppress(NotFound):
                    await self._cluster.delete(Job, meta.name, meta.namespace)

    async def _tell(self, node: LocalModelNode, states: dict[str, str], told: dict[str, Download]) -> None:
        progress = msgspec.json.encode(told, order="sorted").decode() if told else None
        if node.metadata.annotations.get(PROGRESS) != progress:
            patch = {"metadata": {"annotations": {PROGRESS: progress}}}
            node = await self._cluster.patch(LocalModelNode, node.metadata.name, "", patch)
        if states == node.status.model_status:
            return
        for name, state in states.items():
            if state != node.status.model_status.get(name) and state in (DOWNLOADED, ERROR):
                kind = "Normal" if state == DOWNLOADED else "Warning"
                said = told[name].told if name in told else "is on the node"
                self._recorder.event(node, kind, state, f"{name}: {said}")  # type: ignore[arg-type]
        status = LocalModelNodeStatus(model_status=states)
        await self._cluster.replace(msgspec.structs.replace(node, status=status), subresource="status")


def _nobody(seen: Resource) -> tuple[Key, ...]:
    """These are looked at, but their changes concern no node's models by themselves."""
    return ()


def _node_of(job: Resource) -> tuple[Key, ...]:
    owners = job.metadata.owner_references
    return tuple(Key("", owner.name) for owner in owners if owner.kind == "LocalModelNode")
