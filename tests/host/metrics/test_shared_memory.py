"""Weights that several processes map count once: shown with plain processes, and with two real engines of one model."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from free_ports import free_port
from penstock.host.kubelet.attempts import Attempt, ProcessSpec, start
from penstock.host.kubelet.layout import PodFolder
from penstock.host.metrics.processes import Consumption, Processes

sys.path.append(str(Path(__file__).parents[2] / "engine" / "convert"))
from checkpoints import decoder, safetensors

MIB = 1 << 20
WEIGHTS_BYTES = 96 * MIB
TINY = Path(__file__).parents[3] / "src/penstock/models/penstock-tiny"
MAP = """
import mmap, sys, time
with open(sys.argv[1], "rb") as file:
    weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(weights[at] for at in range(0, len(weights), 4096))
print("mapped", flush=True)
time.sleep(600)
"""
START_S = 120.0

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells who shares a page"),
]


async def _replica(folder: PodFolder, argv: tuple[str, ...], said: str) -> Attempt:
    """It runs once its log has `said`."""
    attempt = await start(folder.container("main"), 0, ProcessSpec(argv, {}, TINY))
    async with asyncio.timeout(START_S):
        while not any(said in path.read_text(errors="replace") for path in folder.path.rglob("log*")):
            await asyncio.sleep(0.05)
    return attempt


def _seen(processes: Processes, *folders: PodFolder) -> list[Consumption]:
    return [processes.consumption(folder)["main"] for folder in folders]


async def test_a_file_that_two_processes_map_counts_half_in_each(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(WEIGHTS_BYTES))
    folders, running = [PodFolder(tmp_path / name) for name in ("one", "other")], []
    argv = (sys.executable, "-S", "-c", MAP, str(weights))
    try:
        running.append(await _replica(folders[0], argv, "mapped"))
        (alone,) = _seen(Processes(), folders[0])
        assert alone.memory_bytes > WEIGHTS_BYTES
        running.append(await _replica(folders[1], argv, "mapped"))
        both = [one.memory_bytes for one in _seen(Processes(), *folders)]
        assert max(both) < 0.7 * WEIGHTS_BYTES
        assert WEIGHTS_BYTES < sum(both) < 1.4 * WEIGHTS_BYTES
        await running.pop().kill()
        (left,) = _seen(Processes(), folders[0])
        assert left.memory_bytes > WEIGHTS_BYTES
    finally:
        for attempt in running:
            await attempt.kill()


def _model(folder: Path) -> Path:
    """The tiny model, made larger with random weights."""
    shutil.copytree(TINY, folder)
    config = json.loads((TINY / "config.json").read_text())
    config |= {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "head_dim": 64}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 8}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.astype(np.float16) for name, tensor in decoder(config).items()}
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    return folder


def _mapped(pids: frozenset[int], file: Path) -> tuple[int, int]:
    """Bytes of the file in these processes: as they seem to have them, and with each page shared among those that have it."""
    rss = pss = 0
    for pid in pids:
        inside = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = line.endswith(str(file))
            elif inside and (found := re.match(r"(Rss|Pss): +(\d+) kB", line)):
                rss += int(found[2]) * 1024 * (found[1] == "Rss")
                pss += int(found[2]) * 1024 * (found[1] == "Pss")
    return rss, pss


async def _ready(port: int) -> None:
    def asked() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    async with asyncio.timeout(START_S):
        while not await asyncio.to_thread(asked):
            await asyncio.sleep(0.1)


def _answered(port: int) -> None:
    """With a whole answer, so that all weights were needed."""
    body = json.dumps({"model": "m", "prompt": "Once upon a time", "max_tokens": 8}).encode()
    head = {"content-type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, head), timeout=60
    ) as answer:
        assert answer.status == 200


@pytest.mark.timeout(300)
async def test_two_engines_of_one_model_have_its_weights_once(tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai")
    model, running = _model(tmp_path / "model"), []
    folders = [PodFolder(tmp_path / name) for name in ("one", "other")]
    try:
        for folder in folders:
            port = free_port()
            argv = (sys.executable, "-m", "penstock.engine", f"--model_dir={model}", "--model_name=m")
            more = (
                f"--http_port={port}",
                "--host=127.0.0.1",
                f"--cache_dir={tmp_path / 'cache'}",
                "--threads=1",
            )
            spec = ProcessSpec((*argv, *more), {}, tmp_path)
            running.append(await start(folder.container("main"), 0, spec))
            await _ready(port)
            await asyncio.to_thread(_answered, port)
        both = _seen(Processes(), *folders)
        together = sum(one.memory_bytes for one in both)
        (weights,) = (tmp_path / "cache").rglob("openvino_model.bin")
        size = weights.stat().st_size
        rss, pss = _mapped(both[0].pids | both[1].pids, weights)
        assert rss > 1.9 * size
        assert 0.95 * size < pss < 1.05 * size
        await running.pop().kill()
        alone = _seen(Processes(), folders[0])[
            0
        ].memory_bytes  # of the same engine a moment later: what it had before, it has
        assert together < 2 * alone - 0.95 * size
        print(f"weights {size >> 20} MiB, one engine {alone >> 20} MiB, two {together >> 20} MiB")
    finally:
        for attempt in running:
            await attempt.kill()
