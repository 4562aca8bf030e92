"""Run as a program of its own by the tests: train by a schedule in this process, as a user's process would."""

from __future__ import annotations

import json
import sys
import time

import torch

from dmt.config import from_dict
from dmt.training import TrainingConfig, loop, train


def main() -> None:
    settings = json.loads(sys.argv[1])
    slow = settings.pop("seconds_per_step", 0.0)
    loop.LOG_EVERY = settings.pop("log_every", loop.LOG_EVERY)
    torch.set_num_threads(1)
    step = loop._Run._train_step

    def unhurried(run):
        time.sleep(slow)  # so that a kill falls into the middle
        return step(run)

    loop._Run._train_step = unhurried
    train(from_dict(TrainingConfig, settings))


if __name__ == "__main__":
    main()
