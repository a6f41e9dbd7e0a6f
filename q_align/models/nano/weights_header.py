"""Compares the sizes in a config.json with the header of the weights, before a network of these sizes is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from q_align.errors import CheckpointError
from q_align.models.nano.shape import NanoShape

# No weight depends on these two.
LARGEST_TILE, LARGEST_POOL = 4096, 32


def check_sizes(shape: NanoShape, weights: Path) -> None:
    """Refuses a configuration that does not belong to the weights.

    Raises:
        CheckpointError: names the key and both sizes.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            stored = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights}: cannot be read ({' '.join(str(error).split())})") from error
    for key, size in _sizes(stored).items():
        given: Any = getattr(shape, key)
        if given != size:
            raise CheckpointError(
                f"{weights}: does not fit config.json ({key} is {str(given)[:60]} there, {size} in the weights)"
            )
    for key, largest in {"tile": LARGEST_TILE, "pool": LARGEST_POOL, "heads": shape.hidden}.items():
        given = getattr(shape, key)
        if not isinstance(given, int) or not 1 <= given <= largest:
            raise CheckpointError(f"{weights.parent / 'config.json'}: {key} is {given!r}, not within 1 to {largest}")


def _sizes(stored: dict[str, list[int]]) -> dict[str, Any]:
    """The sizes that weights imply; a weight that is missing counts as 0."""

    def rows(name: str) -> int:
        return (stored.get(name) or [0])[0]

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in stored if name.startswith(prefix)})

    stages = range(count("vision.stages."))
    return {
        "vocab_size": rows("decoder.embed_tokens.weight"),
        "hidden": (stored.get("decoder.embed_tokens.weight") or [0])[-1],
        "layers": count("decoder.layers."),
        "mlp": rows("decoder.layers.0.gate_proj.weight"),
        "channels": tuple(rows(f"vision.stages.{i}.conv.weight") for i in stages),
        "blocks": tuple(count(f"vision.stages.{i}.blocks.") for i in stages),
        "tones": rows("vision.tones.inner.weight"),
    }
