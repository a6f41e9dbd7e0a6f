"""The configuration is strict about keys and types, and merges left to right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from q_align.cli.config import describe
from q_align.config.aliases import OTHER_NAMES
from q_align.config.overrides import all_keys
from q_align.config.resolve import resolve_config
from q_align.config.schema import RunConfig
from q_align.errors import ConfigError

# ablate.yaml is a plan of many runs; tests/train/test_ablation.py resolves each of them
CONFIGS_FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(p for p in CONFIGS_FOLDER.rglob("*.yaml") if p.stem != "ablate")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_survive_a_round_trip(tmp_path: Path) -> None:
    first = resolve_config([])
    again = resolve_config([write(tmp_path, "all.yaml", first.to_yaml())])
    assert again == first == RunConfig()


def test_a_count_of_frames_over_a_whole_video_can_be_taught() -> None:
    assert resolve_config([], ["--media.fps", "0"]).media.fps == 0


def test_later_files_win_and_overrides_come_last(tmp_path: Path) -> None:
    one = write(tmp_path, "one.yaml", "train: {epochs: 5, lr: 0.1, lr_parts: {vision: 1.0e-3}}\n")
    two = write(tmp_path, "two.yaml", "train: {epochs: 6}\n")
    config = resolve_config([one, two], ["--train.seed", "4", "--data.train=12.csv"])
    assert (config.train.epochs, config.train.lr, config.train.seed) == (6, 0.1, 4)
    assert config.train.lr_parts == {"vision": 1e-3}
    assert config.sets()[0].labels == "12.csv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {epoch: 1}", ["train.epoch", "train.epochs"]),
        ("trian: {epochs: 1}", ["trian", "train"]),
        ("data: {sets: [{label: x}]}", ["data.sets.label", "data.sets.labels"]),
        ("train: {lr: fast}", ["train.lr", "fast"]),
        ("train: {precision: fp8}", ["train.precision", "fp8", "bf16"]),
        ("readout: {values: [1, 2, 3, 4, 5]}", ["values", "fall"]),
        ("readout: {words: [good]}", ["at least two words"]),
        ("model: {freeze: [visoin]}", ["visoin", "vision"]),
        ("train: {batch_size: 0}", ["train.batch_size", "positive"]),
        ("train: {schedule: cosin}", ["train.schedule", "cosine"]),
        ("train: {workers: -1}", ["train.workers", "0 or more"]),
        ("model: {quantize: 3bit}", ["model.quantize", "4bit"]),
        ("media: {clip: 0}", ["media.clip", "1 or more"]),
        ("media: {max_pixels: -1}", ["media.max_pixels", "0 or more"]),
        ("train: {lr: 1, epochs: 2, lr: 2}", ["'lr' is given twice"]),
        ("train: {learning_rate: 1}", ["train.learning_rate", "here it is train.lr"]),
        ("- 1", ["expected sections"]),
        ("a: b: c", ["not valid YAML"]),
    ],
)
def test_bad_files_get_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config([write(tmp_path, "bad.yaml", text)])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--train.epoch", "1"], ["train.epoch", "train.epochs"]),
        (["--train.epochs", "many"], ["train.epochs", "many"]),
        (["--media.max_pixel", "1"], ["media.max_pixels"]),
        (["--train.lora.r", "4"], ["--train.lora.r", "'model.lora.r'"]),
        (["--train.path", "x"], ["'model.path'"]),
        (["--max_pixels", "4"], ["'media.max_pixels'"]),
        (["--data.train", "a.csv", "--data.train", "b.csv"], ["--data.train is given twice", "data.sets"]),
        (["--train.lr=1", "--train.lr", "2"], ["--train.lr is given twice"]),
        (["--train.lr_parts.vision", "1", "--train.lr_parts.vision=2"], ["--train.lr_parts.vision is given twice"]),
        (["--data.mos_range", "1", "5"], ["'5'", "'[1, 5]'"]),
        (["nano_finetune"], ["'nano_finetune'", "--config"]),
        (["--train.epochs=2", "labels.csv"], ["'labels.csv'", "--data.train"]),
    ],
)
def test_bad_overrides_get_one_clear_line(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config([], overrides)
    assert all(word in str(caught.value) for word in words)


def test_names_of_other_trainers_lead_to_ours() -> None:
    """Every name that we translate is one, and is translated to keys that exist."""
    from transformers import TrainingArguments

    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert len(theirs & OTHER_NAMES.keys()) > 20
    known = all_keys(RunConfig)
    for name, ours in OTHER_NAMES.items():
        assert ours.split(" ")[0].rstrip(",") in known, name
        with pytest.raises(ConfigError) as caught:
            resolve_config([], [f"--train.{name}", "1"])
        assert str(caught.value) == f"unknown key --train.{name}: here it is {ours}"
    # what has a counterpart under a name of its own needs no translation
    assert {"weight_decay", "max_grad_norm", "seed", "max_steps", "report_to", "output_dir"} <= theirs
    assert all(f"train.{name}" in known for name in ("weight_decay", "max_grad_norm", "seed", "max_steps", "report_to"))


def test_every_key_is_explained() -> None:
    lines = describe(RunConfig)
    assert len(lines) == len(
        [key for key in all_keys(RunConfig) if not any(k.startswith(f"{key}.") for k in all_keys(RunConfig))]
    )
    assert (
        "data.sets[].labels = ''  # labels file (CSV, JSONL, Parquet, published JSON) or the name of a data set card"
        in lines
    )
    assert (
        "readout.kind = None  # levels (words), numbers, head (regression), or a registered one; None: the base's"
        in lines
    )
    assert (
        "data.mos_range = None  # [min, max] of the MOS scale; None: the card's, else that of the train rows" in lines
    )


def test_data_says_for_all_sets_what_they_do_not_say(tmp_path: Path) -> None:
    text = "data: {media_root: here, mos_range: [1, 5], sets: [{labels: a.csv}, {labels: b.csv, media_root: there}]}"
    first, second = resolve_config([write(tmp_path, "sets.yaml", text)]).sets()
    assert (first.media_root, first.mos_range, second.media_root, second.mos_range) == ("here", [1, 5], "there", [1, 5])
    (only,) = resolve_config([], ["--data.train", "a.csv", "--data.higher_is_better", "false"]).sets()
    assert (only.labels, only.higher_is_better) == ("a.csv", False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        resolve_config([tmp_path / "nowhere.yaml"])


def test_shipped_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = resolve_config([CONFIGS_FOLDER / "nano_finetune.yaml"])
    assert wanted != resolve_config([])
    monkeypatch.chdir(tmp_path)  # away from the clone
    for name in ("nano_finetune", "nano_finetune.yaml", "configs/nano_finetune.yaml"):
        assert resolve_config([name]) == wanted
    assert resolve_config(["qwen3_5/4b"]).model.path == resolve_config([CONFIGS_FOLDER / "qwen3_5/4b.yaml"]).model.path
    with pytest.raises(ConfigError, match="did you mean 'nano_finetune'"):
        resolve_config(["nano_fintune"])
    (tmp_path / "nano_finetune").write_text("train: {epochs: 7}")  # one's own file comes first
    assert resolve_config(["nano_finetune"]).train.epochs == 7
    (tmp_path / "nano").mkdir()
    assert resolve_config(["nano"]).model.path == "nano"


def test_two_ways_to_name_the_training_set_do_not_mix() -> None:
    with pytest.raises(ConfigError, match=r"data\.sets"):
        resolve_config([], ["--data.train", "a.csv", "--data.sets", '[{"labels": "b.csv"}]']).sets()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_resolves(path: Path) -> None:
    assert resolve_config([path])
