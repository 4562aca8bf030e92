"""The processes of one run: one, or those that torchrun started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

PATIENCE = timedelta(hours=2)
"""How long ranks wait for one another; the first one validates and saves while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """rank of count; thresholds: the group in which threshold statistics are shared, None with one process."""

    rank: int = 0
    count: int = 1
    thresholds: ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def mean(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Means over the ranks, which all give the same names."""
        if self.count == 1 or not values:
            return values
        names = sorted(values)
        numbers = torch.tensor([values[n] for n in names], dtype=torch.float32, device=device)
        dist.all_reduce(numbers)
        return dict(zip(names, (numbers / self.count).tolist(), strict=True))

    def from_first(self, value: float, device: torch.device) -> float:
        """The first rank's value, on every rank (as float64, to the bit)."""
        if self.count == 1:
            return value
        number = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(number, 0)
        return float(number)


ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Ranks, torch.device]]:
    """The ranks of this run and the device of this one: those of torchrun, or one process alone.

    gloo joins CPUs and nccl GPUs, of which each process of a machine takes its own.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE, device
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        if device.type == "cuda":
            device = torch.device("cuda", dist.get_node_local_rank())
            torch.cuda.set_device(device)
        # A group of their own: collectives of thresholds in a backward pass must not queue among DDP's.
        yield Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(timeout=PATIENCE)), device
    finally:
        dist.destroy_process_group()
