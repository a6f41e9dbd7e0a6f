"""Fixtures of rated images and a scorer without a model (tests/rated_images.py)."""

from __future__ import annotations

from rated_images import fake, rated

__all__ = ["fake", "rated"]
