"""Everything a user can hand over by mistake: one clear line, exit code 2, nothing written. And what only looks odd."""

from __future__ import annotations

import os

import numpy as np
import pytest
import scipy.io
import soundfile
import torch
from PIL import Image

from dmt import media
from dmt.cli.app import run
from dmt.scene import asset


@pytest.fixture
def there(tmp_path, voice):
    """A folder with a good voice; outputs go to its empty folder `out`."""
    voice(tmp_path / "voice.wav", 0.5)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def generate(there, tiny_checkpoint, capfd):
    """Runs `dmt generate` on the good voice with some flags changed; gives (exit code, stdout, stderr)."""

    def call(**flags):
        given = {"audio": there / "voice.wav", "output": there / "out" / "o.mp4", "checkpoint": tiny_checkpoint}
        given |= {"size": 96, "steps": 1, **flags}
        arguments = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        code = run(["generate", *arguments])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return call


def refused(outcome, out_folder, *words):
    code, out, err = outcome
    lines = err.splitlines()
    assert code == 2, (out, err)
    assert len(lines) == 1 and lines[0].startswith("dmt: "), err
    assert all(word in lines[0] for word in words), err
    assert out == "" and not list(out_folder.iterdir())


def sound(folder, name: str, samples: np.ndarray):
    soundfile.write(folder / name, samples.astype(np.float32), 16_000, subtype="FLOAT")
    return folder / name


def with_nan():
    samples = np.zeros(16_000)
    samples[9_000] = np.nan
    return samples


def video_without_sound(folder):
    with media.VideoWriter(folder / "mute.mp4", 64, 64, audio_rate=None) as writer:
        writer.write(np.zeros((5, 64, 64, 3), np.uint8))
    return folder / "mute.mp4"


def truncated(folder):
    whole = sound(folder, "whole.wav", np.zeros(64_000)).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 3])
    return folder / "cut.wav"


def text(folder):
    (folder / "text.wav").write_text("this is no sound\n" * 100)
    return folder / "text.wav"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.wav", ["no such file", "absent.wav"]),
        (lambda folder: folder, ["is a folder"]),
        (text, ["not a media file", "text.wav"]),
        (video_without_sound, ["no sound track"]),
        (lambda folder: sound(folder, "short.wav", np.zeros(160)), ["10 ms", "at least 40 ms"]),
        (lambda folder: sound(folder, "empty.wav", np.zeros(0)), ["0 ms"]),
        (lambda folder: sound(folder, "nan.wav", with_nan()), ["NaN or Inf"]),
        (truncated, ["truncated", "4.0 s"]),
    ],
    ids=["absent", "folder", "text", "no sound track", "10 ms", "no samples", "NaN", "truncated"],
)
def test_sound(make, words, there, generate):
    refused(generate(audio=make(there)), there / "out", *words)


def picture(folder, name: str, **options):
    Image.open(asset("portrait.png")).convert("RGB").save(folder / name, **options)
    return folder / name


def faceless(folder):
    Image.fromarray(np.full((300, 300, 3), 128, np.uint8)).save(folder / "plain.png")
    return folder / "plain.png"


def tiny_picture(folder):
    Image.open(asset("portrait.png")).resize((20, 20)).save(folder / "tiny.png")
    return folder / "tiny.png"


def half_picture(folder):
    data = picture(folder, "whole.png").read_bytes()
    (folder / "half.png").write_bytes(data[: len(data) // 2])
    return folder / "half.png"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.png", ["no such image", "absent.png"]),
        (lambda folder: folder / "voice.wav", ["cannot be read as an image"]),
        (half_picture, ["cannot be read as an image"]),
        (tiny_picture, ["20 x 20", "at least 64 x 64"]),
        (faceless, ["no face found", "plain.png"]),
    ],
    ids=["absent", "not a picture", "half", "tiny", "no face"],
)
def test_picture(make, words, there, generate):
    refused(generate(image=make(there)), there / "out", *words)


def mat(folder, **arrays):
    scipy.io.savemat(folder / "some.mat", arrays)
    return folder / "some.mat"


COEFF, TRANSFORM = np.zeros((20, 257), np.float32), np.zeros((20, 5), np.float32)


@pytest.mark.parametrize(
    ("flag", "make", "words"),
    [
        ("style", lambda folder: folder / "absent.mat", ["absent.mat"]),
        ("style", lambda folder: folder / "voice.wav", ["voice.wav", ".mat or .txt"]),
        ("style", lambda folder: mat(folder, other=COEFF), ["no array 'coeff'"]),
        ("style", lambda folder: mat(folder, coeff=COEFF[:, :64]), ["(20, 64)", "257"]),
        ("style", lambda folder: mat(folder, coeff=COEFF[:0]), ["at least one frame"]),
        ("style", lambda folder: mat(folder, coeff=COEFF * np.nan), ["not finite"]),
        ("style", lambda folder: "furious", ["furious", "angry", "happy", "neutral"]),
        ("pose", lambda folder: "wild", ["wild", "natural", "still"]),
        ("pose", lambda folder: mat(folder, coeff=COEFF), ["transform_params"]),
        ("pose", lambda folder: mat(folder, coeff=COEFF, transform_params=TRANSFORM[:9]), ["numbers of frames"]),
        ("pose", lambda folder: folder / "voice.wav", ["cannot be read as a MATLAB"]),
        ("landmarks", lambda folder: folder / "absent.npz", ["no such landmark file"]),
        ("checkpoint", lambda folder: folder / "absent.safetensors", ["no checkpoint"]),
        ("checkpoint", lambda folder: folder / "voice.wav", ["cannot be read as a safetensors"]),
        ("intensity", lambda folder: "-1", ["intensity"]),
        ("intensity", lambda folder: "nan", ["intensity"]),
        ("guidance", lambda folder: "-0.5", ["guidance"]),
        ("guidance", lambda folder: "inf", ["guidance"]),
        ("steps", lambda folder: "7", ["must divide 1000", "10"]),
        ("steps", lambda folder: "0", ["must divide 1000"]),
        ("size", lambda folder: "10", ["64"]),
        ("size", lambda folder: "wide", ["--size", "integer"]),
        ("seed", lambda folder: "-1", ["seed"]),
        ("device", lambda folder: "quantum", ["unknown device", "quantum"]),
    ],
)
def test_flags(flag, make, words, there, generate):
    value = make(there)
    if flag == "landmarks":
        outcome = generate(image=picture(there, "face.png"), landmarks=value)
    else:
        outcome = generate(**{flag: value})
    refused(outcome, there / "out", *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test wants absent")
def test_a_gpu_that_is_not_there(there, generate):
    refused(generate(device="cuda"), there / "out", "cuda", "no CUDA GPU", "--device cpu")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("no/such/folder/o.mp4", ["does not exist"]),
        ("voice.wav/o.mp4", ["does not exist"]),
        ("out/o.avi", ["*.mp4"]),
        ("/proc/o.mp4", ["not writable"]),
    ],
)
def test_output(output, words, there, generate):
    before = sorted(os.listdir(there))
    refused(generate(output=there / output), there / "out", *words)
    assert sorted(os.listdir(there)) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; /proc stands for this above")
def test_output_in_a_read_only_folder(there, generate):
    (there / "locked").mkdir(mode=0o555)
    refused(generate(output=there / "locked" / "o.mp4"), there / "out", "not writable")


def accepted(outcome, path):
    code, out, err = outcome
    assert code == 0, err
    assert f"wrote {path}" in out
    return list(media.read_frames(path))


def test_silence_is_a_resting_face(there, generate):
    frames = accepted(generate(audio=sound(there, "silence.wav", np.zeros(8_000))), there / "out" / "o.mp4")
    assert len(frames) == 13


def test_an_older_video_survives_a_failure_and_gives_way_to_success(there, generate):
    path = there / "out" / "o.mp4"
    path.write_bytes(b"an older video")
    code, _, _ = generate(style="furious")
    assert code == 2 and path.read_bytes() == b"an older video"
    assert len(accepted(generate(), path)) == 13


def grey(folder):
    Image.open(asset("portrait.png")).convert("L").save(folder / "odd.png")
    return folder / "odd.png"


def transparent(folder):
    face = Image.open(asset("portrait.png")).convert("RGBA")
    face.putalpha(Image.linear_gradient("L").resize(face.size))
    face.save(folder / "odd.png")
    return folder / "odd.png"


def rotated(folder):
    """Stored lying on its side, with the EXIF note (6: turn right) that sets it upright."""
    face = Image.open(asset("portrait.png")).convert("RGB").rotate(90, expand=True)
    note = face.getexif()
    note[0x0112] = 6
    face.save(folder / "odd.jpg", exif=note, quality=95)
    return folder / "odd.jpg"


@pytest.mark.parametrize("make", [grey, transparent, rotated])
def test_odd_pictures_are_understood(make, there, generate):
    landmarks = asset("portrait_landmarks.npz")
    outcome = generate(image=make(there), landmarks=landmarks, size=128)
    made = accepted(outcome, there / "out" / "o.mp4")[0].astype(float)
    plain = accepted(generate(size=128), there / "out" / "o.mp4")[0].astype(float)
    if make is grey:
        plain = np.repeat(plain.mean(axis=2, keepdims=True), 3, axis=2)
    # alike where the face is: 128 pixels of the same face, upright
    centre = np.s_[40:90, 40:90]
    assert np.corrcoef(made[centre].ravel(), plain[centre].ravel())[0, 1] > 0.9


def test_two_faces_the_largest_wins_and_it_is_said(there, generate):
    face = Image.open(asset("portrait.png")).convert("RGB").resize((500, 500))
    both = Image.new("RGB", (900, 500), (200, 200, 200))
    both.paste(face.resize((300, 300)), (0, 100))
    both.paste(face, (400, 0))
    both.save(there / "two.png")
    outcome = generate(image=there / "two.png")
    accepted(outcome, there / "out" / "o.mp4")
    assert "2 faces found" in outcome[2] and "largest" in outcome[2]
