"""The command line starts at once, prints errors in one line, and says so with its exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from q_align.cli.config import describe
from q_align.cli.main import COMMANDS, build_parser, main
from q_align.config.schema import RunConfig

HEAVY = ("torch", "transformers", "scipy", "pyarrow", "matplotlib", "PIL", "pandas")


@pytest.mark.parametrize(
    "code", ["import q_align", "from q_align.cli.main import build_parser; build_parser().format_help()"]
)
def test_nothing_heavy_is_imported_for_help(code: str) -> None:
    found = f"{code}\nimport sys\nprint(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage: q-align" in capsys.readouterr().out


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--train.epoch", "3"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "train.epochs" in output.err
    assert "Traceback" not in output.err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="epochs"):
        main(["--debug", "config", "--train.epoch", "3"])


def test_unknown_options_of_other_commands_are_usage_errors() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--train.epochs", "3"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["score", "--tsk", "iaa", "x.jpg"], "--task"),
        (["score", "x.jpg", "--batch_size=3"], "--batch-size"),
        (["data", "inspect", "x.csv", "--jsn"], "--json"),
    ],
)
def test_a_misspelt_option_is_told_the_nearest_one(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert f"(did you mean '{meant}'?)" in capsys.readouterr().err


def test_every_key_is_explained() -> None:
    lines = describe(RunConfig)
    assert any(line.startswith("data.sets[].mos_range = None  #") for line in lines)
    assert any(line.startswith("media.fps = None  #") for line in lines)
    plain = [line for line in lines if "#" not in line]
    assert len(plain) < 12, plain  # the rest speak for themselves: lr, seed, epochs ...


def test_shipped_configurations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {"nano", "nano_finetune", "qwen3_5/4b", "mplug_owl2/full"}
    assert all(25 < len(line) <= 120 for line in lines)
    assert main(["config", "--config", "nano_finetune"]) == 0
    assert "init: pretrained" in capsys.readouterr().out


def test_doctor_reports_devices_and_a_forward_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "forward pass ok"
    assert any(line.startswith("devices: ") for line in lines)
    assert any(line in ("default precision: float32", "default precision: bfloat16") for line in lines)


def test_offline_is_an_option_of_every_command_that_takes_a_model() -> None:
    parser = build_parser()
    for words in (
        ["score", "a.jpg"],
        ["train"],
        ["evaluate"],
        ["export", "m", "--output", "o"],
        ["cluster", "score", "t", "--output", "o"],
        ["ablate", "--output", "o"],
        ["calibrate", "--model", "m", "--data", "d"],
    ):
        assert parser.parse_args([*words, "--offline"]).offline
