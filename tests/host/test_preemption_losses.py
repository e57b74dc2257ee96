"""What a preemption destroyed is known: a torn checkpoint does not count but the one before it does, and work lost has a price."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from test_preemption_controller import GpuWorld, ledger, reasons

from penstock.decide.checkpoint import Checkpoint
from penstock.decide.prices import INSTANCE_TYPE, Price
from penstock.host.kubelet.checkpoints import VERIFIED, CheckpointReader
from penstock.host.kubelet.layout import Layout
from penstock.host.preemption import PreemptionController
from penstock.host.preemption_ledger import PreemptionLedger
from penstock.resources.checkpoint import MANIFEST, ON_DEMAND
from penstock.resources.core import Node
from penstock.testing.world import World

pytestmark = pytest.mark.looptime
HOUR_USD = 28.8


def save(folder: Path, step: int, at: float, *, torn: bool = False) -> None:
    """Each step in a file of its own; a torn one lacks its end, at the size that was promised."""
    folder.mkdir(parents=True, exist_ok=True)
    content = f"weights of {step}".encode()
    digest = hashlib.sha256(content).hexdigest()
    (folder / f"step-{step}").write_bytes(content[:-2] + b"\0\0" if torn else content)
    manifest = {"path": f"step-{step}", "step": step, "bytes": len(content), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    os.utime(folder / MANIFEST, (at, at))


class PricedWorld(GpuWorld):
    """The node costs 28.80 USD per hour."""

    def preemption(self, world: World, layout: Layout) -> PreemptionController:
        price = Price(instance="four", usd_micros=round(HOUR_USD * 1e6), date="2026-11-01", source="a test")
        parts = (world.cluster, world.cache, world.recorder.named("preemption"), world.clock)
        return PreemptionController(*parts, layout=layout, prices=(price,))

    async def prepared(self) -> None:
        await super().prepared()
        await self.cluster.patch(Node, "n1", "", {"metadata": {"labels": {INSTANCE_TYPE: "four"}}})


def counted(name: str, namespace: str, role: str) -> float:
    return REGISTRY.get_sample_value(name, {"namespace": namespace, "role": role}) or 0.0


def test_where_the_newest_is_torn_the_one_before_counts(tmp_path: Path) -> None:
    reader = CheckpointReader()
    save(tmp_path, 1, 1000.0)
    first = reader.read(tmp_path)
    assert isinstance(first, Checkpoint)
    save(tmp_path, 2, 2000.0, torn=True)
    for each in (reader, CheckpointReader()):  # the second as after a restart
        found = each.read(tmp_path)
        assert isinstance(found, Checkpoint)
        assert (found.step, found.saved_at) == (1, 1000.0)
        assert "step-2 has another sha256" in found.instead_of
    (tmp_path / "step-1").unlink()
    assert "step-2 has another sha256" in str(reader.read(tmp_path))


def test_who_takes_its_manifest_away_begins_anew(tmp_path: Path) -> None:
    reader = CheckpointReader()
    save(tmp_path, 1, 1000.0)
    assert isinstance(reader.read(tmp_path), Checkpoint)
    assert (tmp_path / VERIFIED).exists()
    (tmp_path / MANIFEST).unlink()
    assert "No such file" in str(reader.read(tmp_path))


async def test_the_ledger_says_which_checkpoint_counts_and_why(tmp_path: Path) -> None:
    async with PricedWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=4, **{ON_DEMAND: "false"})
        await asyncio.sleep(100)
        folder = Layout(tmp_path).claim("default", "a")
        save(folder, 7, world.clock.now())
        await asyncio.sleep(100)
        save(folder, 8, world.clock.now(), torn=True)
        await asyncio.sleep(100)
        await world.serve("chat", gpus=1)
        await asyncio.sleep(60)
        [entry] = (await ledger(world)).entries
        assert (entry.outcome, entry.step) == ("LastCheckpoint", 7)
        assert "step-8 has another sha256" in entry.broken
        assert 4 * 200 <= entry.lost_gpu_seconds <= 4 * 240, "since step 7"
        told = reasons(await world.events(), "CheckpointBroken", "GaveWay")
        assert any("step 7 counts" in event for event in told)
        assert any("goes on from its last checkpoint at step 7 (step-8 has" in event for event in told)


async def test_work_lost_is_counted_in_money_for_who_lost_it_and_for_whom(tmp_path: Path) -> None:
    names = ("penstock_preemption_namespace_gpu_seconds_total", "penstock_preemption_namespace_usd_total")
    before = [counted(name, "default", role) for name in names for role in ("lost", "caused")]
    async with PricedWorld(tmp_path) as world:
        await world.prepared()
        await world.train("a", gpus=2, **{ON_DEMAND: "false"})
        await asyncio.sleep(100)
        await world.serve("chat", gpus=3)
        await asyncio.sleep(60)
        found = await ledger(world)
        [entry] = found.entries
        usd = HOUR_USD * entry.lost_gpu_seconds / (4 * 3600)
        assert entry.lost_usd_micros == pytest.approx(usd * 1e6, abs=2)
        assert found.totals.of == found.totals.by == {"default": entry.lost_gpu_seconds}
        assert found.totals.of_usd_micros == found.totals.by_usd_micros == {"default": entry.lost_usd_micros}
        after = [counted(name, "default", role) for name in names for role in ("lost", "caused")]
        gained = [now - then for now, then in zip(after, before, strict=True)]
        lost = entry.lost_gpu_seconds
        assert gained == pytest.approx([lost, lost, entry.lost_usd_micros / 1e6, entry.lost_usd_micros / 1e6])
        assert (await PreemptionLedger(world.cluster).read()) == found
