"""A cluster's objects as placement sees them, for questions that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from penstock.app.gpu_types import load_gpu_types
from penstock.contracts.controller import Cache
from penstock.decide.prices import Price, Quote, node_prices
from penstock.host.device_book import DeviceBook
from penstock.host.dry_placement import DryPlacement
from penstock.host.usual_work import UsualWork
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod

R = TypeVar("R", bound=Resource)


class DryCluster(DryPlacement):
    """The pods and nodes of a cluster, each kind read once."""

    def __init__(self, cache: Cache, slices: Iterable[ResourceSlice] = ()) -> None:
        """`slices` tell of devices that are not there but could be had: pods may ask for them too."""
        book = DeviceBook(_Wider(cache, tuple(slices)), load_gpu_types())
        pods = (pod for pod in cache.list(Pod) if pod.status.phase not in ("Succeeded", "Failed"))
        super().__init__(book, pods, UsualWork(), 0.0)

    def quotes(self, prices: Sequence[Price]) -> dict[str, Quote]:
        """What each node costs."""
        return node_prices(self.stock.rooms, prices)


class _Wider:
    """The cache, and some slices more."""

    def __init__(self, cache: Cache, slices: tuple[ResourceSlice, ...]) -> None:
        self._cache = cache
        self._slices = slices

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        return self._cache.get(kind, name, namespace)

    def list(
        self, kind: type[R], namespace: str | None = None, *, labels: str = "", owner: str = ""
    ) -> tuple[R, ...]:
        found = self._cache.list(kind, namespace, labels=labels, owner=owner)
        return (*found, *(one for one in self._slices if isinstance(one, kind)))
