"""Figures for Prometheus, labelled with routes, methods, statuses and words of fixed lists: nobody is named."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS = {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # a time beside every counter, which nobody needs


def method_of(method: str) -> str:
    """The method where it is a known one; a client can send any word."""
    return method if method in METHODS else "other"


class Metrics:
    """The counters of one service, in a registry of its own."""

    def __init__(self, bundle: str, profile: str, version: str) -> None:
        self.registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        about = Gauge("dfqsam_info", "What is served.", ["bundle", "profile", "version"], registry=own)
        about.labels(bundle, profile, version).set(1)
        self._requests = Counter("dfqsam_requests", "Answers.", ["method", "route", "status"], registry=own)
        self._seconds = Histogram("dfqsam_request_seconds", "To an answer.", ["route"], buckets=SECONDS, registry=own)
        self._compute = Histogram("dfqsam_step_seconds", "Work.", ["step"], buckets=SECONDS, registry=own)
        self._cache = Counter("dfqsam_cache_lookups", "Embeddings looked up.", ["result"], registry=own)
        self._outcomes = Counter("dfqsam_accepted", "Accepted requests.", ["task", "outcome"], registry=own)

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """An answer was sent; ``route`` is the pattern, never the path."""
        self._requests.labels(method_of(method), route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def step(self, name: str, seconds: float) -> None:
        """A step of the work took so long: read, encode, decode, write."""
        self._compute.labels(name).observe(seconds)

    def looked_up(self, hit: bool) -> None:
        """An embedding was wanted, and was or was not there."""
        self._cache.labels("hit" if hit else "miss").inc()

    def accepted(self, task: str, outcome: str) -> None:
        """What became of a request that was accepted; as the audit log has it."""
        self._outcomes.labels(task, outcome).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
