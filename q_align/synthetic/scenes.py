"""Procedural scenes: images without a camera, each from a seed, with edges, textures, shading and smooth parts.

Drawn at twice the size and shrunk, so that edges are as soft as a good lens makes them.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from q_align.synthetic.scene_parts import (
    Array,
    color_map,
    linear_gradient,
    palette,
    random_field,
    textured,
    well_exposed,
)


def leaves(rng: np.random.Generator, size: int) -> Array:
    """Dead leaves: opaque shapes of power-law sizes, front over back, as natural scenes occlude."""
    base = Image.fromarray((color_map(linear_gradient(rng, size), palette(rng, 3)) * 255).astype(np.uint8))
    marks = Image.new("L", (size, size), 0)
    paint, mark = ImageDraw.Draw(base), ImageDraw.Draw(marks)
    colours = (palette(rng, 24) * 255).astype(int)
    count = int(rng.integers(60, 700))
    radius = np.sort(size * np.exp(rng.uniform(np.log(0.008), np.log(0.22), count)))[::-1]
    kind = rng.integers(0, 3) if rng.random() < 0.5 else None
    for i, r in enumerate(radius):
        x, y = rng.uniform(-0.05, 1.05, 2) * size
        fill, number = tuple(int(c) for c in colours[rng.integers(24)]), int(rng.integers(1, 255))
        shape = kind if kind is not None else i % 3
        if shape == 0:
            box = (x - r, y - r * rng.uniform(0.4, 1), x + r, y + r * rng.uniform(0.4, 1))
            paint.ellipse(box, fill=fill)
            mark.ellipse(box, fill=number)
        else:
            corners = 4 if shape == 1 else int(rng.integers(3, 8))
            turn = (
                np.sort(rng.uniform(0, 2 * np.pi, corners))
                if shape == 2
                else np.arange(4) * np.pi / 2 + rng.uniform(0, 3)
            )
            points = [(x + r * np.cos(a), y + r * rng.uniform(0.6, 1) * np.sin(a)) for a in turn]
            paint.polygon(points, fill=fill)
            mark.polygon(points, fill=number)
    return textured(rng, size, base, marks)


def landscape(rng: np.random.Generator, size: int) -> Array:
    """Sky with clouds, ridges behind ridges, textured ground."""
    depth = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    clouds = random_field(rng, size, rng.uniform(1.2, 1.9))
    sky = color_map(np.clip(depth + 0.5 * (clouds - 0.5) * rng.random(), 0, 1) * np.ones((1, size)), palette(rng, 3))
    out = np.clip(sky + 0.4 * np.clip(clouds - 0.55, 0, 1)[..., None], 0, 1)
    rows = np.arange(size)[:, None]
    count = int(rng.integers(2, 6))
    for i in range(count):
        ridge = random_field(rng, size, rng.uniform(1.1, 2.0))[0]
        top = size * (0.3 + 0.6 * i / count + 0.3 * (ridge - 0.5))
        ground = color_map(random_field(rng, size, rng.uniform(0.4, 1.4)), palette(rng, 3))
        air = 0.6 * (1 - (i + 1) / count)
        out = np.where((rows > top[None])[..., None], ground * (1 - air) + sky.mean((0, 1)) * air, out)
    return out


def page(rng: np.random.Generator, size: int) -> Array:
    """Lines of letters in several sizes, on paper or on a gradient."""
    dark = rng.random() < 0.3
    back = color_map(linear_gradient(rng, size), palette(rng, 2)) * 0.3 + (0.05 if dark else 0.68)
    image = Image.fromarray((np.clip(back, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    letters = list(string.ascii_letters + "      " + string.digits)
    y = float(rng.uniform(-10, 10))
    while y < size:
        height = int(rng.choice([14, 18, 24, 32, 48, 80]))
        shade = rng.uniform(150, 255, 3) if dark else rng.uniform(0, 90, 3)
        text = "".join(rng.choice(letters, 2 * size // height))
        draw.text(
            (rng.uniform(-20, 20), y), text, fill=tuple(int(v) for v in shade), font=ImageFont.load_default(height)
        )
        y += height * rng.uniform(1.0, 1.5)
    paper = 1 + 0.1 * (random_field(rng, size, 1.0) - 0.5)
    image = image.rotate(rng.uniform(-15, 15) if rng.random() < 0.5 else 0, Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255 * paper[..., None]


def marble(rng: np.random.Generator, size: int) -> Array:
    """Warped bands and clouds of colour: stone, wood, water."""
    # steeper ones look out of focus, and are then rated as flawless
    field = random_field(rng, size, rng.uniform(0.8, 1.35))
    if rng.random() < 0.6:
        bands = np.sin(2 * np.pi * (rng.uniform(2, 14) * linear_gradient(rng, size) + rng.uniform(0.5, 4) * field))
        field = np.clip(0.5 + 0.5 * bands * rng.uniform(0.5, 1) + 0.3 * (random_field(rng, size, 0.7) - 0.5), 0, 1)
    if rng.random() < 0.3:
        field = np.floor(field * rng.integers(4, 9)) / 8
    light = 0.7 + 0.6 * random_field(rng, size, 2.0)
    return color_map(field, palette(rng, int(rng.integers(3, 7)))) * light[..., None]


def cells(rng: np.random.Generator, size: int) -> Array:
    """Voronoi cells with joints: tiles, stones, skins, leaves."""
    from scipy.spatial import cKDTree

    points = rng.random((int(rng.integers(12, 300)), 2)) * size
    grid = np.moveaxis(np.mgrid[0:size, 0:size], 0, -1).reshape(-1, 2)
    near, owner = cKDTree(points).query(grid, k=2)
    gap = ((near[:, 1] - near[:, 0]).reshape(size, size) / 2).astype(np.float32)
    flat = palette(rng, len(points))[owner[:, 0]].reshape(size, size, 3)
    joint = np.clip(gap / rng.uniform(1.0, 6.0), 0, 1)
    dome = 0.7 + 0.3 * np.clip(gap / (0.3 * np.percentile(gap, 95) + 1e-6), 0, 1)
    grain = 1 + rng.uniform(0, 0.5) * (random_field(rng, size, rng.uniform(0.3, 1.2)) - 0.5)
    return flat * (joint * dome * grain)[..., None]


def strands(rng: np.random.Generator, size: int) -> Array:
    """Hundreds of thin curves: grass, hair, branches, wires."""
    image = Image.fromarray((color_map(random_field(rng, size, 1.8), palette(rng, 3)) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    colours = (palette(rng, 16) * 255).astype(int)
    lean, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 1.5)
    steps = np.linspace(0, 1, 9)
    for _ in range(int(rng.integers(60, 700))):
        start = rng.uniform(-0.1, 1.1, 2) * size
        angle = lean + rng.normal(0, bend) + rng.normal(0, bend) * steps
        path = start + np.cumsum(np.stack([np.cos(angle), np.sin(angle)], -1) * size * rng.uniform(0.01, 0.06), 0)
        fill = tuple(int(c) for c in colours[rng.integers(16)])
        draw.line([(float(a), float(b)) for a, b in path], fill=fill, width=int(rng.integers(1, 7)))
    return np.asarray(image, np.float32) / 255 * (0.8 + 0.4 * random_field(rng, size, 2.0))[..., None]


def town(rng: np.random.Generator, size: int) -> Array:
    """Fronts with rows of windows before a sky."""
    sky = color_map(
        np.clip(linear_gradient(rng, size) + 0.3 * (random_field(rng, size, 1.6) - 0.5), 0, 1), palette(rng, 3)
    )
    image = Image.fromarray((sky * 255).astype(np.uint8))
    marks = Image.new("L", (size, size), 0)
    draw, mark = ImageDraw.Draw(image), ImageDraw.Draw(marks)
    x = -size * rng.uniform(0, 0.1)
    while x < size:
        width = size * rng.uniform(0.1, 0.4)
        top = size * rng.uniform(0.05, 0.7)
        wall, glass, frame = (tuple(int(c * 255) for c in colour) for colour in palette(rng, 3))
        draw.rectangle((x, top, x + width, size), fill=wall)
        mark.rectangle((x, top, x + width, size), fill=int(rng.integers(1, 255)))
        step = size * rng.uniform(0.025, 0.08)
        for left in np.arange(x + step * 0.3, x + width - step * 0.6, step):
            for high in np.arange(top + step * 0.4, size, step * 1.3):
                draw.rectangle((left, high, left + step * 0.5, high + step * 0.8), fill=glass, outline=frame, width=2)
        x += width * rng.uniform(0.7, 1.05)
    return textured(rng, size, image, marks)


def graphic(rng: np.random.Generator, size: int) -> Array:
    """Few clean shapes and gradients, as in drawings and screens."""
    image = Image.fromarray((color_map(linear_gradient(rng, size), palette(rng, 2)) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    colours = (palette(rng, 10) * 255).astype(int)
    for _ in range(int(rng.integers(4, 30))):
        x, y = rng.uniform(0, size, 2)
        r = size * rng.uniform(0.02, 0.3)
        fill = tuple(int(c) for c in colours[rng.integers(10)])
        box = (x - r, y - r, x + r, y + r)
        if rng.random() < 0.4:
            draw.ellipse(box, fill=fill if rng.random() < 0.7 else None, outline=fill, width=int(rng.integers(2, 12)))
        elif rng.random() < 0.5:
            draw.rounded_rectangle(box, radius=r * rng.random(), fill=fill)
        else:
            for k in range(int(rng.integers(3, 20))):
                draw.line((x, y + 8 * k, x + r, y + 8 * k + r * 0.3), fill=fill, width=int(rng.integers(1, 6)))
    return np.asarray(image, np.float32) / 255


def focus(rng: np.random.Generator, size: int) -> Array:
    """A sharp subject before a background out of focus: blur that is no fault."""
    from scipy.ndimage import gaussian_filter

    back = gaussian_filter(_plain(rng, size), (size * rng.uniform(0.008, 0.04),) * 2 + (0,))
    front = _plain(rng, size)
    field = random_field(rng, size, 2.2) + 0.8 * (
        0.5 - np.hypot(*(np.mgrid[0:size, 0:size] / size - rng.uniform(0.3, 0.7)))
    )
    inside = np.clip((field - np.percentile(field, rng.uniform(35, 60))) * size / 6, 0, 1)[..., None]
    return front * inside + back * (1 - inside)


def collage(rng: np.random.Generator, size: int) -> Array:
    """Two to four scenes side by side, each with a light of its own, with sharp borders: things that rarely meet."""
    out = _plain(rng, size, MANY)
    for _ in range(int(rng.integers(1, 4))):
        other = _plain(rng, size, MANY) * rng.uniform(0.5, 1.3)
        border = linear_gradient(rng, size) + rng.uniform(0, 0.4) * (
            random_field(rng, size, rng.uniform(1.0, 2.0)) - 0.5
        )
        inside = np.clip((border - np.percentile(border, rng.uniform(40, 80))) * size, 0, 1)[..., None]
        out = np.clip(other, 0, 1) * inside + out * (1 - inside)
    return out


Scene = Callable[[np.random.Generator, int], Array]
FEW: tuple[Scene, ...] = (leaves, marble, cells, strands, town)
MANY: tuple[Scene, ...] = (*FEW, landscape, page, graphic)


def _plain(rng: np.random.Generator, size: int, kinds: tuple[Scene, ...] = FEW) -> Array:
    return kinds[rng.integers(len(kinds))](rng, size)


SCENES: dict[str, Scene] = {
    f.__name__: f for f in (leaves, landscape, page, marble, cells, strands, town, graphic, focus, collage)
}


def scene(rng: np.random.Generator, size: int, kind: str | None = None) -> Array:
    """One image (size, size, 3) uint8 of a kind of SCENES, or of any."""
    name = kind or list(SCENES)[rng.integers(len(SCENES))]
    large = np.clip(SCENES[name](rng, 2 * size), 0, 1)
    image = Image.fromarray((large * 255 + 0.5).astype(np.uint8))
    return well_exposed(rng, np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)))
