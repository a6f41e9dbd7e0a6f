"""q-align average: by hand, of adapters as weight changes, of runs with equal ends, evaluated before it is written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from trained import run

from q_align import Scorer
from q_align.cli.main import main
from q_align.errors import TrainingError
from q_align.levels import LevelScheme
from q_align.metrics import srcc
from q_align.models.backbone import Backbone, read_card
from q_align.models.card import ModelCard
from q_align.readout import ReadoutSpec
from q_align.train.averaging import average

LORA = {"model.lora.enabled": True, "model.lora.r": 4, "model.lora.alpha": 8, "model.lora.also_train": ["connector"]}


def checkpoint(folder: Path, card: ModelCard | None = None, **weights: torch.Tensor) -> Path:
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (card or ModelCard("nano")).save(folder)
    (folder / "optimizer.pt").write_text("serves resuming only")
    return folder


def test_by_hand(tmp_path: Path) -> None:
    parts = [
        checkpoint(tmp_path / str(n), a=torch.tensor([1.0 * n, 0.5]), b=torch.tensor([n]), c=torch.tensor([n]).half())
        for n in (1, 2, 6)
    ]
    mean = average(parts, tmp_path / "mean")
    found = load_file(mean / "model.safetensors")
    assert found["a"].tolist() == [3.0, 0.5]
    assert found["b"].tolist() == [6], "a counter has no mean"
    assert found["c"].dtype == torch.float16 and found["c"].tolist() == [3.0]
    assert not (mean / "optimizer.pt").exists()
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in mean.iterdir()} == {0o666 & ~mask}


def test_the_card_names_all_data_and_no_calibration(tmp_path: Path) -> None:
    one = ModelCard("nano", tasks=("iqa",), trained_on=[{"source": "a"}], calibration={"a": {"slope": 1}})
    two = dataclasses.replace(one, tasks=("vqa",), trained_on=[{"source": "a"}, {"source": "b"}])
    parts = [checkpoint(tmp_path / name, card, a=torch.ones(1)) for name, card in (("1", one), ("2", two))]
    card = read_card(average(parts, tmp_path / "mean"))
    assert (card.tasks, card.trained_on) == (("iqa", "vqa"), [{"source": "a"}, {"source": "b"}])
    assert card.calibration == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": "mplug_owl2"}, r"differ in family \('nano', 'mplug_owl2'\)"),
        ({"readout": ReadoutSpec("levels", LevelScheme(("good", "bad"), (2, 1)))}, "differ in readout"),
        ({"base": "elsewhere"}, r"differ in base \(None, 'elsewhere'\)"),
        ({"prompt": "{image} {question}"}, "differ in prompt"),
    ],
)
def test_models_of_different_kinds_are_refused(tmp_path: Path, change: dict, said: str) -> None:
    one = checkpoint(tmp_path / "1", a=torch.ones(1))
    two = checkpoint(tmp_path / "2", dataclasses.replace(ModelCard("nano"), **change), a=torch.ones(1))
    with pytest.raises(TrainingError, match=said):
        average([one, two], tmp_path / "mean")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "1", a=torch.ones(1)), checkpoint(tmp_path / "2", b=torch.ones(1))
    wide = checkpoint(tmp_path / "3", b=torch.ones(2))
    with pytest.raises(TrainingError, match="other weights"):
        average([one, two], tmp_path / "mean")
    with pytest.raises(TrainingError, match=r"shape \(1,\) and \(2,\)"):
        average([two, wide], tmp_path / "mean1")
    (one / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"1: no model.safetensors"):
        average([one, two], tmp_path / "mean2")
    with pytest.raises(TrainingError, match=r"no weights \(.safetensors\)"):
        average([two, one], tmp_path / "mean3")


def adapter(folder: Path, tiny: Path, seed: int, *, r: int = 4, alpha: int = 8, sign: float = 1) -> Path:
    """An adapter over the tiny model with made-up factors (those of one seed differ by their sign only)."""
    from q_align.models.families import family_of
    from q_align.models.peft import add_lora

    backbone = Backbone.from_pretrained(tiny)
    backbone.model = add_lora(backbone.model, family_of("nano"), r=r, alpha=alpha)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            if "lora_" in name:
                weight.copy_(sign * torch.randn(weight.shape) * 0.1)
    backbone.card = dataclasses.replace(backbone.card, base=str(tiny))
    backbone.save(folder)
    return folder


def change(folder: Path, tiny: Path) -> dict[str, torch.Tensor]:
    """What a model's weights differ by from the base's."""
    base, ours = Backbone.from_pretrained(tiny).model.state_dict(), Backbone.from_pretrained(folder).model.state_dict()
    return {name: (ours[name] - base[name]).double() for name in base if base[name].is_floating_point()}


def test_adapters_are_averaged_by_their_weight_changes(tiny: Path, tmp_path: Path) -> None:
    parts = [
        adapter(tmp_path / "0", tiny, 0),
        adapter(tmp_path / "1", tiny, 1, r=2, alpha=2),
        adapter(tmp_path / "2", tiny, 2),
    ]
    mean = average(parts, tmp_path / "mean")
    found, each = change(mean, tiny), [change(part, tiny) for part in parts]
    moved = [name for name in found if ".q_proj." in name]
    assert moved and all(found[name].abs().max() > 1e-3 for name in moved)
    for name, value in found.items():
        assert (value - sum(one[name] for one in each) / 3).abs().max() < 1e-6
    assert json.loads((mean / "adapter_config.json").read_text())["r"] == 4 + 2 + 4


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0, 0, 1]])
def test_an_adapter_and_a_whole_model_have_no_mean(tiny: Path, tmp_path: Path, order: list[int]) -> None:
    parts = [adapter(tmp_path / "adapter", tiny, 0), tiny]
    with pytest.raises(TrainingError, match="one is an adapter, the other a whole model"):
        average([parts[number] for number in order], tmp_path / "mean")


def test_the_mean_of_adapters_has_the_other_files_of_the_last(tiny: Path, tmp_path: Path) -> None:
    parts = [adapter(tmp_path / str(n), tiny, n) for n in (0, 1)]
    (parts[1] / "notes").mkdir()
    (parts[1] / "notes" / "a.txt").write_text("of the last")
    mean = average(parts, tmp_path / "mean")
    names = [{str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} for folder in (parts[1], mean)]
    assert names[0] == names[1]
    assert (mean / "notes" / "a.txt").read_text() == "of the last"


def test_factors_of_opposite_signs_are_the_same_model(tiny: Path, tmp_path: Path) -> None:
    parts = [adapter(tmp_path / "plus", tiny, 0), adapter(tmp_path / "minus", tiny, 0, sign=-1)]
    found, one = change(average(parts, tmp_path / "mean"), tiny), change(parts[0], tiny)
    assert max(value.abs().max() for value in one.values()) > 1e-3
    assert all((found[name] - one[name]).abs().max() < 1e-6 for name in one)


def test_dora_is_refused_with_a_way_out(settle, tmp_path: Path) -> None:
    dora = {**LORA, "model.lora.dora": True, "train.max_steps": 1, "train.eval_every": 9}
    runs = [run(settle(**dora, **{"train.output_dir": tmp_path / str(n)})) for n in (0, 1)]
    with pytest.raises(TrainingError, match=r"DoRA.*q-align export"):
        average(runs, tmp_path / "mean")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny: Path, rated: Path) -> list[Path]:
    """Two runs of one recipe with different seeds: 12 steps, a checkpoint every third, two of them kept."""
    from q_align.config.resolve import resolve_config

    folder = tmp_path_factory.mktemp("runs")
    words = ["--model.path", str(tiny), "--data.train", str(rated), "--data.mos_range", "[1, 5]", "--train.epochs", "2"]
    words += ["--train.batch_size", "3", "--train.lr", "1e-3", "--train.eval_every", "0.5", "--train.workers", "0"]
    words += ["--train.report_to", "[]", "--train.keep", "9"]
    return [
        run(resolve_config([], [*words, "--train.seed", str(n), "--train.output_dir", str(folder / str(n))]))
        for n in (0, 1)
    ]


def test_runs_are_averaged_and_evaluated(runs: list[Path], tmp_path: Path, rated: Path, capsys) -> None:
    output = tmp_path / "mean"
    assert main(["average", *map(str, runs), "--output", str(output), "--workers", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    parts = [load_file(folder / "model.safetensors") for folder in runs]
    for key, value in load_file(output / "model.safetensors").items():
        if value.is_floating_point():
            assert torch.allclose(value, (parts[0][key] + parts[1][key]) / 2, atol=1e-7)
    from q_align.data.label_files import read_labels

    labels = read_labels(rated, mos_range=(1, 5)).on(LevelScheme()).split("val")
    scorer = Scorer.from_pretrained(output, workers=0)
    scores = [score.value for score in scorer.stream(labels.column("media").tolist(), task="iqa")]
    assert lines[2] == f"mean of 2: SRCC {srcc(labels.column('mos'), scores):.4f}"
    for line, folder in zip(lines, runs):
        best = max(e["eval_srcc"] for e in json.loads((folder / "log_history.json").read_text()) if "eval_srcc" in e)
        assert line == f"{folder}: SRCC {best:.4f}"
    assert not (output / "config.yaml").exists() and not (output / "checkpoints").exists()
    # on rows that are named, the ingredients are evaluated too
    args = ["average", *map(str, runs), "--output", str(tmp_path / "again"), "--workers", "0"]
    assert main([*args, "--data", str(rated), "--mos-range", "1", "5"]) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[2] == lines[2] and again[0] == lines[0]
    assert main([*args, "--data", str(rated)]) == 1
    assert "not empty" in capsys.readouterr().err


def test_the_last_checkpoints_of_every_run(runs: list[Path], tmp_path: Path, capsys) -> None:
    assert main(["average", *map(str, runs), "--last", "3", "--output", str(tmp_path / "mean"), "--workers", "0"]) == 0
    assert "mean of 6" in capsys.readouterr().out
    steps = [folder / "checkpoints" / f"checkpoint-{step}" for folder in runs for step in (6, 9, 12)]
    parts = [load_file(step / "model.safetensors") for step in steps]
    found = load_file(tmp_path / "mean" / "model.safetensors")
    key = "lm_head.weight"
    assert torch.allclose(found[key], sum(part[key] for part in parts) / 6, atol=1e-7)


def test_nothing_is_published_when_the_evaluation_fails(runs: list[Path], tmp_path: Path, capsys) -> None:
    gone = tmp_path / "labels.csv"
    gone.write_text("image,mos\ngone.png,1\nlost.png,2\n")
    args = ["average", *map(str, runs), "--output", str(tmp_path / "mean"), "--data", str(gone)]
    assert main(args) == 1
    assert "gone.png" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.csv"]


def test_unequal_ends_are_refused(runs: list[Path], tmp_path: Path, settle, capsys) -> None:
    def refused(*words: object) -> str:
        assert main(["average", *map(str, words), "--output", str(tmp_path / "mean")]) == 1
        assert not (tmp_path / "mean").exists()
        return capsys.readouterr().err

    short = run(settle(**{"train.max_steps": 3, "train.output_dir": tmp_path / "short"}))
    assert f"ended at different steps ({runs[0]} at step 12, {short} at step 3)" in refused(runs[0], short)
    stopped = shutil.copytree(runs[1], tmp_path / "stopped")
    shutil.rmtree(stopped / "checkpoints" / "checkpoint-12")
    assert "not finished (step 9 of 12)" in refused(runs[0], stopped)
    shutil.rmtree(stopped)
    pruned = shutil.copytree(runs[1], tmp_path / "pruned")
    shutil.rmtree(pruned / "checkpoints" / "checkpoint-9")
    assert "were pruned (left: 6, 12, one every 3 steps)" in refused(runs[0], pruned, "--last", "2")
    assert "3 checkpoints, --last asks for 4" in refused(pruned, "--last", "4")
    one, two = (runs[n] / "checkpoints" / f"checkpoint-{step}" for n, step in ((0, 9), (1, 12)))
    assert "checkpoints of different steps" in refused(one, two)
    assert "one model has no mean" in refused(runs[0])
    assert "given twice" in refused(runs[0], runs[0])
    assert "no such run or checkpoint" in refused(runs[0], tmp_path / "nowhere")


def test_trained_adapters_with_parts_in_full(settle, tiny: Path, tmp_path: Path, capsys) -> None:
    runs = [
        run(settle(**LORA, **{"train.max_steps": 4, "train.seed": n, "train.output_dir": tmp_path / str(n)}))
        for n in (0, 1)
    ]
    assert main(["average", *map(str, runs), "--output", str(tmp_path / "mean"), "--workers", "0"]) == 0
    found, each = change(tmp_path / "mean", tiny), [change(folder, tiny) for folder in runs]
    assert any(value.abs().max() > 1e-4 for name, value in found.items() if name.startswith("connector."))
    assert all((value - (each[0][name] + each[1][name]) / 2).abs().max() < 1e-6 for name, value in found.items())
