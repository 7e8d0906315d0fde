"""What `streamproc serve` tells Prometheus about itself."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class Meter:
    """The metrics of one server. Labels come from the catalogue and the configuration, never from a request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "streamproc_serve_requests",
            "Requests answered, by transport, model and status of HTTP",
            ("transport", "model", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "streamproc_serve_request_duration_seconds",
            "From the whole request to its whole answer",
            ("transport", "model"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._rows = Histogram(
            "streamproc_serve_batch_rows",
            "Rows of one call of a model",
            ("model",),
            buckets=BUCKETS_ROWS,
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "streamproc_serve_call_duration_seconds",
            "One call of a model",
            ("model",),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.open = Gauge(
            "streamproc_serve_open_requests", "Requests that are being answered", registry=self.registry
        )

    def called(self, model: str) -> Callable[[int, float], None]:
        """Return what takes the rows and seconds of each call of a model."""
        rows, seconds = self._rows.labels(model), self._call_seconds.labels(model)

        def seen(row_count: int, took_s: float) -> None:
            rows.observe(row_count)
            seconds.observe(took_s)

        return seen

    def answered(self, transport: str, model: str, status: int, took_s: float) -> None:
        """Count one answer."""
        self._requests.labels(transport, model, str(status)).inc()
        self._seconds.labels(transport, model).observe(took_s)

    def expose(self) -> bytes:
        """Return the text of /metrics."""
        return generate_latest(self.registry)
