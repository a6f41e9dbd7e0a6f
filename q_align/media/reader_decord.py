"""Videos through decord: exact seeking, rotation applied. No wheel for macOS or Linux on arm, no AV1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
from PIL import Image

from q_align.errors import require
from q_align.media.reader_av import ONLY_THIS_FILE
from q_align.media.source import Source, decoder_input
from q_align.media.video import Reader


@contextmanager
def open_video(source: Source) -> Iterator[Reader]:
    """Opens a video; one decoding thread, since many videos are read at once."""
    size = _probe(source) if find_spec("av") is not None else None
    decord = require("decord", extra="video")
    decord.logging.set_level(decord.logging.QUIET)  # the reason reaches the caller as an exception
    video = decord.VideoReader(decoder_input(source), num_threads=1)
    count = len(video)
    if count == 0:
        raise ValueError("no frames")
    times = np.asarray(video.get_frame_timestamp(range(count)), dtype=np.float64)[:, 0]  # (N,)
    if size is None:
        height, width = video[0].shape[:2]
        size = (width, height)

    def read(index: int) -> Image.Image:
        return Image.fromarray(video[index].asnumpy())

    yield Reader(times, float(video.get_avg_fps()), size, read)


def _probe(source: Source) -> tuple[int, int] | None:
    """Width and height before anything is decoded, None without a video stream; raises FFmpeg's own reason
    for what is no video, where decord prints a line whatever its log level."""
    av = require("av", extra="video")
    with av.open(decoder_input(source), options=ONLY_THIS_FILE) as container:
        streams = container.streams.video
        size = (streams[0].width, streams[0].height) if streams else None
    if hasattr(source, "seek"):
        source.seek(0)
    return size if size and all(size) else None
