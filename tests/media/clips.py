"""Small videos made on the spot, for tests: any codec, frame times, rotation, cuts, or no picture at all."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT = 96, 64


def frame(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A grey ramp whose brightness tells its number, with a red corner at the top left."""
    _, x = np.mgrid[0:height, 0:width]
    gray = (40 + number * 3 % 160 + x * 40 // width).astype(np.uint8)
    rgb = np.stack([gray] * 3, -1)
    rgb[: height // 4, : width // 4] = (230, 20, 20)
    return rgb


def number_of(image: Any) -> int:
    """Which frame a decoded picture is (for fewer than 53 frames)."""
    return round((float(np.asarray(image)[-8:, :4].mean()) - 40) / 3)


def make_clip(
    path: Path,
    count: int = 30,
    *,
    fps: int = 10,
    codec: str = "libx264",
    times: Sequence[float] | None = None,
    audio: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a video of `count` frames, or of one frame per entry of `times` (seconds)."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        if audio:
            sound = container.add_stream("aac", rate=16_000)
            for i in range(10):
                piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
                piece.sample_rate, piece.pts = 16_000, i * 1024
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
            return path
        stream = container.add_stream(codec, rate=fps, options=options or {"crf": "12", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(count if times is None else len(times)):
            picture = av.VideoFrame.from_ndarray(frame(i), format="rgb24")
            picture.time_base = Fraction(1, 1000) if times is not None else Fraction(1, fps)
            picture.pts = i if times is None else round(times[i] * 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def turned(path: Path, out: Path, degrees: int) -> Path:
    """A copy of an MP4 whose track header says that it is to be shown turned clockwise."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    version = data[at + 4]
    matrix = at + (4 + 40 if version == 0 else 4 + 52)
    one = 0x10000
    cos, sin = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    for i, value in enumerate((cos, sin, 0, -sin, cos, 0, 0, 0, 0x40000000)):
        data[matrix + 4 * i : matrix + 4 * i + 4] = (value & 0xFFFFFFFF).to_bytes(4, "big")
    out.write_bytes(bytes(data))
    return out
