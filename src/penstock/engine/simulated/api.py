"""The simulated engine's paths: OpenAI's and vLLM's, LoRA adapters, and faults on purpose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson

from penstock.engine.api import Api
from penstock.engine.http import Exchange
from penstock.engine.simulated.exchanges import CutShort, WithFields
from penstock.engine.simulated.faults import Fault, read_fault
from penstock.engine.simulated.live import Aspect, Simulation
from penstock.engine.simulated.transfers import read_transfer, told
from penstock.engine.surface import model_object
from penstock.engine.text import Vocabulary
from penstock.engine.wishes import Bounds, read_object, wrong
from penstock.kit.errors import Internal, InvalidInput, NotFound, Unavailable

GENERATES = ("/v1/completions", "/v1/chat/completions")
MAX_ADAPTERS = 1024


class SimulatedApi:
    """Answers exchanges. `faults` happen by chance; with `allows_faults` a request may ask for one by `x-penstock-fault`."""

    def __init__(
        self,
        simulation: Simulation,
        text: Vocabulary,
        bounds: Bounds,
        created: int,
        address: tuple[str, int],
        *,
        faults: Sequence[Fault] = (),
        allows_faults: bool = False,
    ) -> None:
        """`created` is Unix time, for the model's object; `address` is where other engines fetch KV."""
        self._engine_id = uuid4().hex
        self._address = address
        self.draining = False
        self._simulation = simulation
        self._text = text
        self._bounds = bounds
        self._created = created
        self._faults = faults
        self._allows_faults = allows_faults
        self._base = Api(simulation, text, bounds, created)
        self._adapters: dict[str, Api] = {}

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one. Raises PlatformError for what is refused."""
        path = exchange.path.removeprefix("/openai")
        match (exchange.method, path):
            case ("POST", "/v1/load_lora_adapter"):
                self._load(exchange)
            case ("POST", "/v1/unload_lora_adapter"):
                self._unload(exchange)
            case ("POST", "/reset_prefix_cache"):
                self._simulation.forget()
                exchange.send(200, b"", b"text/plain")
            case ("GET" | "HEAD", "/v1/models"):
                exchange.send(200, {"object": "list", "data": [self._base.model, *self._adapter_models()]})
            case ("POST", one) if one in GENERATES:
                await self._generate(exchange)
            case _:
                await self._serve(self._base, exchange)

    async def _generate(self, exchange: Exchange) -> None:
        transfer, name = read_transfer(exchange.body), self._adapter_of(exchange)
        exchange = await self._fail(exchange)
        if transfer is None:
            await self._serve(self._adapters.get(name, self._base), exchange)
            return
        bounds = replace(self._bounds, model=name or self._bounds.model)
        api = Api(Aspect(self._simulation, name, transfer), self._text, bounds, self._created)
        if transfer.is_kept:
            exchange = WithFields(exchange, self._told)
        await self._serve(api, exchange)

    def _told(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        blocks = -(-answer["usage"]["prompt_tokens"] // self._simulation.model.profile.block_tokens)
        return told(self._engine_id, *self._address, blocks)

    def _adapter_of(self, exchange: Exchange) -> str:
        """The adapter that the body names as its model, or ""; what is wrong with it is said by the base model's."""
        try:
            body = orjson.loads(exchange.body) if self._adapters else None
        except orjson.JSONDecodeError:
            body = None
        name = body.get("model") if isinstance(body, dict) else None
        return name if isinstance(name, str) and name in self._adapters else ""

    async def _serve(self, api: Api, exchange: Exchange) -> None:
        api.draining = self.draining
        await api(exchange)

    def _adapter_models(self) -> list[dict[str, Any]]:
        return [
            {**model_object(name, self._created), "parent": self._bounds.model, "root": name}
            for name in self._adapters
        ]

    def _load(self, exchange: Exchange) -> None:
        name = _adapter_name(exchange)
        if not self._simulation.model.adapters.slots:
            raise InvalidInput("this engine serves no LoRA adapters", code="no_adapters")
        if name in self._adapters or name == self._bounds.model:
            raise InvalidInput(f"The lora adapter '{name}' has already been loaded.", code="adapter_exists")
        if len(self._adapters) >= MAX_ADAPTERS:
            raise InvalidInput(f"{MAX_ADAPTERS} adapters are loaded", code="too_many_adapters")
        generator = Aspect(self._simulation, name)
        self._adapters[name] = Api(generator, self._text, replace(self._bounds, model=name), self._created)
        exchange.send(200, f"Success: LoRA adapter '{name}' added successfully.".encode(), b"text/plain")

    def _unload(self, exchange: Exchange) -> None:
        name = _adapter_name(exchange)
        if self._adapters.pop(name, None) is None:
            raise NotFound(f"The lora adapter '{name}' cannot be found.", code="unknown_adapter")
        self._simulation.model.adapters.unload(name)
        exchange.send(200, f"Success: LoRA adapter '{name}' removed successfully.".encode(), b"text/plain")

    async def _fail(self, exchange: Exchange) -> Exchange:
        """The fault that this request has, if it has one; answers the exchange to go on with."""
        fault = self._fault_of(exchange)
        match fault.name if fault else "":
            case "refuse":
                raise Unavailable("refused on purpose", code="fault", retry_after_s=1.0)
            case "error":
                raise Internal("failed on purpose", code="fault")
            case "delay":
                await asyncio.sleep(fault.value if fault else 0.0)
            case "hang":
                await asyncio.Event().wait()
            case "forget":
                self._simulation.forget()
            case "drop-events":
                self._simulation.lose_events(int(fault.value) if fault else 0)
            case "cut":
                return CutShort(exchange, int(fault.value) if fault else 0)
        return exchange

    def _fault_of(self, exchange: Exchange) -> Fault | None:
        if exchange.fault:
            if not self._allows_faults:
                raise InvalidInput(
                    "x-penstock-fault: this engine has no faults on demand",
                    hint="start it with --allow-faults",
                )
            return read_fault(exchange.fault, "x-penstock-fault")
        return next((fault for fault in self._faults if random.random() < fault.share), None)  # noqa: S311  no secret


def _adapter_name(exchange: Exchange) -> str:
    name = read_object(exchange.body).get("lora_name")
    if not isinstance(name, str) or not name:
        raise wrong("lora_name", name, "a name")
    return name
