"""Lossy coding at a given strength: JPEG, WebP, JPEG 2000 through Pillow; H.264, H.265 through PyAV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from q_align.errors import require


def recode(image: np.ndarray, kind: str, **options: Any) -> np.ndarray:
    """Encodes with a Pillow format and decodes again: (h, w, 3) uint8 -> the same shape."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    with Image.open(buffer) as decoded:
        return np.asarray(decoded.convert("RGB"))


def jpeg_coded(image: np.ndarray, quality: float, *, colour: bool = False) -> np.ndarray:
    """JPEG at quality 1..100; `colour` keeps full colour resolution."""
    return recode(image, "JPEG", quality=round(quality), subsampling=0 if colour else 2)


def webp_coded(image: np.ndarray, quality: float) -> np.ndarray:
    """WebP at quality 0..100."""
    return recode(image, "WEBP", quality=round(quality), method=2)


def jpeg2000_coded(image: np.ndarray, ratio: float) -> np.ndarray:
    """JPEG 2000 at a compression ratio."""
    return recode(image, "JPEG2000", quality_mode="rates", quality_layers=[max(1.0, ratio)], irreversible=True)


def intra_coded(image: np.ndarray, codec: str, crf: float) -> np.ndarray:
    """One intra frame of libx264 or libx265 at a constant rate factor 0..51."""
    height, width = image.shape[:2]
    # coders need even sizes of at least 16 pixels
    down, right = max(16, height + height % 2) - height, max(16, width + width % 2) - width
    padded = np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge")
    return decode_mp4(encode_mp4([padded], codec, crf))[0][:height, :width]


def encode_mp4(frames: Sequence[np.ndarray], codec: str, crf: float, *, fps: int = 8, keyframes: int = 1) -> bytes:
    """Frames (h, w, 3) uint8 of even size -> an MP4 file; the same bytes for the same frames."""
    av = require("av", extra="generate")
    options = {"crf": f"{crf:.1f}", "preset": "superfast"}
    if codec == "libx265":
        options["x265-params"] = f"log-level=none:keyint={keyframes}:pools=none:frame-threads=1:info=0"
    else:
        options |= {"threads": "1", "g": str(keyframes)}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = options
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def decode_mp4(data: bytes) -> list[np.ndarray]:
    av = require("av", extra="generate")
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
