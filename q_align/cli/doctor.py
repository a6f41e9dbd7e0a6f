"""q-align doctor: versions, devices, optional parts, and one forward pass of the packaged model."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib import metadata
from typing import Any

# distribution -> extra that brings it (None: always needed)
PARTS: dict[str, str | None] = {
    "torch": None,
    "transformers": None,
    "numpy": None,
    "pillow": None,
    "pyarrow": None,
    "scipy": None,
    "accelerate": "train",
    "peft": "train",
    "deepspeed": "train",
    "tensorboard": "train",
    "decord": "video",
    "av": "video",
    "sentencepiece": "legacy",
    "bitsandbytes": "quant",
    "ray": "cluster",
}


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("doctor", help="check versions, devices, optional parts and a forward pass")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import q_align

    print(
        f"q_align {q_align.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    missing = []
    for name, extra in PARTS.items():
        try:
            print(f"  {name:14} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            hint = f"pip install 'q_align[{extra}]'" if extra else "needed: pip install q_align"
            print(f"  {name:14} not installed ({hint})")
            missing += [] if extra else [name]
    if missing:
        print(f"q-align: error: required parts are missing: {', '.join(missing)}", file=sys.stderr)
        return 1
    import torch

    from q_align.models.device import X86, best_device, has_instructions, resolve_dtype

    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    print(f"devices: {', '.join(devices) or 'cpu only'}; {torch.get_num_threads()} threads")
    if platform.machine() in X86:
        speeds = (f"{t} is {'fast' if has_instructions(t) else 'emulated (slow)'}" for t in ("bfloat16", "float16"))
        print(f"CPU: {', '.join(speeds)}")
    print(f"default precision: {resolve_dtype('auto', best_device())}")
    return _forward()


def _forward() -> int:
    import numpy as np

    from q_align.score.scorer import Scorer

    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    score = Scorer.from_pretrained("nano").score(grey, task="iqa")
    if score.value is None:
        print(f"q-align: error: the packaged model gives no score ({score.error})", file=sys.stderr)
        return 1
    print("forward pass ok")
    return 0
