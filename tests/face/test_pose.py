"""Pose files, pose clips that run out, natural head motion and blinks."""

import numpy as np
import pytest
import scipy.io
import torch

from dmt.errors import InputError
from dmt.face.pose import REST, Blinks, NaturalPose, PoseClip, StillPose, load_pose


def in_blocks(source, sizes):
    return torch.cat([source.next(size) for size in sizes])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def clip(frames, seed=0):
    steps = torch.randn(frames, 9, generator=generator(seed)) * 0.002
    return steps.cumsum(0).cumsum(0) * 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda: StillPose(),
        lambda: PoseClip(clip(37)),
        lambda: NaturalPose(generator()),
        lambda: Blinks(generator()),
    ],
)
def test_blocks_do_not_change_the_result(make):
    whole = make().next(800)
    assert torch.equal(in_blocks(make(), [1, 2, 0, 397, 150, 250]), whole)
    assert len(whole) == 800 and torch.isfinite(whole).all()


def test_load_pose_reads_dreamtalk_columns(tmp_path):
    coeff = np.arange(3 * 257, dtype=np.float32).reshape(3, 257)
    params = np.arange(15, dtype=np.float64).reshape(3, 5) + 5000
    scipy.io.savemat(tmp_path / "p.mat", {"coeff": coeff, "transform_params": params})
    expected = np.concatenate([coeff[:, 224:227], coeff[:, 254:257], params[:, 2:5]], axis=1)
    np.testing.assert_array_equal(load_pose(tmp_path / "p.mat").numpy(), expected)


def test_bad_pose_files_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_pose(tmp_path / "absent.mat")
    (tmp_path / "noise.mat").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match=r"\.mat"):
        load_pose(tmp_path / "noise.mat")
    scipy.io.savemat(tmp_path / "a.mat", {"coeff": np.zeros((4, 257))})
    with pytest.raises(InputError, match="transform_params"):
        load_pose(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "b.mat", {"coeff": np.zeros((4, 257)), "transform_params": np.zeros((3, 5))})
    with pytest.raises(InputError, match="different numbers"):
        load_pose(tmp_path / "b.mat")
    scipy.io.savemat(tmp_path / "c.mat", {"coeff": np.full((4, 257), np.nan), "transform_params": np.zeros((4, 5))})
    with pytest.raises(InputError, match="finite"):
        load_pose(tmp_path / "c.mat")


def test_pose_clip_is_exact_first_and_smooth_after():
    rows = clip(60)
    played = PoseClip(rows).next(500)
    assert torch.equal(played[:60], rows)
    inside = (rows[1:] - rows[:-1]).diff(dim=0).abs().max()
    after = played.diff(dim=0).diff(dim=0).abs().max()
    speed = rows.diff(dim=0).abs().max()
    assert after < inside + 0.8 * speed  # a bare reflection would jump by twice the speed
    assert played.abs().max() < 2 * rows.abs().max() + 10 * speed


def test_pose_clip_of_one_row_holds_it():
    row = torch.arange(9.0)[None]
    assert torch.equal(PoseClip(row).next(4), row.expand(4, 9))
    with pytest.raises(ValueError):
        PoseClip(torch.zeros(0, 9))


def test_still_pose_is_rest():
    assert torch.equal(StillPose().next(2), torch.tensor([REST, REST]))


def test_natural_pose_is_alive_smooth_and_small():
    rows = NaturalPose(generator(3)).next(25 * 120)
    angles = rows[:, :3]
    assert angles[0].abs().max() < 0.003
    assert (angles.std(0) > 0.008).all() and (angles.std(0) < 0.08).all()
    assert angles.abs().max() < 0.25
    speed = angles.diff(dim=0)
    assert speed.abs().max() < 0.03 and speed.diff(dim=0).abs().max() < 0.012
    assert torch.equal(rows[:, 3:], torch.tensor(REST)[3:].expand(len(rows), 6))
    assert not torch.equal(NaturalPose(generator(4)).next(100), rows[:100])


def test_blinks_close_fully_quickly_and_naturally_often():
    closure = Blinks(generator(1)).next(25 * 600)
    assert closure.min() == 0 and closure.max() == 1
    shut = closure > 0.02
    starts = torch.nonzero(shut[1:] & ~shut[:-1])[:, 0]
    ends = torch.nonzero(~shut[1:] & shut[:-1])[:, 0]
    lengths = ends[: len(starts)] - starts[: len(ends)]
    assert lengths.min() >= 5 and lengths.max() <= 11
    peaks = [closure[a : b + 1].max() for a, b in zip(starts, ends, strict=False)]
    assert min(peaks) > 0.97
    gaps = starts.diff() / 25
    assert 2.0 < gaps.median() < 6.0 and gaps.max() < 7.0
    double = (gaps < 1).float().mean()
    assert 0.03 < double < 0.3


def test_sources_leave_the_shared_generator_alone():
    shared = generator(5)
    pose, blinks = NaturalPose(shared), Blinks(shared)
    a = pose.next(50), blinks.next(50)
    shared = generator(5)
    pose, blinks = NaturalPose(shared), Blinks(shared)
    b = (blinks.next(50), pose.next(50))
    assert torch.equal(a[0], b[1]) and torch.equal(a[1], b[0])
