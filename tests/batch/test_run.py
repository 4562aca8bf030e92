"""Batches: whole, resumed, with failures, and with a worker killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dmt.batch import Job, Maker, run_batch
from dmt.batch.report import STATE
from dmt.batch.work import MOST_STARTS, Worker, _claim
from dmt.cli.app import run
from dmt.errors import InputError
from dmt.scene import Options

SMALL = Options(size=64, pose="still", steps=1)


@pytest.fixture
def jobs(voice, tmp_path: Path) -> list[Job]:
    voices = [voice(tmp_path / f"{index}.wav", 0.3) for index in range(4)]
    return [Job(str(path), None, f"{path.stem}.mp4", SMALL) for path in voices]


@pytest.fixture
def maker(tiny_checkpoint: Path) -> Maker:
    return Maker(checkpoint=str(tiny_checkpoint), device="cpu")


def videos(folder: Path) -> dict[str, int]:
    """Name and time of change of every video."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}


def test_a_batch_goes_on_where_it_stopped(jobs: list[Job], maker: Maker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    jobs = [*jobs[:2], Job(str(tmp_path / "broken.wav"), None, "broken.mp4", SMALL)]
    seen = []
    summary = run_batch(jobs, out, maker, progress=lambda done, total: seen.append((done, total)))
    assert [outcome.state for outcome in summary.outcomes] == ["done", "done", "failed"]
    assert seen[0] == (0, 3) and seen[-1] == (3, 3)
    assert "broken.wav" in summary.outcomes[2].reason and "broken.mp4" in summary.report.read_text()
    assert json.loads((out / "report.json").read_text())[0]["seconds"] == pytest.approx(0.32)
    before = videos(out)
    (out / "1.mp4").unlink()
    again = run_batch(jobs, out, maker)
    assert [outcome.resumed for outcome in again.outcomes] == [True, False, False]
    after = videos(out)
    assert after["0.mp4"] == before["0.mp4"] and after["1.mp4"] != before["1.mp4"]
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]


def test_a_voice_whose_name_is_no_text(jobs: list[Job], maker: Maker, tmp_path: Path) -> None:
    """Folders hold names of other systems; Python reads their bytes as halves of characters."""
    job = Job(str(tmp_path / "absent-\udcff.wav"), None, "\udcff.mp4", SMALL)
    summary = run_batch([job], tmp_path / "out", maker)
    assert "no such file" in summary.outcomes[0].reason
    assert r"\udcff.mp4" in summary.report.read_text(encoding="utf-8")


def test_the_command_names_what_failed(jobs: list[Job], maker: Maker, tmp_path: Path, capsys) -> None:
    rows = [f"{jobs[0].audio},good.mp4,64,1", *(f"absent.wav,{number}.mp4,64,1" for number in range(7))]
    (tmp_path / "jobs.csv").write_text("\n".join(["audio,output,size,steps", *rows]))
    arguments = ["--checkpoint", maker.checkpoint, "--device", "cpu", "-o", str(tmp_path / "out")]
    assert run(["batch", str(tmp_path / "jobs.csv"), *arguments]) == 1
    shown = capsys.readouterr()
    assert "1 of 8 videos are in" in shown.out and "7 failed" in shown.out
    assert (
        shown.err.count("failed: ") == 5 and "failed: 0.mp4: no such file: " in shown.err and "and 2 more" in shown.err
    )


def kill_once(state: Path, victims: list[int], enough: threading.Event) -> None:
    """Kill the first process seen at work on a job, once."""
    while not enough.is_set():
        for pid in working(state):
            victims.append(pid)
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.005)


def working(state: Path) -> list[int]:
    """Processes that hold a job's lock, as the kernel lists them."""
    locked = {path.stat().st_ino for path in state.glob("*.lock")}
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = [(int(line[4]), int(line[5].split(":")[2])) for line in lines if line[1] == "FLOCK"]
    return [pid for pid, inode in holders if inode in locked and pid != os.getpid()]


@pytest.mark.parametrize("ray", [None, "local"], ids=["processes", "ray"])
def test_a_killed_worker_loses_nothing_and_repeats_nothing(
    jobs: list[Job], maker: Maker, tmp_path: Path, ray: str | None
) -> None:
    if ray:
        pytest.importorskip("ray", reason="ray comes with the extra [ray]")
    out, enough, victims = tmp_path / "out", threading.Event(), []
    killer = threading.Thread(target=kill_once, args=(out / STATE, victims, enough))
    killer.start()
    try:
        summary = run_batch(jobs, out, maker, workers=2, ray=ray)
    finally:
        enough.set()
        killer.join()
    assert len(victims) == 1
    assert [outcome.state for outcome in summary.outcomes] == ["done"] * 4
    assert len(videos(out)) == 4
    # begun: each job once, and the one that was in the killed worker's hands once more
    begun = sorted(path.stat().st_size for path in (out / STATE).glob("*.starts"))
    assert begun[:3] == [1, 1, 1] and begun[3] in (1, 2)  # 1: killed with the lock in hand, but before it had begun


def test_a_job_that_kills_its_worker_is_given_up(jobs: list[Job], maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "out" / STATE).mkdir(parents=True)
    worker, key = Worker(str(tmp_path / "out"), maker, 1), jobs[0].key(maker)
    (tmp_path / "out" / STATE / f"{key}.starts").write_bytes(b"." * MOST_STARTS)
    outcome = worker.make(jobs[0])
    assert outcome.state == "failed" and "without a word" in outcome.reason


def test_two_processes_do_not_make_one_video(jobs: list[Job], maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "out" / STATE).mkdir(parents=True)
    worker = Worker(str(tmp_path / "out"), maker, 1)
    with _claim(tmp_path / "out" / STATE / f"{jobs[0].key(maker)}.lock") as ours:
        assert ours and worker.make(jobs[0]).state == "elsewhere"
    assert worker.make(jobs[0]).state == "done"


def test_refusals(jobs: list[Job], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        run_batch(jobs, tmp_path / "file" / "out")
    with pytest.raises(InputError, match="workers must be"):
        run_batch(jobs, tmp_path / "out", workers=0)
