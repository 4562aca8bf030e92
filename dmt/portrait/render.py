"""The portrait, from geometry to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from . import body, eyes, geometry, hair, lighting, skin, strokes
from .frame import Frame, blur, mix, noise, smoothstep
from .raster import FAR, draw_mesh
from .skin import srgb


@dataclass(frozen=True)
class Look:
    """How carefully to draw: size [pixels], samples per pixel and side, number of hairs."""

    size: int = 768
    supersample: int = 3
    hairs: int = 48000


@dataclass(frozen=True)
class Picture:
    """image: [size, size, 3] uint8 RGB; landmarks: [478, 3] float32 in its pixels, z away from the viewer."""

    image: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """The nearest solid surface behind the hair. part: 0 nothing, 1 head, 2 neck, 3 eyes, 4 cloth."""

    depth: np.ndarray
    normals: np.ndarray
    part: np.ndarray
    albedo: np.ndarray
    roughness: np.ndarray


def render(look: Look) -> Picture:
    """Draw the portrait; the same `look` gives the same picture."""
    frame = Frame(look.size * look.supersample)
    face = geometry.build()
    scene, eye = _solids(frame, face)
    hairs = hair.view(frame, hair.grow(look.hairs))
    on_solids, on_hair = _light(look, scene, hairs)
    colour = _shade(frame, scene, eye, *on_solids)
    colour = _fine_hairs(frame, face, colour)
    colour = _cover_with_hair(frame, colour, scene.depth, hairs, *on_hair)
    small = _shrink(colour, look.supersample)
    return Picture(_develop(small), Frame(look.size).pixels(face.landmarks.copy()).astype(np.float32))


def _solids(frame: Frame, face: geometry.Face) -> tuple[_Scene, eyes.Eyes]:
    depth, normals = draw_mesh(frame, face.vertices, face.triangles, face.normals)
    eye = eyes.look(frame, face.landmarks)
    torso = body.march(frame)
    paint = skin.paint(frame, face.landmarks, face.contours)
    layers = np.stack([depth, torso.depth, eye.depth])
    nearest = layers.argmin(0)
    cloth = (nearest == 1) & (torso.material != body.SKIN)
    part = np.where(layers.min(0) > FAR / 2, 0, np.where(cloth, 4, np.array([1, 2, 3])[nearest]))
    normals = np.choose(nearest[..., None], [normals, torso.normals, eye.normals])
    normals = lighting.unit(normals).astype(np.float32)
    normals = _emboss(normals, np.where(part == 1, paint.relief, 0.0), frame.scale, part == 1)
    collar = torso.material == body.COLLAR
    albedo, roughness, relief = _materials(frame, part, collar, paint, eye)
    normals = _emboss(normals, relief, frame.scale, part == 4)
    return _Scene(layers.min(0), normals, part, albedo, roughness), eye


def _emboss(normals: np.ndarray, relief: np.ndarray, scale: float, where: np.ndarray) -> np.ndarray:
    """Tilt normals by the slope of a relief [H, W] (units towards the viewer)."""
    slope_y, slope_x = np.gradient(relief * scale)
    tilted = normals.copy()
    tilted[..., 0] -= slope_x
    tilted[..., 1] -= slope_y
    return np.where(where[..., None], lighting.unit(tilted), normals).astype(np.float32)


def _materials(
    frame: Frame, part: np.ndarray, collar: np.ndarray, paint: skin.Skin, eye: eyes.Eyes
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = frame.grid()
    knit_u, knit_v = x / 0.052, (y + 0.12 * np.cos(1.1 * x)) / 0.040
    stitch = np.abs(np.sin(np.pi * (knit_v + 0.45 * np.abs((knit_u % 1) - 0.5)))) * np.sin(np.pi * (knit_u % 1)) ** 0.5
    rib = np.abs(np.sin(np.arctan2(x, 1.9 - y + 1e-6) * 46))
    relief = np.where(collar, 0.008 * rib, 0.009 * stitch).astype(np.float32)
    wool = srgb(36, 92, 104) * (0.62 + 0.42 * np.where(collar, rib, stitch))[..., None]
    wool = wool * (1 + 0.05 * noise(frame, 0.012, 31))[..., None]
    scalp = smoothstep(0.015, -0.03, y - hair.hairline(x))
    flesh = mix(paint.albedo, srgb(58, 36, 27), 0.95 * scalp * (part == 1))
    albedo = np.where((part == 4)[..., None], wool, flesh)
    albedo = np.where((part == 3)[..., None], eye.albedo * eye.shade[..., None], albedo)
    roughness = np.where(part == 4, 0.9, paint.roughness)
    return albedo.astype(np.float32), roughness.astype(np.float32), relief


def _resize(picture: np.ndarray, size: int) -> np.ndarray:
    planes = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(picture), np.float32)).permute(2, 0, 1)[None]
    grown = functional.interpolate(planes, (size, size), mode="bilinear", antialias=size < picture.shape[0])
    return grown[0].permute(1, 2, 0).numpy().reshape(size, size, *picture.shape[2:])


def _light(look: Look, scene: _Scene, hairs: hair.HairView) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Irradiance, openness and key visibility on the solid surfaces, and the same on the hair.

    Worked out at the picture's size, given at the size of the scene.
    """
    in_front = hairs.depth < scene.depth
    capped = np.where(scene.depth > FAR / 2, 2.2, scene.depth)
    there = in_front.astype(np.float32)
    reach = 0.022 * Frame(scene.depth.shape[0]).scale
    soft_hair = blur(np.where(in_front, hairs.depth, 0.0), reach) / np.maximum(blur(there, reach), 1e-3)
    depth = _resize(np.where(in_front, soft_hair, capped), look.size)
    normals = _resize(np.where(in_front[..., None], hairs.normal, scene.normals), look.size)
    maps = lighting.illuminate(depth, lighting.unit(normals).astype(np.float32), Frame(look.size).scale)
    full = scene.depth.shape[0]
    solid = tuple(_resize(m, full) for m in maps)
    cover = (_resize(there, look.size) > 0.7).astype(np.float32)
    return solid, tuple(_resize(_spread(m, cover, Frame(look.size).scale), full) for m in maps)


def _spread(values: np.ndarray, cover: np.ndarray, scale: float) -> np.ndarray:
    """Values known where `cover` is 1, carried beyond its edge: what lights a lock also lights its stray hairs."""
    known = values * cover.reshape(*cover.shape, *[1] * (values.ndim - 2))
    out = values
    for radius in (0.12, 0.03, 0.008):
        weight = blur(cover, radius * scale)
        shape = (*cover.shape, *[1] * (values.ndim - 2))
        near = blur(known, radius * scale) / np.maximum(weight, 1e-4).reshape(shape)
        out = np.where((weight > 0.02).reshape(shape), near, out)
    return out


def _shade(
    frame: Frame,
    scene: _Scene,
    eye: eyes.Eyes,
    light: np.ndarray,
    openness: np.ndarray,
    key: np.ndarray,
) -> np.ndarray:
    lit = light
    for part in (1, 2):  # the face's light does not bleed into the neck behind it
        lit = lighting.scatter(lit, (scene.part == part).astype(np.float32), frame.scale)
    colour = scene.albedo * lit * 0.385
    skin_like = np.isin(scene.part, (1, 2))
    spec = lighting.gloss(scene.normals, scene.roughness, lighting.KEY) * key * 1.5
    spec += lighting.gloss(scene.normals, scene.roughness, lighting.FILL) * 0.30 * openness
    spec += lighting.gloss(scene.normals, scene.roughness, lighting.TOP) * 0.25 * openness
    colour += np.where(skin_like, spec, 0)[..., None] * 0.9
    edge = lighting.rim(scene.normals) * np.where(skin_like, 0.10, 0.16) * (scene.part != 3) * (scene.part != 0)
    colour += edge[..., None] * np.array([0.9, 0.95, 1.05], np.float32) * openness[..., None]
    colour += np.where((scene.part == 3)[..., None], eye.glint, 0)
    return np.where((scene.part == 0)[..., None], _backdrop(frame), colour)


def _backdrop(frame: Frame) -> np.ndarray:
    x, y = frame.grid()
    glow = np.exp(-(((x - 0.5) / 1.9) ** 2) - ((y - 0.5) / 1.7) ** 2)
    colour = mix(np.broadcast_to(srgb(92, 108, 122), (*x.shape, 3)), srgb(206, 204, 196), 0.95 * glow)
    return colour * (1 - 0.10 * smoothstep(0.5, 2.6, y))[..., None]


def _fine_hairs(frame: Frame, face: geometry.Face, colour: np.ndarray) -> np.ndarray:
    brow = strokes.cover(frame, strokes.brows(face.landmarks))
    colour = mix(colour, srgb(74, 48, 36) * 0.8, 0.84 * brow)
    x, y = frame.grid()
    for lid in strokes.UPPER_LIDS.values():
        curve = strokes.smooth_curve(face.landmarks[list(lid), :2], False)
        d = skin.distance(x, y, curve, False)
        u = np.clip(np.abs(x - curve[0, 0]) / np.abs(curve[-1, 0] - curve[0, 0]), 0, 1)
        colour = mix(
            colour,
            srgb(34, 20, 17),
            0.9 * smoothstep(0.013 + 0.009 * u, 0.005 + 0.005 * u, d) * smoothstep(0.0, 0.2, u),
        )
    colour = mix(colour, srgb(26, 16, 14), 0.93 * strokes.cover(frame, strokes.lashes(face.landmarks)))
    return mix(colour, srgb(70, 44, 32) * 0.8, 0.75 * strokes.cover(frame, strokes.baby_hairs(hair.hairline)))


def _cover_with_hair(
    frame: Frame,
    colour: np.ndarray,
    solid: np.ndarray,
    hairs: hair.HairView,
    light: np.ndarray,
    openness: np.ndarray,
    key: np.ndarray,
) -> np.ndarray:
    there = hairs.depth < FAR / 2
    envelope = blur(np.where(there, hairs.depth, 2.0), 0.03 * frame.scale)
    deep = np.exp(-3.2 * np.clip(hairs.depth - envelope + 0.03, 0, None))
    base = mix(np.broadcast_to(srgb(62, 38, 27), (*there.shape, 3)), srgb(122, 76, 48), 0.40 + 0.34 * hairs.tone)
    base = mix(base, srgb(140, 92, 58), 0.25 * smoothstep(1.2, 3.2, hairs.along))
    toward = lighting.unit(lighting.KEY.direction)
    across = np.sqrt(np.clip(1 - (hairs.tangent @ toward.astype(np.float32)) ** 2, 0, 1))
    diffuse = base * light * (0.14 + 0.20 * across)[..., None]
    shift = 0.06 * hairs.tone
    sheen = 0.20 * hair.shine(hairs.tangent, toward, shift - 0.10, 90)[..., None] * srgb(255, 236, 214)
    sheen = sheen + 0.30 * hair.shine(hairs.tangent, toward, shift + 0.12, 22)[..., None] * srgb(206, 140, 88)
    top = lighting.unit(lighting.TOP.direction)
    soft = 0.12 * hair.shine(hairs.tangent, top, shift, 30)[..., None] * srgb(220, 200, 190) * openness[..., None]
    edge = lighting.rim(hairs.normal)[..., None] * 0.30 * srgb(235, 225, 225) * across[..., None]
    hair_colour = (diffuse + (sheen * key[..., None] + soft) * 0.55 + edge * openness[..., None]) * deep[..., None]
    in_front = there & (hairs.depth < solid)
    return np.where(in_front[..., None], hair_colour, colour)


def _shrink(colour: np.ndarray, factor: int) -> np.ndarray:
    size = colour.shape[0] // factor
    return colour.reshape(size, factor, size, factor, 3).mean((1, 3))


def _develop(colour: np.ndarray) -> np.ndarray:
    """Linear light to display bytes: a filmic shoulder, then sRGB, a little dither against banding."""
    v = np.clip(colour, 0, None) * 1.05
    filmic = v * (2.51 * v + 0.03) / (v * (2.43 * v + 0.59) + 0.14)
    gentle = (1 - np.exp(-1.25 * v)) / (1 - np.exp(-1.25 * 1.6))
    v = np.clip(0.5 * filmic + 0.5 * gentle, 0, 1)
    v = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    dither = np.random.default_rng(1).random(v.shape[:2])[..., None] - 0.5
    return np.clip(np.floor(v * 255 + 0.5 + 0.8 * dither), 0, 255).astype(np.uint8)
