"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_SECONDS = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """Counters, gauges and histograms of one service, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.jobs = Counter("dmt_jobs", "Jobs that ended, by how.", ["outcome"], registry=registry)
        self.refused = Counter("dmt_refused", "Requests refused, by HTTP status.", ["status"], registry=registry)
        self.queued = Gauge("dmt_jobs_queued", "Jobs that wait for a worker.", registry=registry)
        self.running = Gauge("dmt_jobs_running", "Jobs in a worker.", registry=registry)
        self.stored = Gauge("dmt_jobs_stored", "Jobs known, finished ones included.", registry=registry)
        self.seconds = Histogram(
            "dmt_job_seconds", "Time in a worker of a job that was done.", buckets=_SECONDS, registry=registry
        )
        self.stage = Counter("dmt_stage_seconds", "Time of finished jobs, by stage.", ["stage"], registry=registry)
        self.frames = Counter("dmt_frames", "Frames made.", ["door"], registry=registry)
        self.live = Gauge("dmt_live_sessions", "Live sessions open, waiting ones included.", registry=registry)
        self.sessions = Counter("dmt_live", "Live sessions that ended, by how.", ["outcome"], registry=registry)
        for outcome in ("done", "failed", "cancelled"):  # a counter is there from the start, at 0
            self.jobs.labels(outcome)
        for outcome in ("done", "refused", "gone", "failed"):
            self.sessions.labels(outcome)
