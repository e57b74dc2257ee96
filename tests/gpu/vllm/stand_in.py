"""Takes the memory of a GPU that vLLM would, and says so in its words: a stand-in for machines without PyTorch.

    python tests/gpu/vllm/stand_in.py serve --model FOLDER --kv-cache-memory-bytes=N --max-num-batched-tokens=N --max-num-seqs=N --enforce-eager

Through CUDA's driver API alone: every tensor of the model's weight files gets its memory on the device, the KV cache as many bytes as it is told, one
batch the buffers that a decoder layer and sampling need at once. A kernel runs and is checked. Then it answers HTTP until it is ended.
"""

from __future__ import annotations

import argparse
import ctypes
import http.server
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

GIB, MIB = 1 << 30, 1 << 20
WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
KERNEL = b"""
.version 6.0
.target sm_60
.address_size 64
.visible .entry fill(.param .u64 out, .param .u32 n)
{
    .reg .pred %p<2>; .reg .b32 %r<6>; .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [out];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 4;
    add.s64 %rd4, %rd2, %rd3;
    st.global.u32 [%rd4], %r5;
DONE:
    ret;
}
\0"""
"""Writes its own number into each of n words."""


class Cuda:
    """The driver API, on the first device that is visible."""

    def __init__(self) -> None:
        self._api = ctypes.CDLL("libcuda.so.1")
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._call("cuCtxSetCurrent", self._context)

    def memory(self) -> tuple[int, int]:
        """Free and all, in bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def take(self, size: int) -> ctypes.c_uint64:
        """So many bytes, written to."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self._call("cuMemsetD8_v2", address, ctypes.c_ubyte(0), ctypes.c_size_t(size))
        return address

    def count_to(self, count: int) -> int:
        """What the kernel wrote into the last of so many words."""
        module, kernel, last = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint32()
        self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(KERNEL))
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, b"fill")
        words, number = self.take(4 * count), ctypes.c_uint32(count)
        pointers = (ctypes.c_void_p * 2)(
            *(ctypes.cast(ctypes.byref(one), ctypes.c_void_p) for one in (words, number))
        )
        blocks = -(-count // 256)
        self._call("cuLaunchKernel", kernel, blocks, 1, 1, 256, 1, 1, 0, None, pointers, None)
        self._call("cuCtxSynchronize")
        at = ctypes.c_uint64(words.value + 4 * (count - 1))
        self._call("cuMemcpyDtoH_v2", ctypes.byref(last), at, ctypes.c_size_t(4))
        self._call("cuMemFree_v2", words)
        return last.value

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._api, name)(*arguments):
            raise SystemExit(f"{name} failed with CUDA error {code}")


def tensors(folder: Path) -> list[int]:
    """Their sizes, by the headers of the weight files."""
    sizes = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            head = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        found = (one for name, one in head.items() if name != "__metadata__")
        sizes += [WIDTH[one["dtype"]] * math.prod(one["shape"]) for one in found]
    return sizes


def load(cuda: Cuda, sizes: list[int]) -> None:
    """Large tensors get memory of their own, small ones share some, as an allocator would have it."""
    for size in (one for one in sizes if one >= MIB):
        cuda.take(size)
    cuda.take(max(MIB, sum(one for one in sizes if one < MIB)))


def buffers(config: dict[str, Any], batched: int, requests: int) -> list[int]:
    """What one batch needs at once: hidden states and intermediates of a feed-forward, or hidden states and logits while they are sorted (in 16 and 32 bits, with
    64-bit places, probabilities and sums).
    """
    hidden, inner, words = (config[name] for name in ("hidden_size", "intermediate_size", "vocab_size"))
    forward = [2 * batched * hidden] * 4 + [2 * batched * inner] * 3
    sampled = [2 * batched * hidden] + [width * requests * words for width in (2, 4, 4, 8, 4, 4, 4, 4, 4)]
    return max(forward, sampled, key=sum)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    for name in ("kv-cache-memory-bytes", "max-model-len", "max-num-seqs", "max-num-batched-tokens"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    parser.add_argument("--enforce-eager", action="store_true")
    said = parser.parse_args()
    config = json.loads((said.model / "config.json").read_text())
    cuda = Cuda()
    if (last := cuda.count_to(1 << 20)) != (1 << 20) - 1:
        raise SystemExit(f"the kernel wrote {last}")
    start, total = cuda.memory()
    load(cuda, tensors(said.model))
    loaded, _ = cuda.memory()
    for size in buffers(config, said.max_num_batched_tokens, said.max_num_seqs):
        cuda.take(size)
    active, _ = cuda.memory()
    cuda.take(said.kv_cache_memory_bytes)
    share = said.gpu_memory_utilization
    print("vLLM API server version 0.25.0")
    print(f"non-default args: {{'max_num_seqs': {said.max_num_seqs}, 'enforce_eager': {said.enforce_eager}}}")
    print(f"Chunked prefill is enabled with max_num_batched_tokens={said.max_num_batched_tokens}.")
    print(f"Model loading took {(start - loaded) / GIB:.4f} GiB memory and 1.0 seconds")
    print(f"Available KV cache memory: {said.kv_cache_memory_bytes / GIB:.4f} GiB")
    print(
        f"Free memory on device ({start / GIB:.4f}/{total / GIB:.4f} GiB) on startup. Desired GPU memory utilization is ({share:.2f}, "
        f"{share * total / GIB:.4f} GiB). Actual usage is {(start - loaded) / GIB:.4f} GiB for weight, {(loaded - active) / GIB:.4f} GiB for peak "
        "activation, 0.0 GiB for non-torch memory, and 0.0 GiB for CUDAGraph memory.",
        flush=True,
    )
    http.server.ThreadingHTTPServer((said.host, said.port), Health).serve_forever()


class Health(http.server.BaseHTTPRequestHandler):
    """Answers every path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: probes come every second."""


if __name__ == "__main__":
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    main()
