"""What vLLM's metrics say beyond those of every engine: adapters and preemptions."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.engine.simulated.model import Engine


class ModelCollector(Collector):
    """Reads the model whenever metrics are asked for."""

    def __init__(self, model: Engine, name: str) -> None:
        self._model = model
        self._name = name

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        preempted = CounterMetricFamily(
            "vllm:num_preemptions", "Requests that lost their blocks and began again", labels=["model_name"]
        )
        preempted.add_metric([self._name], self._model.preemptions)
        yield preempted
        slots = self._model.adapters.slots
        if slots:
            info = GaugeMetricFamily(
                "vllm:lora_requests_info",
                "When this was so, in Unix time",
                labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
            )
            running, waiting = self._model.adapters_in_use()
            info.add_metric([str(slots), ",".join(running), ",".join(waiting)], time.time())
            yield info
