"""Two gateways in two processes, over real sockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gossip_process import CHAIN, join
from test_far_peers import free_port

from penstock.gateway.gossip_inbox import SILENT_S


async def until(holds: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("way", ["near", "far"])
async def test_a_process_knows_what_another_has_under_way_until_that_is_killed(
    way: str, tmp_path: Path
) -> None:
    ports = [str(free_port()), str(free_port())]
    theirs = ["near", str(tmp_path)] if way == "near" else ["far", *ports]
    own = ["near", str(tmp_path)] if way == "near" else ["far", *reversed(ports)]
    gossip, router, channel = await join(own)
    running = asyncio.create_task(gossip.run())
    program = Path(__file__).with_name("gossip_process.py")
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(program), *theirs, stdout=asyncio.subprocess.PIPE
    )
    load = router.loads["pod-0"]
    try:
        await until(lambda: load.in_flight == 2, 30)
        assert load.uncached_tokens == 2 * 300 * 64
        await until(lambda: dict(router.index.match(CHAIN, 0.0)) == {"pod-0": 300}, 30)
        assert router.shares.own("pod-0").in_flight == 0
    finally:
        child.kill()
        await child.wait()
    await until(lambda: load.in_flight == 0, SILENT_S + 30)
    assert load.uncached_tokens == 0
    running.cancel()
    channel.close()
