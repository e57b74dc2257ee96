"""How tests ask programs on this machine over HTTP: `httpx.get(url, **PATIENT)`."""

from __future__ import annotations

import ssl
from typing import Any

PLAIN: dict[str, Any] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
"""No proxy, and no certificate authorities: httpx would read all of them for each client and each call, 40 ms of a processor."""
PATIENT: dict[str, Any] = {**PLAIN, "timeout": 30.0}
"""httpx itself gives up after 5 s, for which whoever is asked may stand still on a busy machine."""
