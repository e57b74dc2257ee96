"""Recorded decisions as tables: what was decided, why, what else was close, and whether it comes out the same again."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.cli.console import print_table
from penstock.decide.replay import Replayed, replay_rollout, replay_scaling
from penstock.resources.pod_autoscaler import PodAutoscaler
from penstock.resources.rollout import Rollout


def print_scaling(scalers: Iterable[PodAutoscaler], *, replay: bool) -> bool:
    """The last scaling decisions of a service's revisions, newest last; whether every replay came out the same."""
    rows, agreed = [], True
    for scaler in scalers:
        for one in scaler.status.decisions:
            again = replay_scaling(one) if replay else None
            agreed = agreed and (again is None or again.same or one.input is None)
            change = f"{one.before} → {one.desired}"
            why = "; ".join(one.reasons)
            rows.append((one.at, scaler.metadata.name, change, why, one.runner_up or "-", *_said(again)))
    _print("Scaling", ("at", "revision", "replicas", "because", "else"), sorted(rows), replay)
    for scaler in scalers:
        _print_state(scaler)
    return agreed


def print_rollouts(rollouts: Iterable[Rollout], *, replay: bool) -> bool:
    """The last steps of a service's rollouts, newest last; whether every replay came out the same."""
    rows, agreed = [], True
    for rollout in rollouts:
        for one in rollout.status.decisions:
            again = replay_rollout(one) if replay else None
            agreed = agreed and (again is None or again.same)
            step = f"{one.phase}, {one.weight} %"
            why = "; ".join(one.reasons)
            rows.append((one.at, rollout.metadata.name, step, why, one.runner_up or "-", *_said(again)))
    if rows:
        _print("Rollouts", ("at", "rollout", "step", "because", "else"), sorted(rows), replay)
    return agreed


def _print_state(scaler: PodAutoscaler) -> None:
    """What bears on the next decision: the room that there is, what a start takes, how far it sleeps."""
    status = scaler.status
    room = next((c for c in status.conditions if c.type == "Schedulable" and c.status == "False"), None)
    if room is not None:
        print(f"{scaler.metadata.name}: {room.message}")
    if status.cold_start is not None:
        known = status.cold_start
        phases = ", ".join(
            f"{name} {seconds:g} s"
            for name, seconds in (
                ("placing", known.placing_s),
                ("downloading", known.downloading_s),
                ("loading", known.loading_s),
                ("warming", known.warming_s),
            )
            if seconds
        )
        print(
            f"{scaler.metadata.name}: a start is expected to take {known.expected_s:g} s (the last: {phases})"
        )
    if status.sleep is not None:
        print(f"{scaler.metadata.name}: asleep it is {status.sleep.depth}: {status.sleep.reason}")


def _print(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], replay: bool) -> None:
    print(f"\n{title}:" + ("" if rows else " nothing has changed yet"))
    if rows:
        print_table((*columns, *(("again",) if replay else ())), rows)


def _said(again: Replayed | None) -> tuple[str, ...]:
    if again is None:
        return ()
    if again.failure:
        return (again.failure,)
    return ("the same",) if again.same else (f"now {again.outcome}: {'; '.join(again.reasons)}",)
