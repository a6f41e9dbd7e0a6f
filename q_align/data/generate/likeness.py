"""How alike two pictures look: HaarPSI (Reisenhofer, Bosse, Kutyniok, Wiegand 2018), and from it an opinion 1..5.

Knows a pristine and a changed picture; not what was done to it.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

# The paper's constants for 8-bit pictures.
C, ALPHA = 30.0, 4.2
YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
# HaarPSI at which people see no difference, and at which nothing is left to lose.
UNSEEN, RUINED = 0.97, 0.25


def haarpsi(reference: np.ndarray, changed: np.ndarray) -> float:
    """Perceptual similarity in 0..1 of two (h, w, 3) pictures, uint8 or float 0..255; 1 for equal ones."""
    a, b = (_planes(x) for x in (reference, changed))  # (3, h / 2, w / 2)
    similar, weights = [], []
    for axis in (0, 1):
        fine = [_alike(_haar(a[0], n, axis), _haar(b[0], n, axis)) for n in (2, 4)]
        similar.append((fine[0] + fine[1]) / 2)
        weights.append(np.maximum(_haar(a[0], 8, axis), _haar(b[0], 8, axis)))
    blur = [[uniform_filter1d(uniform_filter1d(x, 2, 0), 2, 1) for x in planes[1:]] for planes in (a, b)]
    similar.append((_alike(*(np.abs(p[0]) for p in blur)) + _alike(*(np.abs(p[1]) for p in blur))) / 2)
    weights.append((weights[0] + weights[1]) / 2)
    total = sum(float((_sigmoid(s) * w).sum()) for s, w in zip(similar, weights))
    mean = total / (sum(float(w.sum()) for w in weights) + 1e-9)
    mean = min(max(mean, 1e-6), 1 - 1e-6)
    return float((np.log(mean / (1 - mean)) / ALPHA) ** 2)


def opinion(likeness: float) -> float:
    """HaarPSI -> quality 0 (ruined) .. 1 (no visible difference)."""
    return float(np.clip((likeness - RUINED) / (UNSEEN - RUINED), 0, 1))


def _planes(picture: np.ndarray) -> np.ndarray:
    x = np.tensordot(YIQ, picture.astype(np.float32), ([1], [2]))
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _haar(x: np.ndarray, n: int, axis: int) -> np.ndarray:
    """Magnitude of the n x n Haar coefficient across `axis`."""
    box = uniform_filter1d(uniform_filter1d(x, n, 1 - axis), n // 2, axis)
    return np.abs(box - np.roll(box, n // 2, axis)) * (n / 2)


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (2 * a * b + C**2) / (a * a + b * b + C**2)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-ALPHA * x))
