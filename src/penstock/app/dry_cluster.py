"""A cluster's objects as placement sees them, for questions that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from penstock.app.gpu_types import load_gpu_types
from penstock.contracts.controller import Cache
from penstock.contracts.devices import DeviceRequest
from penstock.decide.board import Board
from penstock.decide.inventory import Inventory
from penstock.decide.placement import Placement, place
from penstock.decide.prices import Price, Quote, node_prices
from penstock.host.device_book import DeviceBook
from penstock.host.usual_work import UsualWork
from penstock.resources.devices import ResourceSlice
from penstock.resources.meta import Resource
from penstock.resources.pod import Pod

R = TypeVar("R", bound=Resource)


class DryCluster:
    """All pods that have not ended, what they ask for by their uid (or why that cannot be had), what is left of the nodes, what that is worth."""

    def __init__(self, cache: Cache, slices: Iterable[ResourceSlice] = ()) -> None:
        """`slices` tell of devices that are not there but could be had: pods may ask for them too."""
        self._book = DeviceBook(_Wider(cache, tuple(slices)), load_gpu_types())
        self.pods = tuple(pod for pod in cache.list(Pod) if pod.status.phase not in ("Succeeded", "Failed"))
        self.requests = {pod.metadata.uid: self._book.requests(pod) for pod in self.pods}
        self.stock = self._book.stock(pod for pod in self.pods if pod.spec.node_name)
        asked = {uid: some for uid, some in self.requests.items() if not isinstance(some, str)}
        gpus = [gpu for found in self._book.gpus().values() for gpu in found]
        usual = UsualWork()
        usual.learn(self.pods, asked, gpus, 0.0)
        self.worth, self._leaning, self._board = usual.worth(gpus), usual.leaning(asked), Board()

    def place(self, pod: Pod, stock: Inventory, wanted: tuple[DeviceRequest, ...]) -> Placement:
        """As the host places it (`gang.Placer`)."""
        plain = self._book.plain(pod, wanted)
        return place(plain, stock, wanted, worth=self.worth, leaning=self._leaning, board=self._board)

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
