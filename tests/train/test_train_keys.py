"""Keys of the configuration that change how a run computes, opens media or reports: each of them does what it says."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_models import make
from trained import run

from q_align.data.label_files import read_labels
from q_align.data.pack_shards import pack
from q_align.errors import ConfigError, MediaError, MissingExtraError
from q_align.levels import LevelScheme

SHORT = {"train.epochs": 1, "train.eval_every": 1}


def history(output: Path) -> list[dict[str, float]]:
    return json.loads((output / "log_history.json").read_text())


def gap(one: Path, other: Path) -> float:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in theirs)


def test_a_run_on_a_pack_ends_with_the_same_weights(settle, rated: Path, tmp_path: Path) -> None:
    plain = run(settle(**SHORT, **{"train.output_dir": tmp_path / "plain"}))
    packed = pack(read_labels(rated, mos_range=(1, 5)), tmp_path / "pack", shard_bytes=8000)
    output = run(settle(**SHORT, **{"data.train": packed, "train.workers": 2}))
    assert gap(output, plain) == 0
    assert [line.get("eval_noise_srcc") for line in history(output)] == [
        line.get("eval_noise_srcc") for line in history(plain)
    ]


def test_the_cache_is_filled_and_changes_nothing(settle, tmp_path: Path) -> None:
    changes = {**SHORT, "media.max_pixels": 256}
    plain = run(settle(**changes, **{"train.output_dir": tmp_path / "plain"}))
    output = run(settle(**changes, **{"data.cache": tmp_path / "cache"}))
    assert gap(output, plain) == 0
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 24


def test_fast_decoding_is_for_training_rows_only(settle, tmp_path: Path) -> None:
    from q_align.models.backbone import Backbone, read_card
    from q_align.train.datasets import open_sets
    from q_align.train.inheritance import inherit
    from q_align.train.run import _datasets

    rng = np.random.default_rng(0)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mos", "split"])
        for i in range(4):
            rough = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
            rough.resize((640, 480)).save(tmp_path / f"{i}.jpg")
            rows.writerow([f"{i}.jpg", i + 1, "val" if i == 1 else "train"])
    found = {}
    for fast in (False, True):
        config = settle(
            **{"data.train": tmp_path / "labels.csv", "data.fast_decode": fast, "media.max_pixels": 1600},
            **{"data.flip": False},
        )
        config, card, *_ = inherit(config, read_card(config.model.path))
        backbone = Backbone.from_pretrained(config.model.path, card=card)
        train_set, eval_set = _datasets(config, backbone, *open_sets(config, card.levels))
        assert eval_set is not None
        found[fast] = [np.asarray(data[0].turn.frames[0]).astype(int) for data in (train_set, eval_set)]
    assert 0 < np.abs(found[True][0] - found[False][0]).mean() < 10
    assert (found[True][1] == found[False][1]).all()


@pytest.mark.parametrize(("kind", "loss"), [("numbers", "hard"), ("head", "mse"), ("head", "plcc"), ("levels", "soft")])
def test_validation_reads_what_the_scorer_reads(settle, kind: str, loss: str) -> None:
    """The SRCC of training is what the scorer finds with the same checkpoint, whatever the readout."""
    from q_align import Scorer

    changes = {"readout.kind": kind, "loss.name": loss, "train.batch_size": 4, "train.eval_batch_size": 4}
    config = settle(**SHORT, **changes)
    output = run(config)
    (line,) = [line for line in history(output) if "eval_srcc" in line]
    labels = read_labels(config.data.train, mos_range=(1, 5)).split("val").on(LevelScheme())
    scores = list(Scorer.from_pretrained(output, workers=0).stream(labels.column("media").tolist(), task="iqa"))
    from q_align.metrics import plcc, srcc

    values = np.array([score.value for score in scores])
    assert line["eval_n"] == 6
    assert line["eval_srcc"] == pytest.approx(srcc(labels.column("mos"), values), abs=1e-6)
    assert line["eval_plcc"] == pytest.approx(plcc(labels.column("mos"), values), abs=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="GPU: the test is about a machine without one")
def test_liger_without_a_gpu_is_refused(settle) -> None:
    with pytest.raises(ConfigError, match=r"^train\.liger: .*GPUs only.*leave the key out$"):
        run(settle(**{"train.liger": True}))


def test_reporting_to_a_tool_that_is_missing_says_how_to_get_it(settle, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it fails as if it were not installed
    with pytest.raises(MissingExtraError, match=r"wandb is not installed.*pip install 'q_align\[wandb\]'"):
        run(settle(**{"train.report_to": ["wandb"]}))


def test_wandb_gets_the_log(settle, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    config = settle(**{"train.max_steps": 1, "train.report_to": ["wandb"]})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    env = {**os.environ, "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "q_align", "train", "--config", str(tmp_path / "config.yaml")]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.slow
def test_compiling_gives_the_same_weights(settle, tmp_path: Path) -> None:
    changes = {"train.max_steps": 1, "model.freeze": ["vision"]}
    plain = run(settle(**changes, **{"train.output_dir": tmp_path / "plain"}))
    assert gap(run(settle(**changes, **{"train.compile": True})), plain) < 1e-4


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_adapters_on_a_quantised_base(settle, tmp_path: Path, bits: str) -> None:
    """Trains in the real command's way, moves the adapters only, and loads again by its path."""
    from tiny_models import make

    from q_align import Scorer
    from q_align.models.backbone import Backbone

    # the packed 4-bit kernel of processors wants widths that are multiples of 64
    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 8, "num_key_value_heads": 8}
    make("qwen2_5_vl", tmp_path / "base", vision={"out_hidden_size": 64}, **text)
    changes = {"model.path": tmp_path / "base", "model.lora.enabled": True, "model.lora.r": 4, "train.lr": 1e-2}
    output = run(settle(**changes, **{"model.quantize": bits, "train.epochs": 2, "train.eval_every": 1}))
    losses = [line["loss"] for line in history(output) if "loss" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 1
    saved = load_file(output / "adapter_model.safetensors")
    assert all(".lora_" in name for name in saved)
    assert any(value.abs().max() > 0 for name, value in saved.items() if ".lora_B." in name)
    loaded = Backbone.from_pretrained(output, quantize=bits, merge=False)
    assert loaded.model.is_quantized
    grey = Image.new("RGB", (56, 56), "grey")
    scores = [Scorer.from_pretrained(output, workers=0, **how).score(grey) for how in ({}, {"quantize": bits})]
    assert scores[0].value == pytest.approx(scores[1].value, abs=0.5)


def test_a_loss_that_the_readout_does_not_offer_is_refused(settle) -> None:
    with pytest.raises(ConfigError, match=r"loss 'soft' needs level_logp.*loss\.name"):
        run(settle(**SHORT, **{"readout.kind": "head", "loss.name": "soft"}))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("qwen2_5_vl", tmp_path_factory.mktemp("qwen"))


def large_images(folder: Path, *sizes: tuple[int, int]) -> Path:
    """labels.csv of JPEG files of these sizes; the second of four rows is for validation."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mos", "split"])
        for i, size in enumerate(sizes):
            rough = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
            rough.resize(size).save(folder / f"{i}.jpg")
            rows.writerow([f"{i}.jpg", 1 + 4 * i / len(sizes), "val" if i % 4 == 1 else "train"])
    return folder / "labels.csv"


CHAT = {"train.max_steps": 2, "train.batch_size": 2, "train.lr": 1e-4, "media.max_pixels": 56 * 56, "data.flip": False}


def test_a_chat_model_caches_within_its_pixel_budget(settle, qwen: Path, tmp_path: Path) -> None:
    labels = large_images(tmp_path / "large", *[(800, 600)] * 8)
    run(settle(**CHAT, **{"model.path": qwen, "data.train": labels, "data.cache": tmp_path / "cache"}))
    stored = [np.load(path) for path in (tmp_path / "cache").rglob("*.npy")]
    assert stored
    assert all(frames.shape[1] * frames.shape[2] <= 56 * 56 for frames in stored)


def test_a_chat_model_decodes_large_jpegs_at_a_reduced_scale(settle, qwen: Path, tmp_path: Path) -> None:
    from q_align.models.backbone import Backbone, read_card
    from q_align.train.datasets import open_sets
    from q_align.train.inheritance import inherit
    from q_align.train.run import _datasets

    labels = large_images(tmp_path / "large", *[(800, 600)] * 8)
    sizes = {}
    for fast in (False, True):
        config = settle(**CHAT, **{"model.path": qwen, "data.train": labels, "data.fast_decode": fast})
        config, card, *_ = inherit(config, read_card(config.model.path))
        backbone = Backbone.from_pretrained(qwen, card=card)
        train_set, eval_set = _datasets(config, backbone, *open_sets(config, card.levels))
        assert eval_set is not None
        sizes[fast] = [data[0].turn.frames[0].size for data in (train_set, eval_set)]
    assert sizes[False] == [(800, 600), (800, 600)], "whole frames: the processor scales them, once"
    assert sizes[True][0][0] * sizes[True][0][1] <= 56 * 56
    assert sizes[True][1] == (800, 600), "validation is as scoring"


def test_what_the_encoder_refuses_is_a_broken_item_as_in_scoring(settle, qwen: Path, tmp_path: Path) -> None:
    """Qwen's processor refuses sides of more than 200 to 1; the file itself is fine."""
    from q_align import Scorer

    labels = large_images(tmp_path / "odd", (80, 60), (80, 60), (1000, 2), (60, 80), (80, 80), (64, 64))
    changes = {**CHAT, "model.path": qwen, "data.train": labels}
    output = run(settle(**{**changes, "train.max_bad_media": 1, "train.max_steps": 4}))
    (reason,) = json.loads((output / "broken_media.json").read_text())
    assert "2.jpg" in reason and "aspect ratio" in reason
    (row,) = Scorer.from_pretrained(qwen, device="cpu", workers=0).stream([tmp_path / "odd" / "2.jpg"])
    assert row.error is not None and "aspect ratio" in row.error
    with pytest.raises(MediaError, match=r"2\.jpg.*aspect ratio"):
        run(settle(**{**changes, "train.output_dir": tmp_path / "strict", "train.max_steps": 4}))
