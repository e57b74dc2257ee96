"""An engine process that the host places on a real GPU: what its memory was estimated to be, what NVML counts, and what was learned of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from platform_process import Platform, running_platform, until

from penstock.app.gpu_types import load_gpu_types
from penstock.contracts.devices import Gpu
from penstock.decide.inventory import shares_of
from penstock.decide.pod_fit import certificate_of
from penstock.host.gpu_readings import read_gpus
from penstock.host.gpus import discover_gpus
from penstock.resources.parse import parse
from penstock.resources.pod import Pod

STAND_IN = Path(__file__).parent / "vllm" / "stand_in.py"
MODELS = json.loads((Path(__file__).parents[2] / "benchmarks" / "fit" / "models.json").read_text())
SHAPES = ("Llama-3.2-1B", "Llama-3.2-3B")
CONTEXT, REQUESTS, BATCH, CACHE_BYTES = 4096, 16, 2048, 2 << 30
MIB = 1 << 20


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    """The one with most memory free."""
    found = [one for one in discover_gpus(load_gpu_types()) if not one.is_mig]
    if not found:
        pytest.skip("there is no NVIDIA driver, or no GPU that is not partitioned, on this machine")
    readings = read_gpus()
    best = max(found, key=lambda one: readings[one.uuid]["FB_FREE"])
    if readings[best.uuid]["FB_FREE"] < 12 << 10:
        pytest.skip("no GPU of this machine has 12 GiB free")
    return best


@pytest.fixture(scope="module")
def platform(gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("home"), "--no-quickstart") as platform:
        yield platform


def write_headers(folder: Path, config: dict[str, Any]) -> None:
    """A model of this shape whose weights are a hole in a file: only their headers are ever read."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kept = config["num_key_value_heads"] * config["head_dim"]
    asked = config["num_attention_heads"] * config["head_dim"]
    matrices = {"q_proj": (asked, hidden), "k_proj": (kept, hidden), "v_proj": (kept, hidden), "o_proj": (hidden, asked),
                "gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        names = {f"model.layers.{layer}.{name}.weight": shape for name, shape in matrices.items()}
        shapes |= names | {f"model.layers.{layer}.{name}_norm.weight": (hidden,) for name in ("in", "post")}
    head, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(head).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def manifest(name: str, model: Path, **annotations: str) -> str:
    said = [
        f"--model={model}", "--host=$(POD_IP)", "--port=8080", f"--kv-cache-memory-bytes={CACHE_BYTES}", f"--max-model-len={CONTEXT}",
        f"--max-num-seqs={REQUESTS}", f"--max-num-batched-tokens={BATCH}", "--enforce-eager",
    ]  # fmt: skip
    env: list[dict[str, Any]] = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    if libraries := os.environ.get("LD_LIBRARY_PATH"):
        env.append({"name": "LD_LIBRARY_PATH", "value": libraries})
    container = {
        "name": "engine", "command": [sys.executable, "-u", str(STAND_IN), "serve"], "args": said, "env": env,
        "resources": {"limits": {"nvidia.com/gpu": "1"}}, "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
    }  # fmt: skip
    return json.dumps(
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        }
    )  # fmt: skip


def pod_named(platform: Platform, name: str) -> Pod | None:
    done = platform.penstock("get", "pod", name, "-o", "json")
    if done.returncode:
        return None
    found = parse(json.loads(done.stdout)).object
    assert isinstance(found, Pod)
    return found


def ready(platform: Platform, name: str) -> Pod | None:
    pod = pod_named(platform, name)
    if pod is not None and pod.status.phase == "Failed":
        pytest.fail(platform.penstock("logs", name).stdout)
    is_ready = pod is not None and any(one.ready for one in pod.status.container_statuses)
    return pod if is_ready else None


def metrics(platform: Platform) -> str:
    """As Prometheus scrapes them."""
    headers = {"Authorization": f"Bearer {(platform.home / 'token').read_text().strip()}"}
    url = f"https://127.0.0.1:{platform.api_port}/metrics"
    return httpx.get(url, headers=headers, verify=False, timeout=30, trust_env=False).text


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_engine_takes_what_was_estimated_for_it(
    platform: Platform, gpu: Gpu, shape: str, tmp_path: Path
) -> None:
    config = next(model["config"] for model in MODELS if model["name"] == shape)
    write_headers(tmp_path / "model", config)
    name = shape.lower().replace(".", "-")
    before = read_gpus()
    done = platform.penstock("apply", "-f", "-", stdin=manifest(name, tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    pod = until(f"{name} is ready", lambda: ready(platform, name), 120)
    (share,) = shares_of(pod)
    certificate = certificate_of(pod)
    assert certificate is not None
    taken = (read_gpus()[share.gpu]["FB_USED"] - before[share.gpu]["FB_USED"]) * MIB
    print(
        f"\n{shape} on {certificate.gpu}: {certificate.inequality}\nwith CUDA's context {certificate.footprint_bytes / MIB:.0f} MiB, "
        f"NVML counts {taken / MIB:.0f} MiB ({100 * (certificate.footprint_bytes / taken - 1):+.1f} %)"
    )
    assert abs(certificate.footprint_bytes / taken - 1.0) < 0.1
    assert taken <= 1.03 * certificate.footprint_bytes
    used = re.search(rf'DCGM_FI_DEV_FB_USED{{[^}}]*UUID="{share.gpu}"[^}}]*}} (\S+)', metrics(platform))
    assert used and float(used[1]) * MIB >= 0.97 * taken
    learned = until("what it took is learned", lambda: events(platform, name, "FitLearned"), 60)
    print(learned)
    assert platform.penstock("delete", "pod", name).returncode == 0
    until(f"{name} is gone", lambda: pod_named(platform, name) is None)
    until(
        "its memory is free", lambda: read_gpus()[share.gpu]["FB_USED"] <= before[share.gpu]["FB_USED"] + 64
    )


def events(platform: Platform, name: str, reason: str) -> str:
    """What was said of the pod."""
    done = platform.penstock("describe", "pod", name)
    found = [line for line in done.stdout.splitlines() if reason in line]
    return found[0] if found else ""


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_a_model_that_does_not_fit_is_never_started(platform: Platform, gpu: Gpu, tmp_path: Path) -> None:
    config = next(model["config"] for model in MODELS if model["name"] == SHAPES[0])
    write_headers(tmp_path / "model", {**config, "num_hidden_layers": 4000})
    done = platform.penstock("apply", "-f", "-", stdin=manifest("huge", tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    said = until("it is told why", lambda: events(platform, "huge", "FailedScheduling"), 60)
    print(said)
    described = platform.penstock("describe", "pod", "huge").stdout
    assert "does not fit" in described
    assert platform.penstock("delete", "pod", "huge").returncode == 0


@pytest.mark.e2e
@pytest.mark.timeout(1200)
def test_vllm_itself_takes_what_was_estimated_for_it(platform: Platform, gpu: Gpu) -> None:
    """With vLLM installed and a model folder at hand: `PENSTOCK_TEST_MODEL=/models/llama make test-gpu`."""
    model = os.environ.get("PENSTOCK_TEST_MODEL", "")
    program = shutil.which("vllm")
    if not program or not model:
        pytest.skip("vLLM is not installed, or PENSTOCK_TEST_MODEL does not say where a model is")
    body = json.loads(manifest("vllm", Path(model)))
    body["spec"]["containers"][0]["command"] = [program, "serve"]
    done = platform.penstock("apply", "-f", "-", stdin=json.dumps(body))
    assert done.returncode == 0, done.stderr
    before = read_gpus()
    pod = until("vLLM is ready", lambda: ready(platform, "vllm"), 1000)
    certificate, (share,) = certificate_of(pod), shares_of(pod)
    assert certificate is not None
    taken = (read_gpus()[share.gpu]["FB_USED"] - before[share.gpu]["FB_USED"]) * MIB
    print(
        f"\n{certificate.inequality}\nwith CUDA's context {certificate.footprint_bytes / MIB:.0f} MiB, NVML counts {taken / MIB:.0f} MiB"
    )
    print(until("what it took is learned", lambda: events(platform, "vllm", "FitLearned"), 60))
    assert abs(certificate.footprint_bytes / taken - 1.0) < 0.15
    assert platform.penstock("delete", "pod", "vllm").returncode == 0
