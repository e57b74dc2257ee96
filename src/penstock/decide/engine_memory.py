"""How much of a GPU may an engine take, and how much does it take for itself?

Shares are the engines' defaults: vLLM 0.92 since 0.21, 0.9 before; SGLang 0.88; Ollama uses a GPU only if four fifths of it suffice;
llama.cpp takes what is there. What vLLM takes for itself is what starts of it said in their logs: 80 MiB that are not PyTorch's, buffers for
collectives where ranks share a model, CUDA graphs (which count towards its share since 0.21), and, outside of its share, CUDA's context. For engines that
say less it begins at 2 GiB, 0.5 for llama.cpp, and is corrected by what they report. The embedded engine was measured: 160 MiB, and four bytes for
each weight, into which processors without AVX-512 unpack its int8; with it half of that is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from penstock.kit.errors import InvalidInput, nearest

GIB, MIB = 1 << 30, 1 << 20
LARGE_BYTES = 70 * GIB
"""vLLM computes larger batches, of more requests, on GPUs from here on, A100s left out."""
SMALL_BATCH, LARGE_BATCH = 2048, 8192
SMALL_SEQUENCES, LARGE_SEQUENCES = 256, 1024
SORTED_LOGIT_BYTES, FUSED_LOGIT_BYTES = 38.4, 16.4
"""What a logit takes at the widest moment of sampling in vLLM: sorted (as PyTorch does it for top-k and top-p), or in one kernel."""
LINKED = re.compile(r"a100|h100|h200|h20|gh200|b200|b300|gb200|v100", re.IGNORECASE)
"""GPUs that are joined by NVLink, where NCCL keeps larger buffers."""
LINKED_BYTES, UNLINKED_BYTES = 1434 * MIB, 205 * MIB
"""Buffers of collectives on each rank: 1.4 and 0.2 GiB."""
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})")


class EngineMemory(Struct, frozen=True, kw_only=True):
    """`batched_tokens` of prompts are computed at once, 0 if it depends on the GPU as with vLLM. `caps_windows`: layers with a sliding
    window keep no more than it. `halves_floats`: 32-bit weights are loaded in 16 bits. `all_logits`: room for those of a whole batch.
    `unpacks`: weights take four bytes each once they are in use, however they are stored. `is_spread`: it can use several GPUs.

    `logit_bytes` is what each logit takes while tokens are sampled. `graph_bytes` are CUDA graphs, of each layer, and `expert_graph_bytes` of one with experts;
    they count towards the engine's share if `counts_graphs`. `context_bytes` is what CUDA keeps outside of it. With `has_collectives` ranks
    have buffers beside `overhead_bytes`.
    """

    name: str
    version: str = ""
    utilization: float = 0.9
    overhead_bytes: int = 2 * GIB
    block_tokens: int = 16
    batched_tokens: int = 0
    caps_windows: bool = True
    halves_floats: bool = True
    all_logits: bool = False
    unpacks: bool = False
    is_spread: bool = True
    logit_bytes: float = 8.0
    graph_bytes: int = 0
    expert_graph_bytes: int = 0
    counts_graphs: bool = False
    context_bytes: int = 0
    has_collectives: bool = False

    def overhead(self, gpu: str, memory_bytes: int, ranks: int) -> int:
        """What it takes for itself on one of so many ranks, CUDA graphs left out."""
        if ranks == 1 or not self.has_collectives:
            return self.overhead_bytes
        is_linked = memory_bytes >= LARGE_BYTES or LINKED.search(gpu) is not None
        return self.overhead_bytes + (LINKED_BYTES if is_linked else UNLINKED_BYTES)

    def sequences(self, gpu: str, memory_bytes: int) -> int:
        """Requests that vLLM makes room for where nobody says how many; 0 for engines whose default is not known."""
        if self.name != "vllm":
            return 0
        return (
            LARGE_SEQUENCES if self._is_large(gpu, memory_bytes) and self._is_since(0, 9) else SMALL_SEQUENCES
        )

    def batched(self, gpu: str, memory_bytes: int) -> int:
        """Tokens at once on this GPU."""
        if self.batched_tokens:
            return self.batched_tokens
        return LARGE_BATCH if self._is_large(gpu, memory_bytes) else SMALL_BATCH

    def _is_large(self, gpu: str, memory_bytes: int) -> bool:
        return memory_bytes >= LARGE_BYTES and "a100" not in gpu.lower()

    def _is_since(self, *number: int) -> bool:
        """Whether it is of this version or newer; no version means the newest."""
        found = _VERSION.match(self.version)
        return found is None or (int(found[1]), int(found[2])) >= number


ENGINES = {
    engine.name: engine
    for engine in (
        EngineMemory(
            name="vllm",
            utilization=0.92,
            overhead_bytes=80 * MIB,
            logit_bytes=SORTED_LOGIT_BYTES,
            graph_bytes=20 * MIB,
            expert_graph_bytes=40 * MIB,
            counts_graphs=True,
            context_bytes=GIB // 2,
            has_collectives=True,
        ),
        EngineMemory(
            name="sglang", utilization=0.88, block_tokens=1, batched_tokens=8192, caps_windows=False
        ),
        EngineMemory(name="tgi", utilization=0.95, block_tokens=1, batched_tokens=4096, caps_windows=False),
        EngineMemory(
            name="llama-cpp",
            utilization=1.0,
            overhead_bytes=GIB // 2,
            block_tokens=256,
            batched_tokens=512,
            halves_floats=False,
            all_logits=True,
            logit_bytes=4.0,
        ),
        EngineMemory(
            name="ollama",
            utilization=0.8,
            overhead_bytes=GIB // 2,
            block_tokens=256,
            batched_tokens=512,
            halves_floats=False,
            all_logits=True,
            logit_bytes=4.0,
        ),
        EngineMemory(
            name="penstock-cpu",
            utilization=1.0,
            overhead_bytes=160 << 20,
            block_tokens=32,
            batched_tokens=128,
            caps_windows=False,
            halves_floats=False,
            unpacks=True,
            is_spread=False,
        ),
    )
}


def engine_memory(name: str, version: str = "") -> EngineMemory:
    """The engine's numbers in this version; of the newest if it is not given. Raises InvalidInput for an engine that is not known."""
    engine = ENGINES.get(name)
    if engine is None:
        close = nearest(name, tuple(ENGINES), 1)
        raise InvalidInput(
            f"found engine {name!r}, expected one of {', '.join(ENGINES)}",
            code="unknown_engine",
            hint=f"did you mean {close[0]}?" if close else "",
        )
    found = _VERSION.match(version)
    if version and not found:
        raise InvalidInput(f"found version {version!r}, expected one such as 0.21.0", code="invalid_version")
    if found and name == "vllm":
        number = int(found[1]), int(found[2])
        engine = replace(
            engine,
            utilization=0.92 if number >= (0, 21) else 0.9,
            caps_windows=number >= (0, 10),
            counts_graphs=number >= (0, 21),
            logit_bytes=FUSED_LOGIT_BYTES if number >= (0, 26) else SORTED_LOGIT_BYTES,
        )
    return replace(engine, version=version)


def usual_engine(files: Sequence[str]) -> str:
    """Which serves files of this format."""
    if any(name.endswith(".gguf") for name in files):
        return "llama-cpp"
    return "penstock-cpu" if any(name.endswith(".xml") for name in files) else "vllm"
