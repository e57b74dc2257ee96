"""How much of a GPU may an engine take, and how much does it take for itself?

Shares are the engines' defaults: vLLM 0.92 since 0.21, 0.9 before; SGLang 0.88; Ollama uses a GPU only if four fifths of it suffice;
llama.cpp takes what is there. What they take for themselves begins at 2 GiB (CUDA context, collectives, graphs, fragmentation), 0.5 GiB for
llama.cpp, and is corrected by what they report. The embedded engine was measured: 160 MiB, and four bytes for each weight, into which processors
without AVX-512 unpack its int8; with it half of that is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from penstock.kit.errors import InvalidInput, nearest

GIB = 1 << 30
LARGE_BYTES = 70 * GIB
"""vLLM computes larger batches on GPUs from here on, A100s left out."""
SMALL_BATCH, LARGE_BATCH = 2048, 8192
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})")


class EngineMemory(Struct, frozen=True, kw_only=True):
    """`batched_tokens` of prompts are computed at once, 0 if it depends on the GPU as with vLLM. `caps_windows`: layers with a sliding
    window keep no more than it. `halves_floats`: 32-bit weights are loaded in 16 bits. `all_logits`: room for those of a whole batch.
    `unpacks`: weights take four bytes each once they are in use, however they are stored. `is_spread`: it can use several GPUs.
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

    def batched(self, gpu: str, memory_bytes: int) -> int:
        """Tokens at once on this GPU."""
        if self.batched_tokens:
            return self.batched_tokens
        return LARGE_BATCH if memory_bytes >= LARGE_BYTES and "a100" not in gpu.lower() else SMALL_BATCH


ENGINES = {
    engine.name: engine
    for engine in (
        EngineMemory(name="vllm", utilization=0.92),
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
        ),
        EngineMemory(
            name="ollama",
            utilization=0.8,
            overhead_bytes=GIB // 2,
            block_tokens=256,
            batched_tokens=512,
            halves_floats=False,
            all_logits=True,
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
            engine, utilization=0.92 if number >= (0, 21) else 0.9, caps_windows=number >= (0, 10)
        )
    return replace(engine, version=version)


def usual_engine(files: Sequence[str]) -> str:
    """Which serves files of this format."""
    if any(name.endswith(".gguf") for name in files):
        return "llama-cpp"
    return "penstock-cpu" if any(name.endswith(".xml") for name in files) else "vllm"
