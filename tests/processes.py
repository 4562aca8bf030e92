"""Work for processes of their own, which find it by its name."""

import os
from collections.abc import Iterator

import torch

from dmt.bench import limited
from dmt.errors import InputError


def what_it_is() -> Iterator[object]:
    """Whether its libraries are limited, its threads, what PyTorch uses; then an error."""
    yield limited.active(), torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    raise InputError("no further")


def dies() -> Iterator[object]:
    yield 1
    os._exit(7)
