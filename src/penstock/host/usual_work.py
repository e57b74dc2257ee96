"""What is usual on this host, and what its GPUs are worth to that: each pod counts once, when it is first seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from penstock.contracts.devices import DeviceRequest, Gpu
from penstock.decide.fragmentation import Mix, Worth
from penstock.decide.node_standing import Leaning
from penstock.decide.pod_requests import needs_of
from penstock.decide.workload_mix import MixEstimate, is_other, shape_of
from penstock.resources.pod import Pod

Asked = Mapping[str, tuple[DeviceRequest, ...]]
"""What each pod asks for, by its uid."""


class UsualWork:
    """After a restart the pods that exist are all that is known."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._estimate = MixEstimate()
        self._unused = 0
        self._worth = Worth(Mix())
        self._supply: Counter[str] = Counter()
        self._counted: frozenset[str] = frozenset()

    def learn(self, pods: Iterable[Pod], asked: Asked, gpus: Iterable[Gpu], now: float) -> None:
        """`pods` are all that exist and ask for what there is; `now` in seconds."""
        gpus = tuple(gpus)
        seen = {pod.metadata.uid: pod for pod in pods if pod.metadata.uid in asked}
        for uid in seen.keys() - self._counted:
            cpu = needs_of(seen[uid]).get("cpu", 0)
            self._estimate = self._estimate.with_arrival(shape_of(cpu, asked[uid], gpus), now)
            self._unused += 1
        self._counted = frozenset(seen)

    def worth(self, gpus: Iterable[Gpu]) -> Worth:
        """What these GPUs are worth to the usual work: the same object until that has become another, or the GPUs are others."""
        supply = Counter(gpu.type.name for gpu in gpus)
        if supply != self._supply or self._estimate.is_due(self._unused):
            self._unused, mix = 0, self._estimate.mix()
            if supply != self._supply or is_other(self._worth.mix, mix):
                self._supply, self._worth = supply, Worth(mix, supply)
        return self._worth

    @staticmethod
    def leaning(asked: Asked) -> Leaning:
        """The demand for MIG profiles is what the pods ask for that exist."""
        counts = Counter({one.profile: 0 for some in asked.values() for one in some if one.profile})
        for some in asked.values():
            for one in some:
                if one.profile:
                    counts[one.profile] += one.count
        return Leaning(mig_demand={name: float(count) for name, count in counts.items()})
