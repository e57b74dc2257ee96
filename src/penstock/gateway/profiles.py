"""What routes a service's requests: its profile, opened; and one that is being tried on a share of them, until it is seen to be worse."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from penstock.contracts.exchange import RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Pipeline, Prompt
from penstock.decide.profile_canary import is_tried
from penstock.gateway.trial import Trial


class Profiles:
    """Of one service. `service` is `namespace/name`; `trial` is None where nothing is tried."""

    def __init__(
        self, service: str, routing: RoutingRoute, open_profile: Callable[[RoutingRoute], Pipeline]
    ) -> None:
        """Raises InvalidInput for a profile with parts that are not there."""
        candidate = routing.candidate
        self.routing = routing
        self.trial = Trial() if candidate is not None else None
        self.service = service
        self._pipeline = open_profile(routing)
        self._candidate = (candidate, open_profile(candidate)) if candidate is not None else None

    def tries(self, prompt: Prompt) -> bool:
        """Whether this prompt is routed by the profile that is being tried."""
        trial = self.trial
        return trial is not None and not trial.verdict and is_tried(self.routing, prompt, self.service)

    def of(self, service: ServiceRoute, prompt: Prompt) -> tuple[ServiceRoute, Pipeline]:
        """What routes this prompt: the service, or a view of it, with the profile that does, and its parts."""
        if self._candidate is None or not self.tries(prompt):
            return service, self._pipeline
        routing, pipeline = self._candidate
        return replace(service, routing=routing), pipeline

    def name(self, prompt: Prompt) -> str:
        """Of the profile that routes this prompt, "" for the built-in one."""
        if self._candidate is None or not self.tries(prompt):
            return self.routing.profile
        return self._candidate[0].profile
