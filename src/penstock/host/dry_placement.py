"""All pods as placement sees them, for questions that change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.contracts.devices import DeviceRequest
from penstock.decide.board import Board
from penstock.decide.fragmentation import Worth
from penstock.decide.inventory import Inventory
from penstock.decide.node_standing import Leaning
from penstock.decide.placement import Placement, place
from penstock.host.device_book import DeviceBook
from penstock.host.usual_work import UsualWork
from penstock.resources.pod import Pod


class DryPlacement:
    """What pods ask for by their uid (or why that cannot be had), what is left of the nodes, and what that is worth to the usual work."""

    requests: Mapping[str, tuple[DeviceRequest, ...] | str]
    stock: Inventory
    worth: Worth
    leaning: Leaning

    def __init__(self, book: DeviceBook, pods: Iterable[Pod], usual: UsualWork, now: float) -> None:
        """`pods` are all that have not ended; `usual` learns from those that it has not seen."""
        self.pods = tuple(pods)
        self.requests = {pod.metadata.uid: book.requests(pod) for pod in self.pods}
        self.stock = book.stock(pod for pod in self.pods if pod.spec.node_name)
        asked = {uid: some for uid, some in self.requests.items() if not isinstance(some, str)}
        gpus = [gpu for found in book.gpus().values() for gpu in found]
        usual.learn(self.pods, asked, gpus, now)
        self.worth, self.leaning = usual.worth(gpus), usual.leaning(asked)
        self._book = book
        self._board = Board()

    def place(self, pod: Pod, stock: Inventory, wanted: tuple[DeviceRequest, ...]) -> Placement:
        """As the host places it (`gang.Placer`). What was found out is remembered for questions about all nodes, not about some."""
        plain = self._book.plain(pod, wanted)
        board = self._board if len(stock.rooms) == len(self.stock.rooms) else None
        return place(plain, stock, wanted, worth=self.worth, leaning=self.leaning, board=board)
