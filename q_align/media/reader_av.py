"""Videos through PyAV (FFmpeg): every codec that FFmpeg decodes. Rotation is applied here; FFmpeg only reports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from q_align.errors import require
from q_align.media.source import Source, decoder_input
from q_align.media.video import Reader

# Nearer than this, decoding on is cheaper than seeking to a key frame.
NEAR_SECONDS = 2.0
# A playlist inside the file opens no connection, and "%d" in its name is no pattern of file names.
ONLY_THIS_FILE = {"protocol_whitelist": "file", "pattern_type": "none"}


@contextmanager
def open_video(source: Source) -> Iterator[Reader]:
    """Opens a video; frames are numbered in the order in which they are shown."""
    av = require("av", extra="video")
    with av.open(decoder_input(source), options=ONLY_THIS_FILE) as container:
        if not container.streams.video:
            raise ValueError("no video stream in it")
        stream = container.streams.video[0]
        stamps = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        if not stamps:
            raise ValueError("no frames")
        times = np.asarray(stamps, dtype=np.float64) * float(stream.time_base)  # (N,)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        seeker = _Seeker(container, stream, stamps)
        short = f"the file ends after {len(stamps)} of {stream.frames} frames"
        yield Reader(
            times, rate, (stream.width, stream.height), seeker.read, short if len(stamps) < stream.frames else None
        )


class _Seeker:
    """Decodes forward, and seeks where the next wanted frame is far ahead."""

    def __init__(self, container: Any, stream: Any, stamps: list[int]) -> None:
        self.container, self.stream, self.stamps = container, stream, stamps
        self.near = int(NEAR_SECONDS / float(stream.time_base))
        self.frames: Iterator[Any] | None = None
        self.at = -1  # time stamp of the frame decoded last

    def read(self, index: int) -> Image.Image:
        wanted = self.stamps[index]
        if self.frames is None or not self.at < wanted <= self.at + self.near:
            self.container.seek(wanted, stream=self.stream, backward=True)
            self.frames = self.container.decode(self.stream)
        for frame in self.frames:
            self.at = frame.pts if frame.pts is not None else self.at
            if self.at >= wanted:
                return _upright(frame)
        self.frames = None
        raise EOFError("the video ends before it")


def _upright(frame: Any) -> Image.Image:
    image = frame.to_image()
    quarter = int(getattr(frame, "rotation", 0)) % 360  # counter-clockwise, like Pillow's
    return image.rotate(quarter, expand=True) if quarter else image
