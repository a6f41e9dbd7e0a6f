"""Generated training data with simulated ratings: scenes and photographs, distortions, a panel of raters.

No person rated any of it; models that learn from it alone are demonstrations, or bases to fine-tune.
"""

from __future__ import annotations

from q_align.synthetic.dataset import GenerationPlan, generate_dataset

# The most common distortions.
COMMON = ("blur", "noise", "jpeg", "rescale", "quantise", "contrast", "exposure")
# quickstart takes half a minute on two cores; scripts/train_nano.sh trains on pretrain; large has images of four tiles.
PRESETS: dict[str, GenerationPlan] = {
    "tiny": GenerationPlan(contents=6, per_content=4, size=64, aesthetics=0.2, clips=0.2, test=0.3),
    "quickstart": GenerationPlan(
        contents=420, per_content=12, size=160, types=COMMON, mixtures=0, aesthetics=0, clips=0
    ),
    "pretrain": GenerationPlan(contents=9600, per_content=9, size=224, photos=0.45, aesthetics=0.03, clips=0.005),
    "large": GenerationPlan(contents=160, per_content=10, size=448, photos=0.45, seed=1, clips=0.0),
}

__all__ = ["PRESETS", "GenerationPlan", "generate_dataset"]
