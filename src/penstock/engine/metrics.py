"""Metrics under vLLM's names where it has them, so that its dashboards and every router read them unchanged."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
_TOKEN = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_WHOLE = (0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)


class Metrics:
    """One engine's series, all labelled with the model's name, and its process's, by which routers see that it is another."""

    def __init__(self, model: str, blocks: int, block_tokens: int) -> None:
        """`blocks` of the KV pool, of `block_tokens` each."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._model = model
        self._running = self._gauge("num_requests_running", "Requests in the batch")
        self._waiting = self._gauge("num_requests_waiting", "Requests that are not in the batch yet")
        self._usage = self._gauge("kv_cache_usage_perc", "Share of the KV pool in use, 0 to 1")
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens")
        self.generation_tokens = self._counter("generation_tokens", "Generated tokens")
        self.prefix_queries = self._counter("prefix_cache_queries", "Prompt tokens that were looked up")
        self.prefix_hits = self._counter("prefix_cache_hits", "Prompt tokens that were found cached")
        self.first_token = self._histogram("time_to_first_token_seconds", "To the first token", _TTFT)
        self.between_tokens = self._histogram("inter_token_latency_seconds", "Between tokens", _TOKEN)
        self.per_token = self._histogram(
            "time_per_output_token_seconds", "Between tokens (older name)", _TOKEN
        )
        self.whole = self._histogram("e2e_request_latency_seconds", "From request to end", _WHOLE)
        self._success = Counter(
            "vllm:request_success",
            "Finished requests",
            ["model_name", "finished_reason"],
            registry=self.registry,
        )
        self._schemas = Counter(
            "penstock:schemas",
            "JSON schemas that were new, by what became of them",
            ["model_name", "outcome"],
            registry=self.registry,
        )
        info = Gauge(
            "vllm:cache_config_info",
            "The KV pool",
            ["model_name", "block_size", "num_gpu_blocks"],
            registry=self.registry,
        )
        info.labels(model, str(block_tokens), str(blocks)).set(1)

    def load(self, running: int, waiting: int, usage: float) -> None:
        """The state after a step."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._usage.set(usage)

    def finished(self, reason: str) -> None:
        """One request ended."""
        self._success.labels(self._model, reason).inc()

    def schema(self, outcome: str) -> None:
        """One that was new: compiled, bad_schema, grammars_full or queue_full."""
        self._schemas.labels(self._model, outcome).inc()

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"vllm:{name}", help, ["model_name"], registry=self.registry).labels(self._model)

    def _counter(self, name: str, help: str) -> Counter:
        return Counter(f"vllm:{name}", help, ["model_name"], registry=self.registry).labels(self._model)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"vllm:{name}", help, ["model_name"], registry=self.registry, buckets=buckets
        ).labels(self._model)
