"""q-align evaluate and q-align report from the command line: files, exit codes, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from q_align.cli.main import main


def test_evaluate_and_report(rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    words = ["evaluate", "--data", str(rated / "labels.csv"), "--output", str(out), "--cache", str(tmp_path / "cache")]
    options = ["--mos-range", "0", "100", "--resamples", "20", "--workers", "0"]
    assert main([*words, *options]) == 0
    assert capsys.readouterr().out.startswith("rated: n 20, failed 0, srcc ")
    assert main([*words, *options, "--fail-under", "srcc=1.5"]) == 1
    assert "threshold: rated: srcc is " in capsys.readouterr().out
    (rated / "8.png").write_bytes(b"no image")
    assert main([*words, *options]) == 1  # one item failed
    assert json.loads((out / "metrics.json").read_text())["failed"] == 1
    assert main(["report", str(out), "--output", str(page), "--title", "Mine & yours"]) == 0
    assert "<h1>Mine &amp; yours</h1>" in page.read_text() and "1 items have no score" in page.read_text()
    assert " kB)" in capsys.readouterr().out and str(tmp_path) not in page.read_text()
    assert main(["report", str(out), "--output", str(page), "--paths", "--units", "mos"]) == 0
    assert str(rated / "8.png") in page.read_text() and "MOS of the data set" in page.read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate", "--output", "x"], "needs --data"),
        (["evaluate", "--data", "koniq", "--output", "x"], "test_koniq.json not found"),
        (["evaluate", "--data", "konik", "--output", "x"], "did you mean 'koniq'"),
        (["evaluate", "--data", "koniq", "--output", "x", "--fail-under", "srrc=1"], "did you mean 'srcc'"),
        (["report", "nowhere"], "no such folder"),
    ],
)
def test_errors_are_one_line(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("Q_ALIGN_DATA", raising=False)
    assert main(words) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("q-align: error: ")]
    assert len(said) == 1 and expected in said[0]


def test_cards_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--list-cards"]) == 0
    assert "test 2010" in capsys.readouterr().out
