"""What `penstock fit` shows: the certificate of one GPU, or a line for each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from penstock.app.model_headers import Headers
from penstock.cli.console import print_json, print_table
from penstock.decide.engine_memory import EngineMemory
from penstock.decide.fit import Certificate

GIB = 1 << 30
HEADERS = ("gpu", "gib", "fits", "need gib", "usable gib", "requests", "longest", "kv tokens")


def print_certificate(
    model: str, headers: Headers, engine: EngineMemory, certificate: Certificate, output: str
) -> None:
    """The inequality term by term, then what follows from it."""
    if output == "json":
        print_json(_document(model, headers, engine, [certificate]))
        return
    _print_model(model, headers, engine, certificate)
    rows = [(term.name, _gib(term.size_bytes), term.of) for term in certificate.terms]
    share = certificate.usable_bytes / certificate.device.memory_bytes
    rows.append(
        (
            "need",
            _gib(certificate.need_bytes),
            "on each of them" if certificate.plan.tensor_parallel > 1 else "",
        )
    )
    rows.append(
        (
            "usable",
            _gib(certificate.usable_bytes),
            f"{share:.2f} of {_gib(certificate.device.memory_bytes)} of {certificate.device.name}",
        )
    )
    print_table(("term", "gib", "of"), rows)
    print(f"\n{'fits' if certificate.fits else 'DOES NOT FIT'}: {certificate.inequality}")
    if certificate.kv_token_bytes:
        plan = certificate.plan
        print(
            f"room for {certificate.kv_tokens} tokens of {certificate.kv_token_bytes / 1024:.1f} KiB: {certificate.most_requests} requests of "
            f"{plan.context_tokens} tokens, or {plan.concurrency} of {certificate.longest_context}"
        )
    if certificate.arguments:
        print(f"tell vLLM: {' '.join(certificate.arguments)}")
    if not certificate.fits:
        print(
            "it would fit if you:"
            if certificate.changes
            else "no change that is known here would make it fit"
        )
    for change in certificate.changes:
        print(f"  - {change.text}")
    _print_notes(certificate)


def print_overview(
    model: str, headers: Headers, engine: EngineMemory, certificates: list[Certificate], output: str
) -> None:
    """Smallest GPU first."""
    if output == "json":
        print_json(_document(model, headers, engine, certificates))
        return
    ordered = sorted(certificates, key=lambda one: (one.device.memory_bytes, one.device.name))
    _print_model(model, headers, engine, ordered[0])
    rows = [
        (
            one.device.name,
            _gib(one.device.memory_bytes),
            "yes" if one.fits else "no",
            _gib(one.need_bytes),
            _gib(one.usable_bytes),
            one.most_requests,
            one.longest_context,
            one.kv_tokens,
        )
        for one in ordered
    ]
    print_table(HEADERS, rows)
    _print_notes(ordered[0])


def _print_model(model: str, headers: Headers, engine: EngineMemory, certificate: Certificate) -> None:
    shape, plan = headers.shape, certificate.plan
    sums: Counter[str] = Counter()
    for part in shape.weights:
        sums[part.dtype] += part.size_bytes
    stored = ", ".join(f"{_gib(size)} {dtype}" for dtype, size in sums.most_common(4))
    print(
        f"{model}: {shape.architecture or 'unknown architecture'}, {_gib(shape.weight_bytes)} GiB of weights in the files ({stored})"
    )
    spread = f", on {plan.tensor_parallel} GPUs" if plan.tensor_parallel > 1 else ""
    print(
        f"{plan.concurrency} requests of {plan.context_tokens} tokens with {engine.name}{spread}, KV cache {plan.kv_dtype}\n"
    )


def _print_notes(certificate: Certificate) -> None:
    for note in certificate.notes:
        print(f"note: {note}")
    print(f"accuracy: {certificate.learned.text}")


def _document(
    model: str, headers: Headers, engine: EngineMemory, certificates: list[Certificate]
) -> dict[str, Any]:
    return {
        "model": model,
        "files": headers.files,
        "shape": headers.shape,
        "engine": engine,
        "certificates": [
            {
                **msgspec.to_builtins(one),
                "terms": [term._asdict() for term in one.terms],
                "changes": [change._asdict() for change in one.changes],
                "kv_tokens": one.kv_tokens,
                "inequality": one.inequality,
                "stated_error": one.learned.text,
            }
            for one in certificates
        ],
    }


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.2f}"
