"""Two processes under torchrun are one process with the whole batch: same losses, same weights, shared averages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dmt.checkpoint import load_model
from dmt.config import to_dict
from dmt.training import PaperSchedule, StageConfig, TrainingConfig, loop, train

PROGRAM = Path(__file__).with_name("programs.py")


def log_of(config):
    """The lines of every stage that tell a loss."""
    logs = {path.stem: path.read_text().splitlines() for path in Path(config.output).glob("*.jsonl")}
    return {stage: [row for row in map(json.loads, log) if "loss" in row] for stage, log in logs.items()}


def train_on_two(config):
    """`config` trained by two fresh processes under torchrun: the weights."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*start, str(PROGRAM), json.dumps({**to_dict(config), "log_every": 1})]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_model(Path(config.output) / "model.safetensors").state_dict()


def test_two_ranks_are_one_with_the_whole_batch(shrunk, corpus, tmp_path, monkeypatch):
    stage = StageConfig(steps=3, rate=1e-3, clips=4, frames=8)
    model = shrunk("dmt")
    config = TrainingConfig(
        corpus=str(corpus),
        output=str(tmp_path / "one"),
        # Dropout is drawn for each part of a batch, so it cannot be the same for one part and for two. For the same
        # reason the speech encoders stay fixed here.
        model=replace(model, denoiser=replace(model.denoiser, dropout=0.0)),
        schedule=PaperSchedule(
            encoders=replace(stage, steps=0), fusion=stage, decoders=stage, rounds=1, validation_clips=1,
            sampler_steps=2,
        ),
        save_every=3,
        warm_up=2,
    )  # fmt: skip
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    one = load_model(train(config).checkpoint).state_dict()
    shared = replace(config, output=str(tmp_path / "two"))
    two = train_on_two(shared)
    alone, both = log_of(config), log_of(shared)
    for stage_name in ("fusion-1", "decoders-1"):
        assert [row["step"] for row in both[stage_name]] == [1, 2, 3]  # one writes, the other is silent
        for first, second in zip(alone[stage_name], both[stage_name], strict=True):
            for term in ("loss", "diffusion", "opening", "velocity", "information"):
                assert second[term] == pytest.approx(first[term], rel=1e-5, abs=2e-6), (stage_name, term)
    assert alone["decoders-1"][0]["information"] > 0
    states = [name for name in one if name.endswith("threshold.state")]
    assert states and all(float(one[name][0, 1]) == 3 for name in states)
    for name in one:
        apart = (two[name] - one[name]).abs()
        # Adam makes a full step of any gradient: one that is zero but for rounding may send its weight either way.
        far = apart > 1e-4 + 1e-3 * one[name].abs()
        assert far.sum() <= max(1, apart.numel() // 1000) and apart.max() <= 1e-3, (name, int(far.sum()), apart.max())
