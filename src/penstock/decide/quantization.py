"""How large do weights become when they are quantised?

Bits per weight with the scales that belong to them: FP8 and INT8 have a scale for each row, so small that it is left out; 4-bit methods
(AWQ, GPTQ) have a 16-bit scale and a zero point for each group of 128, bitsandbytes' NF4 a 32-bit maximum for each 64, MXFP4 an 8-bit
scale for each 32, NVFP4 one for each 16.
"""

from __future__ import annotations

from fractions import Fraction

BITS = {
    "fp8": Fraction(8),
    "int8": Fraction(8),
    "awq": 4 + Fraction(16 + 4, 128),
    "gptq": 4 + Fraction(16 + 4, 128),
    "int4": 4 + Fraction(16 + 4, 128),
    "bitsandbytes": 4 + Fraction(32, 64),
    "mxfp4": 4 + Fraction(8, 32),
    "nvfp4": 4 + Fraction(8, 16),
}
"""By the name that vLLM gives the method. Per weight."""
SIMILAR = {
    "awq_marlin": "awq",
    "gptq_marlin": "gptq",
    "fbgemm_fp8": "fp8",
    "modelopt": "fp8",
    "modelopt_fp4": "nvfp4",
}


def quantized_bytes(parameters: int, method: str, bits: int = 0) -> int:
    """Of so many weights. `bits` is what the files' own configuration says, 0 where it does not; a method not known here counts 8."""
    known = SIMILAR.get(method, method)
    per_weight = BITS.get(known, Fraction(8))
    if bits in (2, 3, 4, 8) and known in ("awq", "gptq"):
        per_weight = bits + Fraction(16 + bits, 128)
    size = parameters * per_weight / 8
    return -(-size.numerator // size.denominator)
