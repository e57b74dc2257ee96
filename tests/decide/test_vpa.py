"""The size that a replica should have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.vpa import amount, is_ours, policy_of, quantity_of, recommend, update_mode
from penstock.decide.vpa_history import CPU_BUCKETS, DAY_S, MEMORY_BUCKETS, History, Sample, Window, observe
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.vpa import (
    ContainerResourcePolicy,
    PodResourcePolicy,
    PodUpdatePolicy,
    VerticalPodAutoscaler,
    VerticalPodAutoscalerSpec,
    VPARecommender,
)

NOW = 20_000 * DAY_S
TARGET = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="web")


def autoscaler(*policies, **spec):
    policy = PodResourcePolicy(container_policies=policies) if policies else None
    return VerticalPodAutoscaler(
        spec=VerticalPodAutoscalerSpec(target_ref=TARGET, resource_policy=policy, **spec)
    )


def used(cores, memory_bytes, *, minutes=1, request_cores=1.0):
    history, window = History(), Window()
    for minute in range(minutes):
        sample = Sample(NOW + 60 * minute, cores, memory_bytes)
        result = observe(history, window, sample, request_cores)
        history, window = result.history, result.window
    return history


def a_day(cores, memory_bytes):
    """A history whose confidence is one, of one steady use."""
    history = used(cores, memory_bytes)
    return History(history.cpu, history.memory, NOW, NOW + DAY_S, 1440)


def only(histories, *policies):
    (sized,) = recommend(autoscaler(*policies), histories).resources.container_recommendations
    return sized


def test_the_target_is_the_end_of_the_90th_percentiles_bucket_and_15_percent_more():
    sized = only({"main": a_day(1.0, 2e9)})
    cpu = int(CPU_BUCKETS.end(CPU_BUCKETS.find(1.0)) * 1000)
    memory = int(MEMORY_BUCKETS.end(MEMORY_BUCKETS.find(2e9)))
    assert amount("cpu", sized.target["cpu"]) == cpu + int(cpu * 0.15)
    assert amount("memory", sized.target["memory"]) == memory + int(memory * 0.15)
    assert sized.target == sized.uncapped_target


def test_with_a_day_of_history_the_upper_bound_doubles_and_the_lower_hardly_falls():
    sized = only({"main": a_day(1.0, 2e9)})
    target, upper, lower = (
        amount("cpu", bound["cpu"]) for bound in (sized.target, sized.upper_bound, sized.lower_bound)
    )
    assert upper == pytest.approx(2 * target, abs=1)
    assert lower == pytest.approx(target * 1.001**-2, abs=1)


def test_with_ten_days_of_history_the_upper_bound_is_a_tenth_above():
    history = a_day(1.0, 2e9)
    history = History(history.cpu, history.memory, NOW, NOW + 10 * DAY_S, 14_400)
    sized = only({"main": history})
    assert amount("memory", sized.upper_bound["memory"]) == pytest.approx(
        1.1 * amount("memory", sized.target["memory"]), rel=1e-6
    )


def test_one_sample_bounds_nothing():
    sized = only({"main": used(1.0, 2e9)})
    assert amount("memory", sized.upper_bound["memory"]) == 10**14
    assert sized.lower_bound == {"cpu": "25m", "memory": "262144k"}


@pytest.mark.parametrize(("containers", "cpu", "memory"), [(1, "25m", "262144k"), (2, "12m", "131072k"), (4, "11m", "65536k")])  # fmt: skip
def test_the_floor_is_split_over_the_containers(containers, cpu, memory):
    # An idle container's use lies in the first bucket, which ends at 10m: with four containers that is above the floor.
    histories = {f"c{n}": a_day(0.0, 0.0) for n in range(containers)}
    for sized in recommend(autoscaler(), histories).resources.container_recommendations:
        assert sized.target == {"cpu": cpu, "memory": memory}


def test_nothing_is_recommended_for_a_container_that_was_never_seen():
    result = recommend(autoscaler(), {"main": History()})
    assert result.resources.container_recommendations == ()
    assert result.reasons == ("main: no use was seen yet",)


def test_a_policy_bounds_what_is_recommended_and_says_so():
    bounds = ContainerResourcePolicy(
        container_name="main", min_allowed={"cpu": "2"}, max_allowed={"memory": "1Gi"}
    )
    sized = only({"main": a_day(1.0, 2e9)}, bounds)
    assert sized.target == {"cpu": "2", "memory": quantity_of("memory", 1 << 30)}
    assert amount("cpu", sized.uncapped_target["cpu"]) < 2000
    assert amount("memory", sized.upper_bound["memory"]) == 1 << 30
    reasons = recommend(autoscaler(bounds), {"main": a_day(1.0, 2e9)}).reasons
    assert "bounded by its policy: cpu, memory" in reasons[0]


def test_only_controlled_resources_are_recommended():
    policy = ContainerResourcePolicy(container_name="*", controlled_resources=("memory",))
    sized = only({"main": a_day(1.0, 2e9)}, policy)
    assert set(sized.target) == set(sized.lower_bound) == set(sized.upper_bound) == {"memory"}


def test_a_container_whose_policy_is_off_is_left_alone_and_leaves_the_floor_to_the_others():
    off = ContainerResourcePolicy(container_name="side", mode="Off")
    sized = only({"main": a_day(0.0, 0.0), "side": a_day(1.0, 2e9)}, off)
    assert (sized.container_name, sized.target["cpu"]) == ("main", "25m")


def test_a_policy_of_its_own_beats_the_one_for_all():
    own, every = (ContainerResourcePolicy(container_name=name) for name in ("main", "*"))
    assert policy_of(autoscaler(every, own), "main") is own
    assert policy_of(autoscaler(every, own), "side") is every
    assert policy_of(autoscaler(), "main") is None


@given(
    st.floats(0, 64), st.floats(0, 1e11), st.floats(0.01, 30), st.integers(1, 100_000)
)  # fmt: skip
def test_the_bounds_enclose_the_target(cores, memory_bytes, days, samples):
    history = used(cores, memory_bytes)
    sized = only({"main": History(history.cpu, history.memory, NOW, NOW + days * DAY_S, samples)})
    for resource in ("cpu", "memory"):
        lower, target, upper = (
            amount(resource, bound[resource])
            for bound in (sized.lower_bound, sized.target, sized.upper_bound)
        )
        assert lower <= target <= upper


@given(st.lists(st.floats(0, 32), min_size=2, max_size=60), st.floats(0, 32))
def test_more_use_never_asks_for_less(uses, more):
    def target(values):
        history, window = History(), Window()
        for minute, cores in enumerate(values):
            result = observe(history, window, Sample(NOW + 60 * minute, cores), 1.0)
            history, window = result.history, result.window
        return amount("cpu", only({"main": history}).target["cpu"])

    assert target([max(cores, more) for cores in uses]) >= target(uses)


def test_steady_use_brings_narrow_bounds_in_time():
    histories = [used(0.5, 5e8, minutes=minutes) for minutes in (2, 60, 1440)]
    uppers = [amount("cpu", only({"main": history}).upper_bound["cpu"]) for history in histories]
    assert uppers == sorted(uppers, reverse=True)
    assert uppers[0] > uppers[-1]


@pytest.mark.parametrize(
    ("written", "acts_as"),
    [
        ("Off", "Off"), ("Initial", "Initial"), ("Recreate", "Recreate"), ("Auto", "Recreate"),
        ("InPlaceOrRecreate", "Recreate"), ("InPlace", "Initial"), (None, "Recreate"),
    ],
)  # fmt: skip
def test_what_a_mode_comes_to_where_processes_are_not_resized(written, acts_as):
    assert update_mode(autoscaler(update_policy=PodUpdatePolicy(update_mode=written))) == acts_as


def test_without_a_policy_the_mode_is_auto():
    assert update_mode(autoscaler()) == "Recreate"


def test_an_autoscaler_of_another_recommender_is_not_ours():
    assert is_ours(autoscaler())
    assert is_ours(autoscaler(recommenders=(VPARecommender(name="default"),)))
    assert not is_ours(autoscaler(recommenders=(VPARecommender(name="mine"),)))
