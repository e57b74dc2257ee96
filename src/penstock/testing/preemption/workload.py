"""Training jobs and bursts of inference, drawn from one seed by the distributions that stand here."""

from __future__ import annotations

from math import log
from random import Random
from typing import Literal, NamedTuple, TypeVar

_T = TypeVar("_T")
HOUR_S = 3600.0
Habit = Literal["on-demand", "periodic", "liar", "silent", "bare"]
Mix = tuple[tuple[Habit, float], ...]
HABITS: Mix = (
    ("on-demand", 0.50),  # saves at its interval, and when told
    ("periodic", 0.30),  # saves at its interval only, and says so
    ("liar", 0.08),  # saves at its interval, says that it saves when told, and lets its grace run out
    ("silent", 0.12),  # saves at its interval, in its own way, and reports nothing
)
SOME_BARE: Mix = (("on-demand", 0.47), ("periodic", 0.28), ("liar", 0.08), ("silent", 0.11), ("bare", 0.06))
"""The same with some that save nothing at all."""
NONE_WHEN_TOLD: Mix = (("periodic", 0.80), ("liar", 0.08), ("silent", 0.12))
"""What the order alone is worth: nobody saves when told."""
GANGS = ((1, 0.70), (2, 0.18), (4, 0.12))
"""Pods of a job."""
GPUS = ((1, 0.40), (2, 0.20), (4, 0.20), (8, 0.20))
"""Of each pod of a job of one pod; those of several have 4 or 8."""
INTERVALS_S = ((300.0, 0.2), (600.0, 0.2), (1200.0, 0.2), (1800.0, 0.2), (3600.0, 0.2))
REPLICAS = ((1, 0.60), (2, 0.25), (4, 0.15))
"""GPUs of one replica of inference."""


class Training(NamedTuple):
    """One job: `pods` pods of `gpus` each, that must all run. `work_s` without interruption; `save_s` and `restore_s` for one checkpoint."""

    name: str
    arrives_s: float
    pods: int
    gpus: int
    work_s: float
    interval_s: float
    save_s: float
    restore_s: float
    habit: Habit


class Serving(NamedTuple):
    """One replica of inference, needed from `arrives_s` for `holds_s`."""

    name: str
    arrives_s: float
    gpus: int
    holds_s: float


class Workload(NamedTuple):
    """What happens in `hours` on `nodes` nodes of eight GPUs."""

    nodes: int
    hours: float
    trainings: tuple[Training, ...]
    servings: tuple[Serving, ...]


def draw(
    seed: int, *, nodes: int = 12, hours: float = 12.0, load: float = 1.6, habits: Mix = HABITS
) -> Workload:
    """`load` is the training's demand in GPU-seconds as a share of what there is; two thirds of it wait at the beginning."""
    chance = Random(seed)  # noqa: S311
    trainings: list[Training] = []
    demand_s, whole_s = 0.0, nodes * 8 * hours * HOUR_S
    while demand_s < load * whole_s:
        job = _training(chance, f"train-{len(trainings)}", hours, habits)
        trainings.append(job)
        demand_s += job.pods * job.gpus * job.work_s
    return Workload(nodes, hours, tuple(trainings), tuple(_servings(chance, hours)))


def _training(chance: Random, name: str, hours: float, habits: Mix) -> Training:
    pods = _pick(chance, GANGS)
    save_s = min(28.0, chance.lognormvariate(log(6.0), 0.6))
    return Training(
        name=name,
        arrives_s=chance.random() * hours * HOUR_S if chance.random() > 2 / 3 else 0.0,
        pods=pods,
        gpus=_pick(chance, GPUS) if pods == 1 else chance.choice((4, 8)),
        work_s=min(12 * HOUR_S, chance.lognormvariate(log(2 * HOUR_S), 1.0)),
        interval_s=_pick(chance, INTERVALS_S),
        save_s=save_s,
        restore_s=10.0 + 2.0 * save_s,
        habit=_pick(chance, habits),
    )


def _servings(chance: Random, hours: float) -> list[Serving]:
    """Bursts come every ten minutes on average, of 1 to 12 replicas, and each replica is needed for about a quarter of an hour."""
    found: list[Serving] = []
    at = HOUR_S
    while (at := at + chance.expovariate(1 / 600.0)) < (hours - 1) * HOUR_S:
        gpus = _pick(chance, REPLICAS)
        for _ in range(min(12, 1 + int(chance.expovariate(1 / 3.0)))):
            holds_s = min(HOUR_S, chance.lognormvariate(log(900.0), 0.6))
            found.append(Serving(f"chat-{len(found)}", at + 5 * chance.random(), gpus, holds_s))
    return found


def _pick(chance: Random, weighted: tuple[tuple[_T, float], ...]) -> _T:
    return chance.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]
