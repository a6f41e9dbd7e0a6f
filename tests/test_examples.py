"""The examples, run as their users run them: from the shell, by Q_ALIGN_PLUGINS or as an installed package."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ALL = "text_match_task,margin_loss,patch_family,median_pool,top_level_readout"
GROUPS = {
    "tasks": ("match", "text_match_task"),
    "losses": ("margin", "margin_loss"),
    "families": ("patch", "patch_family"),
    "pools": ("median", "median_pool"),
    "readouts": ("top_level", "top_level_readout"),
}
SHORT = ("--train.max_steps", "2", "--train.batch_size", "4", "--train.report_to", "[]")
COMMANDS = """
import contextlib, io, json, sys
from q_align.cli.main import main

for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    print("RESULT", json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def environment(plugins: str, path: Path = EXAMPLES) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "Q_ALIGN_PLUGINS": plugins}


def python(*words: str, plugins: str = ALL, path: Path = EXAMPLES, cwd: Path | None = None) -> str:
    """Standard output of a Python process that must succeed."""
    done = subprocess.run(
        [sys.executable, *words], env=environment(plugins, path), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def q_align(*commands: tuple[object, ...], plugins: str = ALL, path: Path = EXAMPLES) -> list[tuple[int, str, str]]:
    """Exit code, output and last line of the errors of several commands, in one new process."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    lines = python("-c", COMMANDS, words, plugins=plugins, path=path).splitlines()
    results = [json.loads(line.removeprefix("RESULT ")) for line in lines if line.startswith("RESULT ")]
    return [(code, out, (err.strip().splitlines() or [""])[-1]) for code, out, err in results]


def train(base: Path, labels: Path, output: Path, *words: object, workers: int = 0) -> tuple[object, ...]:
    place = ("--model.path", base, "--data.train", labels, "--train.output_dir", output)
    return ("train", *place, *SHORT, "--train.workers", workers, *words)


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 grey images with a text each: labels.csv, ask.csv."""
    folder = tmp_path_factory.mktemp("greys")
    python(str(EXAMPLES / "text_match_task.py"), str(folder))
    return folder


@pytest.fixture(scope="module")
def few(greys: Path) -> Path:
    """Labels of the first 20 images."""
    path = greys / "few.csv"
    path.write_text("".join((greys / "labels.csv").read_text().splitlines(keepends=True)[:21]))
    return path


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained model of patch_family."""
    folder = tmp_path_factory.mktemp("patch") / "base"
    python(str(EXAMPLES / "patch_family.py"), str(folder))
    return folder


@pytest.mark.slow
def test_text_match_task(greys: Path, tmp_path: Path) -> None:
    """What the example's text promises: the score depends on the question, in the right direction."""
    run, table, result = tmp_path / "run", tmp_path / "asked.csv", tmp_path / "result"
    labels = greys / "labels.csv"
    trained, evaluated, scored = q_align(
        ("train", "--config", "nano", "--data.train", labels, "--train.output_dir", run, "--train.report_to", "[]"),
        ("evaluate", "--model", run, "--data", labels, "--split", "test", "--output", result, "--no-cache"),
        ("score", "--model", run, greys / "ask.csv", "--output", table),
        plugins="text_match_task",
    )
    assert (trained[0], evaluated[0], scored[0]) == (0, 0, 0), (trained, evaluated, scored)
    metrics = json.loads((result / "metrics.json").read_text())
    assert metrics["n"] == 64
    assert metrics["srcc"] > 0.9
    with table.open() as file, labels.open() as known:
        rows, rated = list(csv.DictReader(file)), list(csv.DictReader(known))
    assert [(row["task"], row["question"]) for row in rows] == [("match", row["question"]) for row in rated]
    close = [abs(float(row["value"]) - float(other["mos"])) < 1 for row, other in zip(rows, rated, strict=True)]
    assert sum(close) > 0.9 * len(close)
    code = (
        "from q_align import Scorer; from text_match_task import question; import sys\n"
        "scorer = Scorer.from_pretrained(sys.argv[1])\n"
        "print(*(scorer.score(sys.argv[2], 'match', question=question(f'a {word} image')).value "
        "for word in ('bright', 'dark')))"
    )
    brightest = next(r["image"] for r in rated if "bright" in r["question"] and float(r["mos"]) > 4.5)
    bright, dark = map(float, python("-c", code, str(run), str(greys / brightest)).split()[-2:])
    assert bright > 4
    assert dark < 2


def test_margin_loss_by_hand() -> None:
    code = (
        "import torch; from q_align.losses import Prediction, Targets, get_loss\n"
        "loss = get_loss('margin', options={'margin': {'margin': 0.5}})\n"
        "def value(scores, mos, source):\n"
        "    t, z = torch.tensor, torch.zeros(0)\n"
        "    targets = Targets(z, z, t(mos), z, t(source), z)\n"
        "    return float(loss(Prediction(value=t(scores)), targets)['margin'])\n"
        "print(value([3.0, 2.8, 1.0], [5.0, 4.0, 3.0], [0, 0, 0]))\n"  # gaps 0.2, 2.0, 1.8
        "print(value([2.0, 3.0, 9.0], [5.0, 4.0, 1.0], [0, 0, 1]))\n"  # one pair, in the wrong order by 1
        "print(value([2.0, 3.0], [4.0, 4.0], [0, 0]))\n"  # no pair
    )
    found = [float(word) for word in python("-c", code, plugins="margin_loss").split()[-3:]]
    assert found == pytest.approx([0.3 / 3, 1.5, 0.0])


def test_patch_family_and_margin_loss(patch: Path, few: Path, tmp_path: Path) -> None:
    """Trained, resumed, adapted in parts, saved, loaded and scored."""
    whole, lora, head = tmp_path / "whole", tmp_path / "lora", tmp_path / "head"
    margin = ("--loss.name", "margin", "--loss.options.margin", "{margin: 0.3}")
    adapters = ("--model.lora.enabled", "true", "--model.lora.r", 4, "--model.lora.also_train", "[connector]")
    image = few.parent / "0000.png"
    results = q_align(
        train(patch, few, whole, *margin, "--model.freeze", "[vision]"),
        train(patch, few, whole, *margin, "--model.freeze", "[vision]", "--train.resume", "true"),
        train(patch, few, lora, *adapters),
        train(patch, few, head, *margin, "--readout.kind", "head"),
        *(("score", "--model", run, image, "--task", "match", "--json") for run in (whole, lora, head)),
    )
    assert [code for code, _, _ in results] == [0] * 7, results
    for _, out, _ in results[4:]:
        assert 0.5 < json.loads(out)["value"] < 5.5
    before, after = load_file(patch / "model.safetensors"), load_file(whole / "model.safetensors")
    moved = {name.partition(".")[0] for name, value in before.items() if not value.equal(after[name])}
    assert moved == {"connector", "language"}
    adapted = load_file(lora / "adapter_model.safetensors")
    assert {name.split(".")[2] for name in adapted} == {"connector", "language"}
    assert all("q_proj" in name or "v_proj" in name for name in adapted if "language" in name)


def test_median_pool(patch: Path, few: Path, tmp_path: Path) -> None:
    """From Python over frames of a video; and a checkpoint that was trained with it remembers it."""
    run = tmp_path / "run"
    [(code, _, error)] = q_align(train(patch, few, run, "--media.pool", "median"))
    assert code == 0, error
    code_ = (
        "import json, sys, numpy as np; from q_align import Scorer; from q_align.types import MediaSpec\n"
        "frames = list(np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8))\n"
        "scorer = Scorer.from_pretrained(sys.argv[1])\n"
        "print(json.dumps([scorer.spec.pool, scorer.score(frames, 'vqa').value, "
        "[score.value for score in scorer.stream([[frame] for frame in frames], 'vqa')]]))"
    )
    pool, value, frames = json.loads(python("-c", code_, str(run)).splitlines()[-1])
    assert pool == "median"
    assert len(set(frames)) == 5
    assert value == pytest.approx(sorted(frames)[2], abs=1e-4)


def test_installed_package(patch: Path, few: Path, tmp_path: Path) -> None:
    """Entry points of five groups; the environment names nothing."""
    site = tmp_path / "site"
    info = site / "rating_plugins-1.0.dist-info"
    info.mkdir(parents=True)
    for _, module in GROUPS.values():
        (site / f"{module}.py").write_text((EXAMPLES / f"{module}.py").read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rating_plugins\nVersion: 1.0\n")
    points = "".join(f"[q_align.{group}]\n{name} = {module}\n" for group, (name, module) in GROUPS.items())
    (info / "entry_points.txt").write_text(points)
    run = tmp_path / "run"
    words = ("--loss.name", "margin", "--readout.kind", "top_level", "--media.pool", "median")
    trained, scored = q_align(
        train(patch, few, run, *words),
        ("score", "--model", run, few.parent / "0000.png", "--task", "match", "--json"),
        plugins="",
        path=site,
    )
    assert (trained[0], scored[0]) == (0, 0), (trained, scored)
    assert json.loads(scored[1])["value"] in (1.0, 2.0, 3.0, 4.0, 5.0)


def test_wrong_names_are_named_with_the_nearest(patch: Path, few: Path, tmp_path: Path) -> None:
    wrong: dict[tuple[object, ...], str] = {
        ("--loss.name", "margn"): r"unknown loss 'margn' (did you mean 'margin'?)",
        ("--readout.kind", "top_levl"): r"unknown readout 'top_levl' (did you mean 'top_level'?)",
        ("--media.pool", "medan"): r"unknown pooling 'medan' (did you mean 'median'?)",
        ("--data.task", "mach"): r"unknown task 'mach' (did you mean 'match'?)",
        ("--loss.name", "margin", "--loss.options.margin", "{gap: 1}"): r"unknown option 'gap' of loss 'margin'",
        ("--model.quantize", "4bit"): r"models of family 'patch' have no option quantize",
    }
    results = q_align(*(train(patch, few, tmp_path / str(i), *words) for i, words in enumerate(wrong)))
    for (code, _, error), message in zip(results, wrong.values(), strict=True):
        assert code == 1
        assert error.startswith("q-align: error: ")
        assert message in error


@pytest.mark.slow
def test_without_the_plugin_the_error_says_what_is_missing(patch: Path, few: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    [(code, _, error)] = q_align(train(patch, few, run, "--readout.kind", "top_level"))
    assert code == 0, error
    score = ("score", "--model", run, few.parent / "0000.png")
    hint = "(is its module in Q_ALIGN_PLUGINS?)"
    for plugins, command, message in (
        ("text_match_task,top_level_readout", score, f"unknown family 'patch' {hint}"),
        ("patch_family,top_level_readout", score, f"unknown task 'match' {hint}"),
        ("patch_family,text_match_task", score, "unknown readout 'top_level'"),
        ("patch_family", train(patch, few, tmp_path / "x"), "task is 'match'"),
        ("no_such_module", score, "plug-in 'no_such_module' (Q_ALIGN_PLUGINS) cannot be loaded: ModuleNotFoundError"),
    ):
        [(code, _, error)] = q_align(command, plugins=plugins)
        assert code == 1
        assert message in error
        assert "Q_ALIGN_PLUGINS" in error or "did you mean" in error


@pytest.mark.slow
def test_worker_and_training_processes(patch: Path, few: Path, tmp_path: Path) -> None:
    """Two processes of torchrun, each with two loader workers, know what the environment names."""
    run = tmp_path / "run"
    words = train(patch, few, run, "--loss.name", "margin", "--media.pool", "median", workers=2)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "q_align"]
    python(*launch, *map(str, words))
    assert json.loads((run / "q_align.json").read_text())["tasks"] == ["match"]
