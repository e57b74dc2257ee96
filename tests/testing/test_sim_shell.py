"""The simulator's KPA policy beside the objects by which the control plane runs the law: told the same, they want the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.exchange import RevisionDemand
from penstock.controlplane.autoscaling.laws import Pods
from penstock.controlplane.autoscaling.revision import Revision
from penstock.decide.sampling import Held
from penstock.resources.autoscaler_config import DEFAULTS
from penstock.resources.autoscaler_settings import DOMAIN, PROFILE
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec
from penstock.testing.sim.policies.kpa import build
from penstock.testing.sim.policy import Observation, Second, Setup

START = 1_700_000_000
START_LAG_TICKS = 3

loads = st.lists(
    st.tuples(st.integers(5, 120), st.sampled_from([0.0, 0.5, 3.0, 20.0, 150.0])), min_size=1, max_size=8
)
options = st.sampled_from(
    [{}, {"target": "5"}, {"target": "2", "window": "20s"}, {"min-scale": "1"}, {"max-scale": "4"}, {"target": "1", "scale-down-delay": "30s"}, {"profile": "gpu"}, {"profile": "gpu", "target": "3"}, {"metric": "rps", "target": "1"}]
)  # fmt: skip


def revision_of(given: dict[str, str]) -> Revision:
    annotations = {PROFILE if key == "profile" else DOMAIN + key: value for key, value in given.items()}
    target = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="r")
    meta = ObjectMeta(name="r", namespace="n", annotations=annotations)
    return Revision(
        PodAutoscaler(metadata=meta, spec=PodAutoscalerSpec(scale_target_ref=target)), DEFAULTS, START, START
    )


@settings(max_examples=60, deadline=None)
@given(loads, options)
def test_policy_and_control_plane_want_the_same(
    load: list[tuple[int, float]], given_: dict[str, str]
) -> None:
    policy, revision = build(Setup(start_s=START, slo_ttft_s=2.0), given_), revision_of(given_)
    in_flight = [value for length_s, value in load for _ in range(length_s)]
    tick_s, sizes, seconds = int(policy.tick_s), [1] * START_LAG_TICKS, []
    for passed_s, value in enumerate(in_flight, 1):
        now = START + passed_s
        arrived = round(value)
        seconds.append(Second(now, value, arrived, 0, 0.0, 0.0, 0, 0))
        revision.demand.report(
            "g", RevisionDemand(name="r", in_flight=value, requests=arrived), Held(), 1.0, now
        )
        if passed_s % tick_s:
            continue
        size = sizes[-1]
        ready = min(size, sizes[-START_LAG_TICKS])
        seen = Observation(now=now, seconds=seconds, replicas=size, ready=ready, starting=size - ready, draining=0, in_flight=round(value), waiting=0, streams=(), finished=(), cold_starts_s=())  # fmt: skip
        wish = policy.decide(seen)
        revision.demand.silence(now)
        revision.tick(Pods(ready, size - ready), now, now)
        applied = revision.apply(size, now, None)
        revision.become(applied.wanted, ready, now)
        assert wish.desired == (size if applied.replicas is None else applied.replicas), (passed_s, wish)
        sizes.append(wish.desired)
        seconds = []
