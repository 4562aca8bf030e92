"""The paper's schedule on every preset, shrunk: what moves, what is fixed, early stopping, resuming to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dmt.checkpoint import load_model, read_record
from dmt.config import to_dict
from dmt.corpus import Corpus
from dmt.data import Clip
from dmt.data.shards import write_shard
from dmt.errors import InputError
from dmt.training import LossConfig, PaperSchedule, StageConfig, TrainingConfig, train
from dmt.training.clips import ClipSet, CorpusClips, Order, RowCache
from dmt.training.curriculum import new_model
from dmt.training.datasets import open_splits
from dmt.training.drawing import draw, style_clips
from dmt.training.end_to_end import EndToEndStage, plan
from dmt.training.state import load_state, save_state

PROGRAM = Path(__file__).with_name("programs.py")
STAGE = StageConfig(steps=4, rate=1e-3, clips=4, frames=8)
SCHEDULE = PaperSchedule(
    encoders=STAGE, fusion=STAGE, decoders=STAGE, rounds=1, crop=30, validation_clips=2, sampler_steps=2
)


def settings(corpus, output, model, schedule=SCHEDULE, **changes):
    common = dict(save_every=2, warm_up=2, schedule=schedule)
    return TrainingConfig(corpus=str(corpus), output=str(output), model=model, **(common | changes))


def weights(path):
    return {k: v.clone() for k, v in load_model(path).state_dict().items()}


def stage_of(config, name, clips=None):
    model = new_model(config)
    learned = clips or ClipSet(CorpusClips(Corpus.load(config.corpus)))
    (chosen,) = [s for s in plan(model, config.schedule, sound=learned.has_sound) if s.name == name]
    return EndToEndStage(chosen, model, learned, learned, config)


@pytest.mark.parametrize("name", ["demo", "dmt", "dreamtalk"])
def test_every_preset_trains_through_every_stage(name, shrunk, corpus, tmp_path):
    seen = []
    schedule = replace(SCHEDULE, rounds=1 + (name == "dreamtalk"))
    config = settings(corpus, tmp_path / "run", shrunk(name), schedule)
    report = train(config, progress=lambda *a: seen.append(a))
    expected = ["encoders"] + ["fusion-1", "decoders-1"] * (name != "dreamtalk")
    expected += ["decoders-1", "decoders-2"] * (name == "dreamtalk")
    assert list(report.measures) == expected == list(dict.fromkeys(stage for stage, *_ in seen))
    model = load_model(report.checkpoint)
    assert model.config == shrunk(name) and all(torch.isfinite(p).all() for p in model.parameters())
    before = new_model(config).state_dict()
    moved = {n.split(".")[0] for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert moved >= {"speech", "denoiser"} | ({"tacotron", "fusion"} if name != "dreamtalk" else set())
    saved = json.loads((tmp_path / "run" / "training.json").read_text())
    assert saved["schedule"]["encoder_rate"] == 1e-5 and saved["losses"]["information"] == 0.02
    assert read_record(report.checkpoint)["settings"]["schedule"] == to_dict(schedule)
    assert all(0 <= m["validation_quality"] <= 1 or m["validation_opening"] < 0 for m in report.measures.values())
    rows = [json.loads(line) for line in (tmp_path / "run" / "decoders-1.jsonl").read_text().splitlines()]
    kept = [key for row in rows for key in row if key.startswith("kept/denoiser.decoder")]
    assert bool(kept) == (name != "dreamtalk")
    assert (tmp_path / "run" / "losses.png").exists() and (tmp_path / "run" / "measures.png").exists()
    assert (tmp_path / "run" / "sparsity.png").exists() == (name != "dreamtalk")


def test_each_stage_moves_its_parts_and_fixes_the_others(shrunk, corpus, tmp_path):
    config = settings(corpus, tmp_path, shrunk("dmt"))
    for name, learning in {
        "encoders": {"speech", "tacotron", "denoiser"}, "fusion-1": {"fusion"}, "decoders-1": {"denoiser"}
    }.items():  # fmt: skip
        stage = stage_of(config, name)
        stage.module.train()
        loss, _ = stage.loss(stage.batches(torch.Generator().manual_seed(0), 0, 1)[0])
        loss.backward()
        reached = {n.split(".")[0] for n, p in stage.model.named_parameters() if p.grad is not None}
        assert reached == learning
        fixed = [m for part, m in stage.model.named_children() if part not in learning]
        assert not any(m.training for m in fixed)
    rates = dict(
        zip(("speech", "tacotron", "denoiser"), (r for _, r in stage_of(config, "encoders").groups()), strict=True)
    )
    assert rates == {"speech": 1e-5, "tacotron": 1e-5, "denoiser": 1e-3}


@pytest.mark.parametrize(("prediction", "share"), [("x0", 0.9), ("noise", 0.97)])
def test_the_loss_falls(prediction, share, shrunk, corpus, tmp_path):
    model = shrunk("demo")
    model = replace(model, diffusion=replace(model.diffusion, prediction=prediction))
    once = replace(SCHEDULE, encoders=replace(STAGE, steps=0), rounds=1, fusion=replace(STAGE, steps=0))
    long = replace(once, decoders=StageConfig(steps=160, rate=3e-3, clips=4, frames=16), patience=0)
    losses = LossConfig() if prediction == "x0" else LossConfig(0.02, opening=0.0, width=0.0, upper=0.0, velocity=0.0)
    train(settings(corpus, tmp_path / "run", model, long, save_every=160, losses=losses))
    rows = [json.loads(line) for line in (tmp_path / "run" / "decoders-1.jsonl").read_text().splitlines()]
    found = [row["diffusion"] for row in rows if "diffusion" in row]
    # Noise is harder: 64 numbers that nothing foretells must pass through a network 32 wide.
    # One batch of four clips says little: the later half together.
    assert len(found) == 8 and sum(found[4:]) / 4 < share * found[0], found


def test_stops_early_and_keeps_the_best(shrunk, corpus, tmp_path, monkeypatch):
    qualities = iter([0.5, 0.9, 0.6, 0.7, 0.8, 0.99])
    seen = []

    def measure(stage, module):
        seen.append({n: p.clone() for n, p in module.named_parameters()})
        return {"validation_quality": next(qualities)}

    monkeypatch.setattr(EndToEndStage, "validate", measure)
    once = replace(SCHEDULE, encoders=replace(STAGE, steps=0), fusion=replace(STAGE, steps=0), rounds=1, patience=2)
    long = replace(once, decoders=replace(STAGE, steps=40))
    report = train(settings(corpus, tmp_path / "run", shrunk("demo"), long))
    assert len(seen) == 4  # best at the second, two more without a gain
    final = load_model(report.checkpoint).state_dict()
    name = "denoiser.time_embed_net.0.weight"
    assert torch.equal(final[name], seen[1][name]) and not torch.equal(final[name], seen[3][name])
    again = train(settings(corpus, tmp_path / "run", shrunk("demo"), long))  # a finished run has nothing to do
    assert len(seen) == 4 and torch.equal(load_model(again.checkpoint).state_dict()[name], final[name])


def test_killed_and_resumed_is_the_same_to_the_bit(shrunk, corpus, tmp_path):
    config = settings(corpus, tmp_path / "whole", shrunk("demo"), accumulate=2, tensorboard=True)
    torch.set_num_threads(1)
    whole = weights(train(config).checkpoint)
    killed = replace(config, output=str(tmp_path / "killed"))
    arguments = json.dumps({**to_dict(killed), "seconds_per_step": 0.5})
    process = subprocess.Popen([sys.executable, str(PROGRAM), arguments])
    state = tmp_path / "killed" / "fusion-1.state.safetensors"  # the second stage, half done
    limit = time.monotonic() + 240
    while not state.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    time.sleep(0.2)  # into the next step
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert load_state(state)["step"] == 2 and not (tmp_path / "killed" / "decoders-1.jsonl").exists()
    resumed = weights(train(killed).checkpoint)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for stage in ("encoders", "fusion-1", "decoders-1"):
        logs = [(tmp_path / run / f"{stage}.jsonl").read_text().splitlines() for run in ("whole", "killed")]
        rows = [[{k: v for k, v in json.loads(line).items() if k != "time"} for line in log] for log in logs]
        assert rows[0] == rows[1]
    assert list((tmp_path / "whole" / "tensorboard" / "encoders").glob("events*"))


def test_accumulation_is_the_mean_of_its_parts(shrunk, corpus, tmp_path):
    model = shrunk("dreamtalk")
    model = replace(model, denoiser=replace(model.denoiser, dropout=0.0))
    stage = stage_of(settings(corpus, tmp_path, model), "decoders-1")
    stage.module.train()
    (whole,) = stage.batches(torch.Generator().manual_seed(3), 5, 1)
    parts = stage.batches(torch.Generator().manual_seed(3), 5, 2)
    loss = stage.loss(whole)[0]
    torch.testing.assert_close(torch.stack([stage.loss(part)[0] for part in parts]).mean(), loss)


def test_bfloat16_is_near_float32(shrunk, corpus, tmp_path):
    stage = stage_of(settings(corpus, tmp_path, shrunk("dmt")), "encoders")
    stage.module.train()
    losses = []
    for low in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss, _ = stage.loss(stage.batches(torch.Generator().manual_seed(0), 0, 1)[0])
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "float16"}, "float16 training needs a GPU"),
        ({"accumulate": 3}, "cannot be cut"),
        ({"accumulate": 0}, "at least 1"),
        ({"schedule": None, "accumulate": 2}, "whole batches"),
        ({"outlier_limit": -1.0}, "positive"),
    ],
)
def test_settings_that_do_not_go_together(changes, words, shrunk, corpus, tmp_path):
    with pytest.raises(InputError, match=words):
        train(replace(settings(corpus, tmp_path / "run", shrunk("demo")), **changes))


def test_order_visits_every_clip_once_an_epoch_however_it_is_asked():
    order = Order(7, seed=3)
    whole = order.take(0, 21)
    assert [sorted(epoch.tolist()) for epoch in whole.split(7)] == [list(range(7))] * 3
    assert torch.equal(torch.cat([order.take(i, 3) for i in range(0, 21, 3)]), whole)
    assert not torch.equal(whole[:7], whole[7:14]) and not torch.equal(whole, Order(7, seed=4).take(0, 21))


def clip(name, frames, identity="a", emotion="happy", fps=25.0, wave=True, **more):
    rng = np.random.default_rng(len(name))
    seconds = frames / fps
    return Clip(
        name=name, identity=identity, emotion=emotion, fps=fps, pose=np.zeros((frames, 9), np.float32),
        coefficients=rng.standard_normal((frames, 64)).astype(np.float32),
        wave=rng.standard_normal(round(seconds * 16000)).astype(np.float32) * 0.1 if wave else None, **more,
    )  # fmt: skip


def test_clips_of_all_kinds(shrunk, corpus, tmp_path):
    mixed = [clip("one", 60), clip("two", 33), clip("short", 5), clip("mute", 60, wave=False), clip("fast", 80, fps=50)]
    clips = ClipSet(mixed)
    assert len(clips) == 3 and clips.left_out == 2 and clips.frames.tolist() == [60, 33, 40]
    stage = stage_of(settings(corpus, tmp_path, shrunk("demo")), "encoders", clips)
    for index, part in enumerate(stage.batches(torch.Generator().manual_seed(0), 0, 2)):
        assert part.crop == 30
        assert torch.isfinite(stage.loss(part)[0]), index
    with pytest.raises(InputError, match="none of the 1 clips"):
        ClipSet([clip("short", 5)])


def test_prepared_data_is_read(shrunk, corpus, tmp_path):
    (tmp_path / "data").mkdir()
    for split, names in (("train", ("one", "three")), ("validation", ("seven",))):
        write_shard(tmp_path / "data" / f"{split}-0000.safetensors", [clip(name, 40) for name in names], [])
    (tmp_path / "data" / "data.json").write_text("{}")
    learned, held_out = open_splits(settings(tmp_path / "data", tmp_path / "run", shrunk("demo")))
    assert [c.name for c in learned] == ["one", "three"] and len(ClipSet(held_out)) == 1
    report = train(settings(tmp_path / "data", tmp_path / "run", shrunk("demo"), replace(SCHEDULE, rounds=0)))
    assert read_record(report.checkpoint)["clips"] == 2


def test_style_comes_from_another_clip_of_the_same_person_and_mood(shrunk, corpus, tmp_path):
    clips = ClipSet([clip("one", 60), clip("other", 60), clip("sad", 60, emotion="sad"), clip("third", 60, "b")])
    assert clips.relative(0, 0.0) == clips.relative(0, 0.99) == 1 and clips.relative(2, 0.5) == 2
    model = new_model(settings(corpus, tmp_path, shrunk("dreamtalk")))
    batch = draw(model, clips, torch.tensor([0, 2]), STAGE, 30, torch.Generator().manual_seed(0))
    styles, padding = style_clips(clips, batch, 256)
    shown = int((~padding[0]).sum())
    assert 48 <= shown <= 60
    rows = torch.from_numpy(clips[1].coefficients).unfold(0, shown, 1).transpose(1, 2)
    assert any(torch.equal(styles[0, :shown], row) for row in rows)
    assert bool((styles[0, shown:] == 0).all())


def test_features_in_place_of_sound_train_the_decoders(shrunk, corpus, tmp_path):
    rows = np.random.default_rng(0).standard_normal((100, 16)).astype(np.float32)
    clips = ClipSet([clip("one", 50, wave=False, features=rows)])
    config = settings(corpus, tmp_path, shrunk("dreamtalk"), replace(SCHEDULE, decoders=replace(STAGE, clips=1)))
    stage = stage_of(config, "decoders-1", clips)
    loss, _ = stage.loss(stage.batches(torch.Generator().manual_seed(0), 0, 1)[0])
    assert torch.isfinite(loss)
    assert [s.name for s in plan(stage.model, config.schedule, sound=False)] == ["decoders-1"]


def test_fixed_encoders_give_the_rows_of_inference(shrunk, corpus, tmp_path):
    from dmt.features import windows

    stage = stage_of(settings(corpus, tmp_path, shrunk("demo")), "decoders-1")
    with torch.no_grad():
        stage.model.fusion.scale.fill_(0.7)
    (batch,) = stage.batches(torch.Generator().manual_seed(0), 0, 1)
    seen = stage._windows(batch)
    for row, (index, frames) in enumerate(zip(batch.clips.tolist(), batch.frames, strict=True)):
        wave = torch.from_numpy(stage.clips[index].wave)[None]
        with torch.no_grad():
            condition = stage.model.condition(stage.model.features(wave))
        torch.testing.assert_close(seen[row], windows(condition, 0, 50)[0][frames], atol=2e-2, rtol=2e-2)


def test_the_cache_forgets_and_changes_nothing(shrunk, corpus, tmp_path):
    stage = stage_of(settings(corpus, tmp_path, shrunk("demo")), "decoders-1")
    small = RowCache(stage.clips, stage.model.speech, stage.model.tacotron, gigabytes=1e-6)
    for index in (0, 1, 0, 3):
        assert torch.equal(small[index].acoustic, stage.rows[index].acoustic)
        assert torch.equal(small[index].prosodic, stage.rows[index].prosodic)
    assert len(small._kept) == 1 and len(stage.rows._kept) == 3


def test_states_hold_what_an_optimiser_needs_and_nothing_that_runs(tmp_path):
    state = {"a": {0: torch.arange(3), 1: {"deep": torch.tensor(2.5)}}, "b": [1, None, "x", (0.9, 0.999)], "c": 1e-7}
    save_state(tmp_path / "s.safetensors", state)
    back = load_state(tmp_path / "s.safetensors")
    assert torch.equal(back["a"][0], state["a"][0]) and float(back["a"][1]["deep"]) == 2.5
    assert back["b"] == [1, None, "x", [0.9, 0.999]] and back["c"] == 1e-7
    (tmp_path / "s.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match="delete it"):
        load_state(tmp_path / "s.safetensors")
