"""Many videos in one go: jobs from a table or a folder, resumable, on local processes or on a Ray cluster."""

from .jobs import Job, Maker, read_jobs
from .report import Outcome, Summary
from .run import run_batch

__all__ = ["Job", "Maker", "Outcome", "Summary", "read_jobs", "run_batch"]
