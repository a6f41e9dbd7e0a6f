"""Writes a trained nano into the package: float16 weights, tokenizer, and a card that says what they are.

python scripts/pack_nano.py CHECKPOINT [CHECKPOINT ...] q_align/model/nano/weights

Of several checkpoints of one run it takes the mean of the weights.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from q_align.model.backbone import Backbone

ABOUT = {
    "name": "nano, the embedded model of q_align",
    "licence": "Apache-2.0",
    "data": "generated media only (q-align data generate --preset pretrain): procedural scenes, packaged photographs, "
    "graded distortions, simulated raters; no person's opinion",
    "limits": "a demonstration and a base for fine-tuning; docs/nano.md says where it fails",
}


def pack(first: str, *others: str, target: str) -> None:
    backbone = Backbone.from_pretrained(first)
    states = [backbone.model.state_dict(), *(Backbone.from_pretrained(other).model.state_dict() for other in others)]
    mean = {k: sum(s[k].double() for s in states) / len(states) for k in states[0]}
    backbone.model.load_state_dict({k: value.to(states[0][k].dtype) for k, value in mean.items()})
    backbone.model.half()
    # all stages learn from one set; names and paths of the training machine mean nothing elsewhere
    taught = [{**backbone.card.trained_on[-1], "source": "generated"}]
    backbone.card = dataclasses.replace(backbone.card, base=None, about=ABOUT, trained_on=taught)
    backbone.save(target)
    for path in Path(target).iterdir():
        path.chmod(0o644)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    pack(*sys.argv[1:-1], target=sys.argv[-1])
