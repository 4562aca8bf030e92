"""Small made-up data sets in every layout, for the tests of readers and of what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
import soundfile

from dmt.media import VideoWriter

FRAMES = 30


def coefficients(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """Full rows [T, 257] whose columns can be told apart."""
    rows = np.random.default_rng(seed).standard_normal((frames, 257)).astype(np.float32) * 0.1
    rows[:, 224:227] += 1.0  # angles
    rows[:, 254:257] += 2.0  # translation
    return rows


def sound(path: Path, frames: int = FRAMES, fps: float = 25, rate: int = 16_000) -> Path:
    """A tone as long as the frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(frames / fps * rate)) / rate
    soundfile.write(path, (0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32), rate)
    return path


def mat(path: Path, frames: int = FRAMES, seed: int = 0, crop: bool = True) -> Path:
    """DreamTalk's .mat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"coeff": coefficients(frames, seed)}
    if crop:
        arrays["transform_params"] = np.tile(np.float32([256, 256, 0.9, 120, 130]), (frames, 1))
    scipy.io.savemat(path, arrays)
    return path


def video(path: Path, frames: int = FRAMES, fps: int = 25, with_sound: bool = True, seed: int = 0) -> Path:
    """An mp4 of 32 x 32 noise, with a tone or mute."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.random.default_rng(seed).integers(0, 255, (frames, 32, 32, 3), dtype=np.uint8)
    with VideoWriter(path, 32, 32, fps, 16_000 if with_sound else None) as out:
        out.write(pictures)
        if with_sound:
            time = np.arange(round(frames / fps * 16_000)) / 16_000
            out.write_audio((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32))
    return path


def dreamtalk(folder: Path) -> Path:
    """Two named clips with sound, one nameless without crop, and one run of the command."""
    mat(folder / "style" / "M030_front_angry_level3_001.mat", seed=1)
    sound(folder / "audio" / "M030_front_angry_level3_001.wav")
    mat(folder / "style" / "W009_front_happy_level1_002.mat", seed=2)
    sound(folder / "style" / "W009_front_happy_level1_002.wav")
    mat(folder / "someone.mat", seed=3, crop=False)
    run = folder / "tmp" / "test"
    run.mkdir(parents=True)
    np.save(run / "test_facemotion.npy", np.random.default_rng(4).standard_normal((FRAMES, 73)).astype(np.float32))
    np.save(run / "test_wav2vec.npy", np.zeros((2 * FRAMES, 1024), np.float32))
    sound(run / "test_16K.wav")
    return folder


def mead(folder: Path) -> Path:
    """Two people, two emotions, two sentences; 30 frames a second and m4a-like sound in its own tree."""
    for person in ("M003", "W011"):
        for emotion in ("angry", "neutral"):
            for number in ("001", "002"):
                film = folder / person / "video" / "front" / emotion / "level_1" / f"{number}.mp4"
                video(film, fps=30, with_sound=False)
                mat(film.with_suffix(".mat"))
                sound(folder / person / "audio" / emotion / "level_1" / f"{number}.wav", fps=30)
    return folder


def hdtf(folder: Path) -> Path:
    """One film of each kind, with sound."""
    for name in ("RD_Radio1_000", "WDA_BarackObama_000", "WDA_BarackObama_001", "WRA_Somebody_000"):
        video(folder / f"{name}.mp4")
        mat(folder / f"{name}.mat")
    return folder


def voxceleb(folder: Path) -> Path:
    """Films and one folder of pictures, as First Order Motion Model names them; sound in a tree of its own."""
    from PIL import Image

    names = {
        "train": ("id10001#aaa#000100#000130", "id10002#bbb#000001#000031"),
        "test": ("id10270#ccc#000005#000035",),
    }
    for partition, stems in names.items():
        for stem in stems:
            video(folder / partition / f"{stem}.mp4", with_sound=False)
            mat(folder / partition / f"{stem}.mat")
            sound(folder / "wav" / f"{stem}.wav")
    pictures = folder / "train" / "id10003#ddd#000007#000037.mp4"
    pictures.mkdir()
    for index in range(FRAMES):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / f"{index:07d}.png")
    mat(folder / "train" / "id10003#ddd#000007#000037.mp4.mat")
    sound(folder / "wav" / "id10003#ddd#000007#000037.wav")
    rows = ["video_id,start,end,bbox,fps,width,height,partition,person_id"]
    rows += [
        f"{v},0,30,0-0-9-9,25,64,64,{p},{i}" for v, p, i in (("aaa", "train", "id10001"), ("bbb", "test", "id10002"))
    ]
    (folder / "vox-metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def pirender(folder: Path) -> Path:
    """An LMDB of three videos; the last one's coefficients are cut short."""
    import lmdb

    folder.mkdir(parents=True)
    names = ("id1#a#000#030", "id2#b#000#030", "id3#c#000#030")
    with lmdb.open(str(folder), map_size=1 << 24) as base, base.begin(write=True) as write:
        for seed, name in enumerate(names):
            rows = np.concatenate([coefficients(seed=seed), np.tile(np.float32([0.9, 120, 130]), (FRAMES, 1))], 1)
            raw = rows.astype(np.float32).tobytes()
            write.put(f"{name}-length".encode(), str(FRAMES).encode())
            write.put(f"{name}-coeff_3dmm".encode(), raw if name != names[2] else raw[:100])
            for frame in range(2):
                write.put(f"{name}-{frame:07d}".encode(), b"\xff\xd8jpeg")
    (folder / "train_list.txt").write_text("\n".join(names[:1]) + "\n")
    (folder / "test_list.txt").write_text("\n".join(names[1:]) + "\n")
    for name in names:
        sound(folder / f"{name}.wav")
    return folder
