"""How much of a file is read: bounds that stop one bad file from exhausting the machine.

Pillow warns of images above its own limit (`Image.MAX_IMAGE_PIXELS`) and refuses those above twice that; ours is the
first of the two, and an error.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one image or video; beyond them it is a `MediaError`, never a crash.

    Attributes:
        max_pixels: width times height of an image or of a video's frame.
        max_side: the longer side; encoders pad to a square, so 30000 x 2 costs what 30000 x 30000 does.
        max_bytes: of an encoded image, and of anything that is downloaded. Video files on disk are read in pieces and
            have no such bound; how many frames are held is `MediaSpec.max_frames`.
        allow_urls: fetch http and https addresses; off by default.
        url_seconds: time for one download, all redirects included.
        damaged: "read" scores what can be decoded of a damaged video and puts a warning into its row; "error" refuses.
            A damaged image is always an error.
    """

    max_pixels: int = 89_478_485
    max_side: int = 16_384
    max_bytes: int = 256 * 2**20
    allow_urls: bool = False
    url_seconds: float = 20.0
    damaged: str = "read"


LIMITS = Limits()
