"""The world that the kubelet's tests run in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubelet_world import World

from penstock.kit.errors import NotFound
from penstock.resources.pod import Pod


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "home")
    yield made
    if made.kubelet is None:
        await made.up()
    with contextlib.suppress(NotFound):
        for pod in (await made.cluster.list(Pod)).items:
            await made.cluster.delete(Pod, pod.metadata.name, "default", grace_period_s=1)
        for pod in (await made.cluster.list(Pod)).items:
            await made.gone(pod.metadata.name)
    await made.down(stop=True)
