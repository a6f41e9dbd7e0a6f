"""A set of ids at 16 bytes each, for hundreds of millions of them.

It stores 128-bit digests: the chance that any two of a billion ids share one is about 1e-21.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

FRESH = 1 << 20  # digests in a plain set before they are sorted into the arrays
DIGEST = np.dtype([("high", ">u8"), ("low", ">u8")])


class DigestSet:
    """A growing set of ids: a small plain set for new ones, sorted arrays for the rest."""

    def __init__(self) -> None:
        self.fresh: set[bytes] = set()
        self.high = np.empty(0, dtype=np.uint64)
        self.low = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.fresh) + len(self.high)

    def __contains__(self, key: str) -> bool:
        return self._has(_digest(key))

    def add(self, key: str) -> bool:
        """Adds an id; returns whether it is new."""
        digest = _digest(key)
        if self._has(digest):
            return False
        self.fresh.add(digest)
        if len(self.fresh) >= FRESH:
            self._sort_in()
        return True

    def _has(self, digest: bytes) -> bool:
        if digest in self.fresh:
            return True
        if not len(self.high):
            return False
        high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
        first = int(np.searchsorted(self.high, np.uint64(high)))
        while first < len(self.high) and self.high[first] == high:
            if self.low[first] == low:
                return True
            first += 1
        return False

    def _sort_in(self) -> None:
        new = np.frombuffer(b"".join(self.fresh), dtype=DIGEST)
        high = np.concatenate([self.high, new["high"].astype(np.uint64)])
        low = np.concatenate([self.low, new["low"].astype(np.uint64)])
        order = np.argsort(high, kind="stable")
        self.high, self.low = high[order], low[order]
        self.fresh = set()


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
