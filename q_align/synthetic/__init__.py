"""Generated training media with simulated opinions: scenes and photographs, distortions, a panel of raters.

Nothing here is a person's opinion; models that learn from it alone are demonstrations, or bases to fine-tune.
"""

from __future__ import annotations

from q_align.synthetic.dataset import Plan, write

# The distortions that everyone has met.
COMMON = ("blur", "noise", "jpeg", "rescale", "quantise", "contrast", "exposure")
# quickstart takes half a minute on two cores; scripts/train_nano.sh learns from pretrain; large has grids of tiles.
PRESETS: dict[str, Plan] = {
    "tiny": Plan(contents=6, per_content=4, size=64, aesthetics=0.2, clips=0.2, test=0.3),
    "quickstart": Plan(contents=420, per_content=12, size=160, types=COMMON, mixtures=0, aesthetics=0, clips=0),
    "pretrain": Plan(contents=9600, per_content=9, size=224, photos=0.45, aesthetics=0.03, clips=0.005),
    "large": Plan(contents=160, per_content=10, size=448, photos=0.45, seed=1, clips=0.0),
}

__all__ = ["PRESETS", "Plan", "write"]
