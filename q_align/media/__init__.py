"""Media: anything that holds an image or a video -> upright RGB pictures. Knows no model and no labels."""

from q_align.media.image import open_image, shrink
from q_align.media.limits import LIMITS, Limits
from q_align.media.video import is_video, open_frames

__all__ = ["LIMITS", "Limits", "is_video", "open_frames", "open_image", "shrink"]
