"""Opens anything that holds an image or a video as upright RGB images."""

from q_align.media.image import open_image, shrink
from q_align.media.limits import LIMITS, Limits
from q_align.media.video import Frames, is_video, open_frames

__all__ = ["LIMITS", "Frames", "Limits", "is_video", "open_frames", "open_image", "shrink"]
