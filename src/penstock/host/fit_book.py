"""Which devices a pod asks for once it is known whether its model fits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from penstock.contracts.controller import Recorder
from penstock.contracts.devices import GPU_RESOURCE, MEMORY_ANNOTATION, DeviceRequest, Gpu, GpuType, Share
from penstock.contracts.source import public
from penstock.decide.fit_error import Learned, learn
from penstock.decide.pod_fit import (
    AUTO,
    CERTIFICATE_ANNOTATION,
    FIT_ANNOTATION,
    PodFit,
    Sought,
    needs_quantity,
    pod_fit,
    with_memory,
)
from penstock.decide.served_model import Served, served_model
from penstock.host.fit_store import Observations
from penstock.host.model_shapes import ModelShapes
from penstock.resources.pod import Pod

Asked = tuple[DeviceRequest, ...] | str
MAX_PODS = 4096
"""Of which answers are kept."""
LEAST = "64Mi"
"""Stands for `auto` until it is known how much that is."""


class FitBook:
    """Asks `decide/pod_fit.py` of each pod that waits for a node; pods that have one are not asked about again."""

    def __init__(self, shapes: ModelShapes, observations: Observations, recorder: Recorder) -> None:
        self._shapes = shapes
        self._observations = observations
        self._recorder = recorder
        self._answers: dict[str, tuple[object, PodFit]] = {}
        self._told: set[str] = set()

    @property
    def is_reading(self) -> bool:
        """Whether pods wait because their models' headers are being read."""
        return self._shapes.is_reading

    def requests(self, pod: Pod, gpus: Sequence[Gpu], ask: Callable[[Pod], Asked]) -> Asked:
        """What `ask` says, on types of GPU where the pod's model fits; or why there is none, or that its headers are being read."""
        annotations = pod.metadata.annotations
        is_auto = annotations.get(MEMORY_ANNOTATION) == AUTO
        if pod.spec.node_name:
            return ask(pod)
        found = ask(with_memory(pod, LEAST) if is_auto else pod)
        if isinstance(found, str) or not found:
            return found
        served = None if annotations.get(FIT_ANNOTATION) == "ignore" else served_model(pod)
        if served is None:
            why = "nothing says which model this pod serves, with an engine that is known"
            return needs_quantity(why) if is_auto else found
        return self._fitting(pod, served, found, gpus, is_auto)

    def _fitting(
        self, pod: Pod, served: Served, asked: tuple[DeviceRequest, ...], gpus: Sequence[Gpu], is_auto: bool
    ) -> Asked:
        known = self._shapes.served(served)
        name = public(served.model)
        if known is None:
            return f"the headers of {name} are being read, to see where it fits"
        if known.shape is None:
            if is_auto:
                return needs_quantity(f"{name}: {known.failure}")
            self._say_unknown(pod, f"Whether {name} fits is not known: {known.failure}")
            return asked
        kinds = tuple({gpu.type.name: gpu.type for gpu in gpus}.values())
        key = (served, known.read_at, asked, tuple(kind.name for kind in kinds), self._observations.stamp)
        uid = pod.metadata.uid
        if uid not in self._answers or self._answers[uid][0] != key:
            if len(self._answers) >= MAX_PODS:
                self._answers.clear()
            sought = Sought(
                served=served,
                name=name,
                shape=known.shape,
                requests=_whole(asked) if is_auto else asked,
                kinds=kinds,
                learned=lambda engine, gpu: self.learned(name, engine, gpu),
                is_auto=is_auto,
            )
            self._answers[uid] = key, pod_fit(sought)
        return self._answers[uid][1].requests

    def learned(self, model: str, engine: str, gpu: str) -> Learned:
        """From earlier runs."""
        return learn(self._observations.read(), model=model, engine=engine, version="", gpu=gpu)

    def annotations(self, pod: Pod, shares: Sequence[Share], gpus: Sequence[Gpu]) -> Mapping[str, str | None]:
        """What is written on the pod in the patch that binds it: the certificate of the GPU it got."""
        _, answer = self._answers.pop(pod.metadata.uid, (None, PodFit(requests=())))
        kinds = {gpu.uuid: gpu.type.name for gpu in gpus}
        names = [kinds[share.gpu] for share in shares if share.gpu in kinds]
        found = answer.certificates.get(names[0]) if names else None
        return {CERTIFICATE_ANNOTATION: msgspec.json.encode(found).decode() if found else None}

    def _say_unknown(self, pod: Pod, message: str) -> None:
        """Once for each pod."""
        if pod.metadata.uid not in self._told:
            if len(self._told) >= MAX_PODS:
                self._told.clear()
            self._told.add(pod.metadata.uid)
            self._recorder.event(pod, "Normal", "FitUnknown", message)


def known_types(gpus: Sequence[Gpu]) -> Mapping[str, GpuType]:
    """By UUID."""
    return {gpu.uuid: gpu.type for gpu in gpus}


def _whole(asked: tuple[DeviceRequest, ...]) -> tuple[DeviceRequest, ...]:
    """Before it is known how much memory of it the pod needs."""
    return tuple(
        replace(one, milli=1000, memory_bytes=0) if one.resource in ("", GPU_RESOURCE) else one
        for one in asked
    )
