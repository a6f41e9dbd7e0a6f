"""The configuration is strict about keys and types, and merges left to right."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from q_align.config.schema import RunConfig, resolve
from q_align.errors import ConfigError

# ablate.yaml is a plan of many runs; tests/train/test_ablation.py resolves each of them
CONFIGS_FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted(p for p in CONFIGS_FOLDER.rglob("*.yaml") if p.stem != "ablate")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_survive_a_round_trip(tmp_path: Path) -> None:
    first = resolve([])
    again = resolve([write(tmp_path, "all.yaml", first.to_yaml())])
    assert again == first == RunConfig()


def test_a_count_of_frames_over_a_whole_video_can_be_taught() -> None:
    assert resolve([], ["--media.fps", "0"]).media.fps == 0


def test_later_files_win_and_overrides_come_last(tmp_path: Path) -> None:
    one = write(tmp_path, "one.yaml", "train: {epochs: 5, lr: 0.1, lr_parts: {vision: 1.0e-3}}\n")
    two = write(tmp_path, "two.yaml", "train: {epochs: 6}\n")
    config = resolve([one, two], ["--train.seed", "4", "--data.train=12.csv"])
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
        ("levels: {values: [1, 2, 3, 4, 5]}", ["values", "fall"]),
        ("model: {freeze: [visoin]}", ["visoin", "vision"]),
        ("train: {batch_size: 0}", ["train.batch_size", "positive"]),
        ("train: {schedule: cosin}", ["train.schedule", "cosine"]),
        ("train: {workers: -1}", ["train.workers", "0 or more"]),
        ("model: {quantize: 3bit}", ["model.quantize", "4bit"]),
        ("media: {clip: 0}", ["media.clip", "1 or more"]),
        ("media: {max_pixels: 0}", ["media.max_pixels", "1 or more"]),
        ("- 1", ["expected sections"]),
        ("a: b: c", ["not valid YAML"]),
    ],
)
def test_bad_files_get_one_clear_line(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([write(tmp_path, "bad.yaml", text)])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["--train.epoch", "1"], ["train.epoch", "train.epochs"]),
        (["--train.epochs", "many"], ["train.epochs", "many"]),
        (["--media.max_pixel", "1"], ["media.max_pixels"]),
        (["--data.mos_range", "1", "5"], ["'5'", "'[1, 5]'"]),
        (["nano_finetune"], ["'nano_finetune'", "--config"]),
        (["--train.epochs=2", "labels.csv"], ["'labels.csv'", "--data.train"]),
    ],
)
def test_bad_overrides_get_one_clear_line(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([], overrides)
    assert all(word in str(caught.value) for word in words)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        resolve([tmp_path / "nowhere.yaml"])


def test_shipped_configurations_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = resolve([CONFIGS_FOLDER / "nano_finetune.yaml"])
    assert wanted != resolve([])
    monkeypatch.chdir(tmp_path)  # away from the clone
    for name in ("nano_finetune", "nano_finetune.yaml", "configs/nano_finetune.yaml"):
        assert resolve([name]) == wanted
    assert resolve(["qwen3_5/4b"]).model.path == resolve([CONFIGS_FOLDER / "qwen3_5/4b.yaml"]).model.path
    with pytest.raises(ConfigError, match="did you mean 'nano_finetune'"):
        resolve(["nano_fintune"])
    (tmp_path / "nano_finetune").write_text("train: {epochs: 7}")  # one's own file comes first
    assert resolve(["nano_finetune"]).train.epochs == 7
    (tmp_path / "nano").mkdir()
    assert resolve(["nano"]).model.path == "nano"


def test_two_ways_to_name_the_training_set_do_not_mix() -> None:
    with pytest.raises(ConfigError, match=r"data\.sets"):
        resolve([], ["--data.train", "a.csv", "--data.sets", '[{"labels": "b.csv"}]']).sets()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_resolves(path: Path) -> None:
    if "train" not in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) and "engines" in path.parts:
        pytest.skip("an engine's own file, not a run's")
    assert resolve([path])
