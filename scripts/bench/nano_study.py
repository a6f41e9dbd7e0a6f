"""Where the embedded model is right and where it is wrong: ladders on unseen pictures, per type, and the worst of them.

    python scripts/bench/nano_study.py --output scripts/bench/nano_study.json --picture docs/nano_failures.png

A ladder is one picture, one distortion, five rising strengths. Pictures come from another seed than any training set,
photographs from the sources that are never trained on. Knows the public Scorer and the generator.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import spearmanr

from q_align import Scorer
from q_align.synthetic.damage import damage
from q_align.synthetic.distort import DISTORTIONS, distort
from q_align.synthetic.photos import TEST_PHOTOS, photo_crop
from q_align.synthetic.scenes import SCENES, scene
from q_align.types import Item

STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
SEED = 4242


def pictures(count: int, size: int) -> list[tuple[str, np.ndarray]]:
    names = [*TEST_PHOTOS, *SCENES]
    out = []
    for i in range(count):
        name, rng = names[i % len(names)], np.random.default_rng((SEED, i))
        out.append((name, photo_crop(rng, size, name) if name in TEST_PHOTOS else scene(rng, size, name)))
    return out


def study(model: str, count: int, size: int) -> tuple[dict, list]:
    keys, items, lost = [], [], []
    for number, (source, picture) in enumerate(pictures(count, size)):
        for kind in (*DISTORTIONS, "mixture"):
            for strength in STRENGTHS:
                changed = distort(picture, kind, strength, SEED + number)
                keys.append((number, source, kind, strength))
                lost.append(damage(picture, changed, kind, strength, SEED + number))
                items.append(Item(str(len(items)), Image.fromarray(changed), "iqa"))
    scores = np.array([s.value for s in Scorer.from_pretrained(model).stream(items)])
    meant = 5 - 4 * np.array(lost)
    kinds = np.array([k[2] for k in keys])
    rungs = scores.reshape(-1, len(STRENGTHS))
    fall = np.diff(rungs, axis=1) < 0
    record = {
        "model": model,
        "media": len(items),
        "srcc": spearmanr(scores, meant)[0],
        "rmse": float(np.sqrt(np.mean((scores - meant) ** 2))),
        "ladders": len(rungs),
        "ladders_all_steps_down": float(fall.all(1).mean()),
        "steps_down": float(fall.mean()),
        "ladders_end_below_start": float((rungs[:, -1] < rungs[:, 0]).mean()),
        "srcc_by_type": {
            k: round(float(spearmanr(scores[kinds == k], meant[kinds == k])[0]), 3) for k in sorted(set(kinds))
        },
        "bias_by_type": {k: round(float((scores - meant)[kinds == k].mean()), 2) for k in sorted(set(kinds))},
    }
    wrong = np.argsort(-np.abs(scores - meant))
    # one per type and source: a sheet of many kinds of mistakes, not of one
    seen: set[tuple[str, str]] = set()
    worst = []
    for i in wrong:
        if (keys[i][2], keys[i][1]) not in seen and sum(k == keys[i][2] for k, _ in seen) < 2:
            seen.add((keys[i][2], keys[i][1]))
            worst.append((keys[i], float(meant[i]), float(scores[i]), items[i].media))
    return record, worst[:24]


def sheet(worst: list, path: str) -> None:
    side = 168
    page = Image.new("RGB", (6 * side, 4 * (side + 26)), "white")
    draw = ImageDraw.Draw(page)
    for i, ((_, source, kind, strength), meant, score, media) in enumerate(worst):
        x, y = i % 6 * side, i // 6 * (side + 26)
        page.paste(media.crop((0, 0, side - 4, side - 4)), (x, y))
        draw.text((x + 2, y + side - 3), f"{kind} {strength:.1f} on {source}", fill="black")
        draw.text((x + 2, y + side + 9), f"meant {meant:.1f}, scored {score:.1f}", fill="black")
    page.quantize(192).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pictures", type=int, default=28)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--output", required=True)
    parser.add_argument("--picture")
    args = parser.parse_args()
    record, worst = study(args.model, args.pictures, args.size)
    Path(args.output).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))
    if args.picture:
        sheet(worst, args.picture)


if __name__ == "__main__":
    main()
