"""Ablation: the same model, data and number of steps with each loss, several seeds, one table of means and deviations.

The data are generated, so anybody can repeat it without downloads. Finished runs are not repeated: the same command
resumes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from q_align.config.resolve import resolve_config
from q_align.config.schema import RunConfig
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError, nearest
from q_align.log import log
from q_align.metrics import plcc, srcc

KEYS = ("sets", "seeds", "model", "base", "variants")


@dataclass(frozen=True, slots=True)
class AblationPlan:
    """What is compared.

    Attributes:
        sets: name -> keyword arguments of `q_align.synthetic.GenerationPlan`; every variant is tested on all of them.
        seeds: one run of every variant for each.
        model: sizes of the nano network that every run starts from, with random weights of its seed (`NanoShape`).
        base: configuration of `q-align train` that all variants share.
        variants: name -> what differs: sections of the configuration, and `sets`, the names trained on (default: all).
    """

    sets: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    model: dict[str, Any]
    base: dict[str, Any]
    variants: dict[str, dict[str, Any]]


def read_plan(path: str | Path) -> AblationPlan:
    """Reads a plan from YAML.

    Raises:
        ConfigError: for unknown or missing keys, or a variant of unknown sets.
    """
    record = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    for key in record:
        if key not in KEYS:
            raise ConfigError(f"{path}: unknown key {key!r}{nearest(key, KEYS)}; keys are {', '.join(KEYS)}")
    missing = [key for key in KEYS if not record.get(key)]
    if missing:
        raise ConfigError(f"{path}: missing {', '.join(missing)}")
    for name, variant in record["variants"].items():
        for used in variant.get("sets", ()):
            if used not in record["sets"]:
                raise ConfigError(
                    f"{path}: variant {name!r} trains on unknown set {used!r}{nearest(used, record['sets'])}"
                )
    return AblationPlan(record["sets"], tuple(record["seeds"]), record["model"], record["base"], record["variants"])


def ablate(plan: AblationPlan, output: str | Path) -> Path:
    """Generates the data, trains and scores every variant with every seed, and writes results.jsonl and table.md.

    Returns:
        The path of the table.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    labels = {name: _data(folder / "data" / name, settings) for name, settings in plan.sets.items()}
    results = folder / "results.jsonl"
    done = _read(results)
    # seed by seed: what an early stop leaves can be compared
    for seed in plan.seeds:
        start = _start(folder / f"start-{seed}", seed, plan.model)
        for name in plan.variants:
            if any((row["variant"], row["seed"]) == (name, seed) for row in done):
                continue
            row = {"variant": name, "seed": seed, **_run(plan, name, seed, start, labels, folder)}
            done.append(row)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            log.info("%s, seed %d: %s", name, seed, ", ".join(f"{k} {v:.3f}" for k, v in row["srcc"].items()))
    path = folder / "table.md"
    path.write_text(ablation_table(done, list(plan.variants), list(plan.sets)), encoding="utf-8")
    return path


def ablation_table(rows: Sequence[dict[str, Any]], variants: Sequence[str], sets: Sequence[str]) -> str:
    """Markdown: mean and standard deviation over the seeds, also of each seed's difference to the first variant."""
    by = {(row["variant"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    heads = [f"{measure} {name}" for name in sets for measure in ("SRCC", "PLCC")]
    lines = [
        f"| variant | {' | '.join(heads)} | mean SRCC | against {variants[0]} | seeds |",
        "| --- |" + " ---: |" * (len(heads) + 3),
    ]
    for name in variants:
        mine = [by[name, seed] for seed in seeds if (name, seed) in by]
        if not mine:
            continue
        cells = [_cell([row[m][s] for row in mine]) for s in sets for m in ("srcc", "plcc")]
        means = {row["seed"]: float(np.mean(list(row["srcc"].values()))) for row in mine}
        first = {seed: float(np.mean(list(by[variants[0], seed]["srcc"].values()))) for seed in means}
        gaps = [means[seed] - first[seed] for seed in means]
        cells += [_cell(list(means.values())), "" if name == variants[0] else _cell(gaps, sign="+"), str(len(mine))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _start(folder: Path, seed: int, shape: dict[str, Any]) -> Path:
    """The checkpoint that the runs of one seed start from."""
    if not folder.is_dir():
        from q_align.models.nano import build

        build(seed, **shape).save(folder)
    return folder


def variant_config(
    plan: AblationPlan, name: str, seed: int, start: Path, labels: dict[str, Path], folder: Path
) -> RunConfig:
    """The resolved configuration of one run; writes its YAML files beside the run.

    Raises:
        ConfigError: for unknown keys and wrong types, as `q-align train` does.
    """
    home = folder / "runs" / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}-{seed}"
    variant = plan.variants[name]
    sections = {key: value for key, value in variant.items() if key != "sets"}
    sections["model"] = {**plan.base.get("model", {}), "path": str(start)}
    chosen = [{"labels": str(labels[s]), "source": s} for s in variant.get("sets", list(plan.sets))]
    sections["data"] = {**plan.base.get("data", {}), "sets": chosen}
    sections["train"] = {**plan.base.get("train", {}), **variant.get("train", {})}
    sections["train"] |= {"seed": seed, "output_dir": str(home), "resume": True}
    folder.mkdir(parents=True, exist_ok=True)
    base, file = folder / "base.yaml", folder / "variant.yaml"
    base.write_text(yaml.safe_dump(plan.base), encoding="utf-8")
    file.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return resolve_config([base, file])


def _run(
    plan: AblationPlan, name: str, seed: int, start: Path, labels: dict[str, Path], folder: Path
) -> dict[str, Any]:
    from q_align.score.scorer import Scorer
    from q_align.train.run import run

    config = variant_config(plan, name, seed, start, labels, folder)
    started = time.perf_counter()
    run(config)
    seconds = time.perf_counter() - started
    scorer = Scorer.from_pretrained(config.train.output_dir, device="cpu", workers=0)
    found: dict[str, Any] = {"srcc": {}, "plcc": {}, "seconds": round(seconds, 1)}
    for which, path in labels.items():
        test = read_labels(path, source=which).split("test").on(scorer.card.levels)
        rated = scorer.stream(test.column("media").tolist(), task="iqa", on_error="raise")
        score = np.array([one.value for one in rated])
        found["srcc"][which] = round(srcc(test.column("mos"), score), 4)
        found["plcc"][which] = round(plcc(test.column("mos"), score), 4)
    return found


def _data(folder: Path, settings: dict[str, Any]) -> Path:
    from q_align.synthetic import GenerationPlan, generate_dataset

    made = folder / "labels.csv"
    if made.is_file():
        return made
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return generate_dataset(folder, GenerationPlan(**settings), workers=1)


def _cell(values: Sequence[float], *, sign: str = "") -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.3f}{spread}"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
