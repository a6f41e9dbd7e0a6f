"""Nothing that a file's name or its metadata holds reaches the terminal as a command."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from q_align.cli.main import main
from q_align.log import log, printable, setup

ATTACK = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp\r\x7f"
COMMANDS = set("\x1b\x07\x9b\u202e\r\x7f")


def test_what_a_terminal_obeys_is_escaped() -> None:
    assert not COMMANDS & set(printable(ATTACK))
    assert printable("\x1b[31m") == "\\x1b[31m"
    assert printable("a\nb\u2028") == "a\\nb\\u2028"
    assert printable("a\nb", allowed="\n") == "a\nb"
    assert printable("späce 片\u3000家👨\u200d👩.png") == "späce 片\u3000家👨\u200d👩.png"
    printable("\ud83d").encode("utf-8")


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_log_lines(level: int, capsys: pytest.CaptureFixture[str]) -> None:
    setup()
    log.log(level, "%s: two\nlines", ATTACK)
    shown = capsys.readouterr().err
    assert not COMMANDS & set(shown)
    assert "two\nlines" in shown


def test_scores_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "good.png")
    (tmp_path / "good.png").rename(tmp_path / f"good{ATTACK}.png")
    (tmp_path / f"bad{ATTACK}.png").write_text("no image")
    main(["score", str(tmp_path), "--device", "cpu"])
    shown = capsys.readouterr()
    assert "good" in shown.out and "bad" in shown.err
    assert not COMMANDS & set(shown.out + shown.err)
    main(["data", "inspect", str(tmp_path / f"none{ATTACK}.csv")])
    assert not COMMANDS & set(capsys.readouterr().err)
