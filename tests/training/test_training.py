"""Training on a few made-up clips: it learns, repeats and resumes to the bit, and leaves a checkpoint that loads."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from dmt.checkpoint import load_model
from dmt.config import preset
from dmt.corpus import Corpus
from dmt.errors import InputError
from dmt.training import LossConfig, StageConfig, TrainingConfig, loop, train
from dmt.training.curriculum import new_model
from dmt.training.denoiser import DenoiserStage
from dmt.training.fusion import fused_rows
from dmt.training.losses import MotionLoss


@pytest.fixture(scope="module")
def whole(settings, corpus, tmp_path_factory):
    """Weights of a run that nothing interrupted."""
    return weights(train(settings(corpus, tmp_path_factory.mktemp("whole"))).checkpoint)


@pytest.fixture(scope="session")
def settings(shrunk):
    """A short run of the bundled model's stages, with the tiny model."""

    def make(corpus, output, steps=4, **changes):
        stage = StageConfig(steps=steps, rate=3e-3, clips=2, frames=10)
        return TrainingConfig(
            corpus=str(corpus), output=str(output), model=shrunk("demo"), prosodic=stage, acoustic=stage,
            fusion=stage, denoiser=stage, save_every=2, warm_up=2, parallel=False, **changes,
        )  # fmt: skip

    return make


def weights(path):
    return {k: v.clone() for k, v in load_model(path).state_dict().items()}


def test_run_leaves_a_checkpoint_logs_and_a_plot(settings, corpus, tmp_path):
    pytest.importorskip("matplotlib", reason="plots need the extra [train]")
    seen = []
    report = train(settings(corpus, tmp_path / "run"), progress=lambda *a: seen.append(a))
    model = load_model(report.checkpoint)
    assert model.config == settings(corpus, "x").model
    assert not any(p.isnan().any() for p in model.parameters())
    assert report.plot.read_bytes().startswith(b"\x89PNG")
    assert {stage for stage, *_ in seen} == {"prosodic", "acoustic", "fusion", "denoiser"}
    rows = [json.loads(line) for line in (tmp_path / "run" / "denoiser.jsonl").read_text().splitlines()]
    assert {"diffusion", "opening", "information", "velocity"} <= set().union(*rows)
    assert set(report.measures["denoiser"]) == {"validation_opening", "validation_closures"}
    assert not list((tmp_path / "run").glob(".*"))


def test_same_seed_same_weights_other_seed_other_weights(settings, corpus, tmp_path, whole):
    again = weights(train(settings(corpus, tmp_path / "again")).checkpoint)
    other = weights(train(settings(corpus, tmp_path / "other", seed=1)).checkpoint)
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert not torch.equal(whole["denoiser.time_embed_net.0.weight"], other["denoiser.time_embed_net.0.weight"])


@pytest.mark.parametrize("where", ["prosodic", "acoustic", "fusion", "denoiser"])
def test_a_killed_run_resumes_to_the_bit(settings, corpus, tmp_path, monkeypatch, where, whole):
    step = loop._Run._train_step

    def killed(run):
        if run.stage.name == where and run.step == 3:  # after the state of step 2 was kept
            raise KeyboardInterrupt
        return step(run)

    monkeypatch.setattr(loop._Run, "_train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(corpus, tmp_path / "killed"))
    monkeypatch.setattr(loop._Run, "_train_step", step)
    resumed = weights(train(settings(corpus, tmp_path / "killed")).checkpoint)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / f"{where}.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_the_encoder_learns(settings, corpus, tmp_path):
    config = replace(settings(corpus, tmp_path / "run"), prosodic=StageConfig(steps=120, rate=5e-3, clips=4, frames=50))
    train(config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "prosodic.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 6 and losses[-1] < 0.85 * losses[0]
    assert [row for row in rows if "validation_opening" in row][-1]["validation_opening"] > 0.5


def test_another_configuration_is_refused(settings, corpus, tmp_path):
    train(settings(corpus, tmp_path / "run"))
    with pytest.raises(InputError, match="other settings"):
        train(settings(corpus, tmp_path / "run", losses=LossConfig(opening=9.0)))


def test_models_without_own_encoders_are_refused(settings, corpus, tmp_path):
    with pytest.raises(InputError, match="own speech encoders"):
        train(replace(settings(corpus, tmp_path / "run"), model=preset("dreamtalk")))


def test_missing_corpus(settings, tmp_path):
    with pytest.raises(InputError, match="no train shards"):
        train(settings(tmp_path / "nowhere", tmp_path / "run"))


def test_windows_of_the_stage_are_those_of_the_model(settings, corpus, tmp_path):
    from dmt.features import windows

    data = Corpus.load(corpus)
    config = settings(corpus, tmp_path / "run")
    model = new_model(config)
    rows = torch.randn(len(data), 99, model.config.speech.width)
    stage = DenoiserStage(model, rows, rows, data, data, config.denoiser, config.losses)
    clips = torch.tensor([2, 0])
    frames = torch.arange(49).expand(2, -1)
    torch.testing.assert_close(stage._windows(clips, frames), windows(rows[clips], 0, 49))


def test_closures_weigh_more(settings):
    config = settings("x", "y")
    model = new_model(config)
    loss = MotionLoss(config.losses)
    closed, opened = torch.zeros(1, 2, 64), torch.zeros(1, 2, 64)
    column = loss.basis.basis[:, 14, 1] - loss.basis.basis[:, 13, 1]
    opened += 0.15 * column / column.square().sum()

    def opening_term(truth):
        wrong = truth + 0.05 * column / column.square().sum()
        prediction = type("P", (), {"output": wrong, "target": truth, "coefficients": wrong})()
        return loss(model, prediction, truth)[1]["opening"]

    assert opening_term(closed) == pytest.approx(config.losses.closure * opening_term(opened), rel=1e-3)


def test_fused_rows_match_the_model(settings):
    model = new_model(settings("x", "y")).eval()
    with torch.no_grad():
        model.fusion.scale.fill_(0.7)
    acoustic, prosodic = torch.randn(3, 9, 16), torch.randn(3, 9, 16)
    with torch.no_grad():
        wanted = model.fusion(acoustic, prosodic)
    torch.testing.assert_close(fused_rows(model.fusion, (acoustic, prosodic), portion=2), wanted.half())
