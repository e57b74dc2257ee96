"""How many retries may a service still make?

Retries may never multiply an outage: they are a share of requests. As in Finagle's RetryBudget (deposits live 10 s, 20 % of
requests on top of a floor per second) and Envoy's `retry_budget` (20 %, floor of 3): each request deposits 0.2, time deposits 3
per second, a retry takes 1, and what is not taken fades with a time constant of 10 s. A service at rest holds 30.
"""

from __future__ import annotations

from math import exp, expm1

SHARE = 0.2
FLOOR_PER_S = 3.0
MEMORY_S = 10.0
AT_REST = FLOOR_PER_S * MEMORY_S


def refilled(balance: float, requests: int, elapsed_s: float) -> float:
    """The balance after `elapsed_s` in which `requests` came evenly: the solution of b' = 3 + 0.2·rate − b/10."""
    if elapsed_s < 1e-6:
        return balance + SHARE * requests
    level = (FLOOR_PER_S + SHARE * requests / elapsed_s) * MEMORY_S
    return balance * exp(-elapsed_s / MEMORY_S) - level * expm1(-elapsed_s / MEMORY_S)
