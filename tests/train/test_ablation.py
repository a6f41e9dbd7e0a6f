"""The ablation runner: a table that can be checked by hand, plans that make no sense, and two real runs (slow)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from q_align.cli.main import main
from q_align.errors import ConfigError
from q_align.train.ablation import ablation_table, read_plan, variant_config

SET = {"contents": 12, "per_content": 4, "size": 64, "aesthetics": 0.0, "clips": 0.0, "test": 0.4}
PLAN = {
    "sets": {"one": {**SET, "seed": 1}, "two": {**SET, "seed": 2, "types": ["blur", "noise"]}},
    "seeds": [0],
    "model": {"channels": [8, 8], "blocks": [0, 0], "hidden": 16, "layers": 1, "heads": 2, "mlp": 32, "tile": 64},
    "base": {
        "data": {"crop": 32, "val_share": 0.1},
        "train": {"max_steps": 2, "batch_size": 4, "eval_every": 1000, "workers": 0, "report_to": []},
    },
    "variants": {
        "both": {"loss": {"name": "blend", "weights": {"soft": 1.0, "fidelity": 1.0}}},
        "numbers": {"sets": ["one"], "readout": {"kind": "numbers"}},
    },
}


def row(variant: str, seed: int, one: float, two: float) -> dict:
    return {"variant": variant, "seed": seed, "srcc": {"a": one, "b": two}, "plcc": {"a": 0.5, "b": 0.5}}


def test_table() -> None:
    rows = [row("x", 0, 0.2, 0.4), row("x", 1, 0.4, 0.6), row("y", 0, 0.3, 0.5), row("y", 1, 0.4, 0.6)]
    lines = ablation_table(rows, ["x", "y", "z"], ["a", "b"]).splitlines()
    assert lines[0] == "| variant | SRCC a | PLCC a | SRCC b | PLCC b | mean SRCC | against x | seeds |"
    assert lines[2] == "| x | 0.300 ± 0.141 | 0.500 ± 0.000 | 0.500 ± 0.141 | 0.500 ± 0.000 | 0.400 ± 0.141 |  | 2 |"
    assert lines[3].endswith("| 0.450 ± 0.071 | +0.050 ± 0.071 | 2 |")
    assert len(lines) == 4  # z has no runs yet


def test_wrong_plans_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    for change, problem in (
        ({"varients": {}}, "unknown key 'varients' .did you mean 'variants'"),
        ({"seeds": []}, "missing seeds"),
        ({"variants": {"v": {"sets": ["three"]}}}, "variant 'v' trains on unknown set 'three'"),
    ):
        path.write_text(yaml.safe_dump({**PLAN, **change}))
        with pytest.raises(ConfigError, match=problem):
            read_plan(path)


def test_every_variant_of_the_shipped_plan_resolves(tmp_path: Path) -> None:
    plan = read_plan(Path(__file__).parents[2] / "configs/ablate.yaml")
    labels = {name: tmp_path / f"{name}.csv" for name in plan.sets}
    for name, variant in plan.variants.items():
        config = variant_config(plan, name, 7, tmp_path / "start", labels, tmp_path)
        assert config.loss.name == variant.get("loss", {}).get("name", "hard")
        assert config.readout.kind == variant.get("readout", {}).get("kind")
        assert [s.source for s in config.sets()] == variant.get("sets", list(plan.sets))
        assert config.train.seed == 7
        assert config.train.max_steps == plan.base["train"]["max_steps"]
    assert len(plan.seeds) >= 3


@pytest.mark.slow
def test_finished_runs_are_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    words = ["ablate", "--config", str(path), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    text = (tmp_path / "out/table.md").read_text()
    assert capsys.readouterr().out.endswith(text)
    assert [line.split(" |")[0] for line in text.splitlines()[2:]] == ["| both", "| numbers"]
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert all(-1 <= r["srcc"][s] <= 1 for r in rows for s in ("one", "two"))
    assert main(words) == 0, "nothing is left to do"
    assert capsys.readouterr().out == text
    assert (tmp_path / "out/results.jsonl").read_text().count("\n") == 2
