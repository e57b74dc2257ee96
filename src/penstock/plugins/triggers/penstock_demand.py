"""`penstock-demand`: the requests of an InferenceService, as the gateways count them."""

from __future__ import annotations

from typing import cast

from penstock.contracts.trigger import DemandMetric, Opening, Reading


def open_trigger(opening: Opening) -> DemandTrigger:
    """See `contracts/trigger.py`."""
    return DemandTrigger(opening)


class DemandTrigger:
    """Asks the control plane, of which it is a part: nothing goes over a network."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._service = opening.need("inferenceService")
        self._namespace = opening.get("namespace") or opening.namespace
        self._metric = cast("DemandMetric", opening.get("metric"))
        self.metric = f"penstock-demand-{self._metric}-{self._service}"
        self.target = opening.number("threshold")

    async def read(self) -> Reading:
        """The demand now."""
        value = self._opening.demand(self._namespace, self._service, self._metric)
        return self._opening.reading(value, "activationThreshold")

    async def close(self) -> None:
        """There is nothing to let go of."""
