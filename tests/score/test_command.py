"""q-align score as people call it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from q_align.cli.main import main
from q_align.errors import ConfigError
from q_align.models.backbone import Backbone
from q_align.score.score_files import ScoringJob, TableRows, score_table


@pytest.fixture(scope="module")
def model(nano: Backbone, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder."""
    folder = tmp_path_factory.mktemp("model")
    nano.save(folder)
    return str(folder)


@pytest.fixture
def score(model: str) -> Callable[[list[str]], int]:
    """The command with this model; the exit code."""
    return lambda words: main(["score", *words, *([] if "--model" in words else ["--model", model])])


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """Four pictures, one cut, one text with a picture's name, one of zero bytes; and a file that is no medium."""
    folder = tmp_path / "seven"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"ok{i}.png")
    (folder / "cut.png").write_bytes((folder / "ok0.png").read_bytes()[:3000])
    (folder / "text.jpg").write_text("this is a text")
    (folder / "zero.jpg").touch()
    (folder / "notes.md").write_text("not a medium")
    return folder


def rows(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("output", ["scores.jsonl", "scores.parquet", "scores"])
def test_a_folder_with_bad_files(score: Callable[[list[str]], int], seven: Path, tmp_path: Path, output: str) -> None:
    assert score([str(seven), "--output", str(tmp_path / output)]) == 1
    got = rows(tmp_path / output)
    assert [Path(row["id"]).name for row in got] == sorted(p.name for p in seven.iterdir() if p.suffix != ".md")
    assert sum(row["error"] is None for row in got) == 4
    for row in got:
        assert list(row)[:7] == ["id", "value", "level", "probs", "std", "mass", "error"]
        assert (row["value"] is None) == (row["error"] is not None) and "\n" not in (row["error"] or "")


def test_the_terminal(score: Callable[[list[str]], int], seven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score([str(seven)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4 and "iqa" in out
    assert sum("seven/" in line for line in err.splitlines()) == 3
    assert score([str(seven / "ok0.png"), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert 1 <= json.loads(line)["value"] <= 5


def test_going_on_scores_the_rest_only(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.jsonl"
    assert score([str(seven / "ok0.png"), str(seven / "ok1.png"), "--output", str(out)]) == 0
    first = out.read_bytes()
    assert score([str(seven / "ok*.png"), "--output", str(out)]) == 1, "not over another run's scores"
    assert out.read_bytes() == first
    assert score([str(seven / "ok*.png"), "--output", str(out), "--resume"]) == 0
    assert out.read_bytes().startswith(first)
    assert [Path(row["id"]).name for row in rows(out)] == [f"ok{i}.png" for i in range(4)]


def test_ids_that_come_twice_are_scored_once(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.jsonl"
    one = str(seven / "ok0.png")
    assert score([one, one, str(seven / "ok*.png"), "--output", str(out)]) == 0
    assert len(rows(out)) == 4


def test_going_on_finds_the_task_that_a_dead_run_left_out(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = [*(str(seven / f"ok{i}.png") for i in range(3)), "--task", "iqa,iaa", "--output", str(out)]
    assert score(words) == 0
    out.write_text("".join(out.read_text("utf-8").splitlines(keepends=True)[:3]), "utf-8")  # between two rows of ok1
    assert score([*words, "--resume"]) == 0
    pairs = [(Path(r["id"]).stem, r["task"]) for r in rows(out)]
    assert sorted(pairs) == [(f"ok{i}", task) for i in range(3) for task in ("iaa", "iqa")]


def test_one_medium_under_two_tasks_is_no_duplicate(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path
) -> None:
    (seven / "list.csv").write_text("path,task\nok0.png,iqa\nok0.png,iaa\nok0.png,iaa\n")
    assert score([str(seven / "list.csv"), "--output", str(tmp_path / "out.jsonl")]) == 0
    assert [r["task"] for r in rows(tmp_path / "out.jsonl")] == ["iqa", "iaa"]


def test_lists_tables_and_shards(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    names = [f"ok{i}.png" for i in range(4)]
    (seven / "list.txt").write_text("\n".join(names))
    (seven / "t.csv").write_text("image,mos\n" + "".join(f"{n},3\n" for n in names))
    (seven / "t.jsonl").write_text("".join(json.dumps({"id": n[:3], "path": n, "task": "iaa"}) + "\n" for n in names))
    pq.write_table(
        pa.table({"image": [{"bytes": (seven / n).read_bytes(), "path": n} for n in names]}), seven / "t.parquet"
    )
    with tarfile.open(seven / "t.tar", "w") as shard:
        for name in [*names, "notes.md"]:
            shard.add(seven / name, name)
    values = []
    for kind in ("list.txt", "t.csv", "t.parquet", "t.tar"):
        out = tmp_path / f"{kind}.jsonl"
        assert score([str(seven / kind), "--output", str(out)]) == 0
        values.append([row["value"] for row in rows(out)])
        assert [row["id"].rsplit("/")[-1] for row in rows(out)] == names
    assert all(v == pytest.approx(values[0], abs=1e-5) for v in values)
    out = tmp_path / "tasks.jsonl"
    assert score([str(seven / "t.jsonl"), "--output", str(out)]) == 0
    assert [(row["id"], row["task"]) for row in rows(out)] == [(n[:3], "iaa") for n in names]


def test_a_damaged_shard_loses_no_row_silently(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    with tarfile.open(seven / "t.tar", "w") as shard:
        for i in range(4):
            shard.add(seven / f"ok{i}.png", f"ok{i}.png")
    data = (seven / "t.tar").read_bytes()
    (seven / "t.tar").write_bytes(data[: len(data) // 2])
    out = tmp_path / "scores.jsonl"
    assert score([str(seven / "t.tar"), "--output", str(out)]) == 1
    got = rows(out)
    assert sum(row["error"] is None for row in got) >= 1 and got[-1]["error"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["absent.png"], "no such file"),
        (["absent/*.png"], "no such file"),
        (["empty"], "no image or video"),
        (["ok.png", "--task", "beauty"], "unknown task 'beauty'"),
        (["ok.png", "--model", "nowhere"], "nowhere"),
        (["ok.png", "--output", "a.xlsx"], ".xlsx"),
        (["ok.png", "--resume"], "--output"),
        (["ok.png", "--json", "--columns", "valeu"], "unknown columns valeu"),
        (["ok.png", "--columns", "id"], "--columns needs --output or --json"),
        (["ok.png", "--json", "--columns", "id", "--top", "1"], "needs value"),
        (["ok.png", "--columns", "id", "--task", "iqa,iaa"], "needs task"),
        (["ok.png", "--columns", "id", "--output", "a.jsonl", "--resume", "--retry"], "needs error"),
        (["ok.png", "--link"], "--keep"),
        (["ok.png", "--clip", "0"], "--clip"),
        (["t.csv"], "no column"),
        (["t.csv", "--column", "fil"], "did you mean 'film'"),
        (["ok.png", "--batch-size", "0"], "batch_size"),
        (["https://example.com/a.png"], "--allow-urls"),
    ],
)
def test_mistakes_get_one_clear_line(
    score: Callable[[list[str]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save("ok.png")
    Path("t.csv").write_text("film,b\n1,2\n")
    assert score([*words]) == 1
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("q-align:")]
    assert len(err) == 1 and reason in err[0]


def test_names_that_are_hard_to_write_down(score: Callable[[list[str]], int], tmp_path: Path) -> None:
    names = ["new\nline.png", "späce 片.png", b"byte\xff.png".decode("utf-8", "surrogateescape")]
    for name in names:
        Image.new("RGB", (8, 8), "red").save(tmp_path / name, "PNG")
    for output in ("out.jsonl", "out.csv", "out.parquet"):
        for _ in range(2):  # the second time nothing is left to do
            assert score([str(tmp_path), "--output", str(tmp_path / output), "--resume"]) == 0
    got = [row["id"] for row in rows(tmp_path / "out.parquet")]
    assert len(got) == 3 and any("\n" in name for name in got) and any(name.endswith("byte\\xff.png") for name in got)


def test_as_a_program(seven: Path, model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "q_align", "score", str(seven), "--json", "--model", model],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 7
    assert "Traceback" not in done.stderr


def test_keeping_the_good_ones(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all.jsonl"
    assert score([str(seven), "--output", str(out), "--histogram"]) == 1
    assert sum(int(line.split()[-1]) for line in capsys.readouterr().err.splitlines() if line.startswith("   ")) == 4
    values = sorted((row["value"], row["id"]) for row in rows(out) if row["value"])
    limit = (values[1][0] + values[2][0]) / 2
    best = [name for _, name in values[:1:-1]]

    score([str(seven), "--threshold", str(limit)])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == sorted(best)
    score([str(seven), "--top", "2"])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == best
    # the table keeps all rows; what is kept is told, copied or linked
    for words, link in (([], False), (["--link"], True)):
        target = tmp_path / f"kept{link}"
        again = ["--output", str(out), "--resume", "--top", "2", "--keep", str(target)]
        assert score([str(seven), *again, *words]) == 1
        assert sorted(p.name for p in target.iterdir()) == sorted(Path(name).name for name in best)
        assert all(p.is_symlink() == link and p.read_bytes() == (seven / p.name).read_bytes() for p in target.iterdir())
    capsys.readouterr()
    kept = str(tmp_path / "keptFalse")
    assert score([str(seven), "--output", str(out), "--resume", "--top", "1", "--keep", kept]) == 1
    assert "keptFalse: other files that were there before: 1" in capsys.readouterr().err
    score([str(seven), "--output", str(out), "--resume", "--top", "2", "--keep", str(tmp_path / "kept.txt")])
    assert (tmp_path / "kept.txt").read_text().split() == best
    assert score([str(tmp_path / "kept.txt")]) == 0
    assert score([str(seven), "--keep", "x"]) == 1 and "--threshold or --top" in capsys.readouterr().err


def test_a_list_whose_paths_lead_nowhere_names_the_option(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("image\nok0.png\nok1.png\n")
    assert score([str(tmp_path / "list.csv")]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("--root names another")
    assert score([str(tmp_path / "list.csv"), "--root", str(seven)]) == 0


def test_scales_columns_and_tasks(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    plain, percent, both = (tmp_path / f"{i}.jsonl" for i in range(3))
    files = [str(seven / "ok0.png"), str(seven / "ok1.png")]
    score([*files, "--output", str(plain)])
    score([*files, "--output", str(percent), "--scale", "percent", "--columns", "id,value"])
    score([*files, "--output", str(both), "--task", "iqa,iaa"])
    assert list(rows(percent)[0]) == ["id", "value"]
    assert [r["value"] for r in rows(percent)] == pytest.approx([(r["value"] - 1) * 25 for r in rows(plain)])
    assert [(r["id"], r["task"]) for r in rows(both)] == [(f, t) for f in files for t in ("iqa", "iaa")]
    assert [r["value"] for r in rows(both)][::2] == pytest.approx([r["value"] for r in rows(plain)], abs=1e-5)


def test_failures_can_be_tried_again(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    for kind in ("scores.jsonl", "scores.csv", "scores.parquet", "scores"):
        out = tmp_path / kind
        assert score([str(seven), "--output", str(out)]) == 1
        whole = (seven / "ok1.png").read_bytes()
        cut = (seven / "cut.png").read_bytes()
        (seven / "cut.png").write_bytes(whole)
        assert score([str(seven), "--output", str(out), "--resume"]) == 1, "a failure has a row and is done"
        assert score([str(seven), "--output", str(out), "--resume", "--retry"]) == 1
        if kind != "scores.csv":
            got = {Path(row["id"]).name: row["error"] for row in rows(out)}
            assert len(got) == len(rows(out)) == 7 and got["cut.png"] is None and got["zero.jpg"]
        (seven / "cut.png").write_bytes(cut)


@pytest.mark.slow
def test_one_process_per_device(
    score: Callable[[list[str]], int], model: str, seven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(seven), "--output", str(tmp_path / "two"), "--model", model]
    monkeypatch.setattr(sys, "argv", ["q-align", "score", *words, "--devices", "cpu,cpu"])
    assert main(["score", *words, "--devices", "cpu,cpu"]) == 1
    score([str(seven), "--output", str(tmp_path / "one")])
    one, two = ({r["id"]: r["value"] for r in rows(tmp_path / name)} for name in ("one", "two"))
    assert len(list((tmp_path / "two").glob("part[01]-*.parquet"))) == 2
    assert two.keys() == one.keys()
    assert all(two[k] == one[k] if one[k] is None else two[k] == pytest.approx(one[k], abs=1e-5) for k in one)


@pytest.mark.slow
def test_a_process_that_cannot_start_is_a_failure(
    model: str, seven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*(str(seven / f"ok{i}.png") for i in (1, 2)), "--output", str(tmp_path / "two"), "--model", model]
    monkeypatch.setattr(sys, "argv", ["q-align", "score", *words, "--devices", "cpu,cuda:7"])
    assert main(["score", *words, "--devices", "cpu,cuda:7"]) == 1
    assert "the process on cuda:7 ended with code 1" in capfd.readouterr().err
    assert main(["score", "-", "--output", str(tmp_path / "three"), "--devices", "cpu,cpu"]) == 1
    assert "cannot share the standard input" in capfd.readouterr().err


def test_what_several_processes_keep_is_chosen_once(
    model: str, seven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    best = tmp_path / "best"
    words = ["--output", str(tmp_path / "two"), "--model", model, "--top", "1", "--keep", str(best), "--histogram"]
    for number in range(2):  # what each process does, one after the other
        assert main(["score", str(seven), *words, "--part", f"{number}/2"]) == 0
        assert not best.exists() and "#" not in capfd.readouterr().err
    assert main(["score", str(seven), *words, "--part", "0/2", "--resume", "--retry"]) == 0
    assert len(list(tmp_path.glob("two/part[01]-*.parquet"))) == 2, "other processes' rows are not theirs to remove"
    assert main(["score", str(seven), *words, "--resume"]) == 1
    assert len(list(best.iterdir())) == 1


def test_a_folder_is_gone_on_with_under_the_same_settings(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(seven / "ok0.png"), "--output", f"{tmp_path}/s/", "--resume"]
    assert score(words[:-1]) == 0, "the first run, which makes the folder"
    assert score([*words, "--task", "iaa"]) == 1
    assert "was scored with task 'auto', not 'iaa'" in capsys.readouterr().err


def test_a_file_is_gone_on_with_under_the_same_settings(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("s.csv", "s.jsonl", "s.parquet"):
        words = [str(seven / "ok*.png"), "--output", str(tmp_path / kind)]
        assert score(words) == 0
        assert score([*words, "--resume", "--scale", "percent"]) == 1
        assert "was scored with scale 'level', not 'percent'" in capsys.readouterr().err
        assert score([*words, "--resume"]) == 0


def test_reasons_of_failures_are_told_with_a_table_too(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        (seven / f"empty{i}.png").touch()
    assert score([str(seven), "--output", str(tmp_path / "s.csv")]) == 1
    said = capsys.readouterr().err
    assert said.count("q-align: ") == 6 and "q-align: 2 more in the column error" in said


def test_one_histogram_for_each_task(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(seven / "ok*.png"), "--task", "iqa,iaa", "--output", str(tmp_path / "s.csv")]
    assert score([*words, "--histogram"]) == 0
    said = capsys.readouterr().err
    for one in (said.split("iqa\n")[1].split("iaa\n")[0], said.split("iaa\n")[1]):
        assert sum(int(line.split()[-1]) for line in one.splitlines()[:20]) == 4
    assert score([*words[:3], "--top", "1"]) == 1
    assert "one task" in capsys.readouterr().err


def test_questions_of_a_list_become_a_column(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    """One image under two questions is two rows, and a resumed run knows both."""
    (seven / "list.csv").write_text(
        "path,question\nok0.png,Is it sharp?\nok0.png,Is it dark?\nok1.png,\nok0.png,Is it dark?\n"
    )
    for kind in ("s.csv", "s.jsonl", "s.parquet", "s"):
        out = tmp_path / kind
        for more in ([], ["--resume"], ["--resume", "--retry"]):
            assert score([str(seven / "list.csv"), "--output", str(out), *more]) == 0
            found = list(csv.DictReader(out.open())) if kind == "s.csv" else rows(out)
            assert [(row["id"], row["question"] or None) for row in found] == [
                ("ok0.png", "Is it sharp?"),
                ("ok0.png", "Is it dark?"),
                ("ok1.png", None),
            ]
    values = [row["value"] for row in rows(tmp_path / "s.jsonl")]
    assert values[0] != values[1], "asked, not only written down"
    assert score([str(seven / "ok0.png"), "--output", str(tmp_path / "plain.jsonl")]) == 0
    assert "question" not in rows(tmp_path / "plain.jsonl")[0], "only where items have their own"


def test_a_table_without_a_column_for_questions_is_refused(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (seven / "list.csv").write_text("path,question\nok0.png,Is it sharp?\n")
    words = [str(seven / "list.csv"), "--output", str(tmp_path / "s.csv"), "--columns", "id,value"]
    assert score(words) == 1
    assert "add question to --columns (id,value,question)" in capsys.readouterr().err


def test_scores_do_not_go_among_the_images(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(seven.rglob("*"))
    (tmp_path / "nested" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "nested" / "a" / "1.png")
    for media, output in ((seven, seven), (seven / "ok*.png", seven), (tmp_path / "nested", tmp_path / "nested")):
        assert score([str(media), "--output", str(output)]) == 1
        assert "folder of images or videos" in capsys.readouterr().err
    assert sorted(seven.rglob("*")) == before
    assert score([str(seven / "ok0.png"), "--output", str(seven / "scores")]) == 0, "a folder of its own"


@pytest.mark.parametrize(("top", "count"), [("2", 2), ("50%", 2), ("51%", 3), ("0.1%", 1), ("100%", 4), ("9", 4)])
def test_the_best_share(
    score: Callable[[list[str]], int], seven: Path, capsys: pytest.CaptureFixture[str], top: str, count: int
) -> None:
    score([str(seven)])
    best = sorted((float(line.split()[0]) for line in capsys.readouterr().out.splitlines()), reverse=True)
    score([str(seven), "--top", top])  # of the four that have a score
    assert [float(line.split()[0]) for line in capsys.readouterr().out.splitlines()] == best[:count]


@pytest.mark.parametrize(
    ("allowed", "code"), [("0", 1), ("2", 1), ("3", 0), ("42%", 1), ("43%", 0), ("100%", 0)]
)  # 3 of 7 fail: 42.9%
def test_some_failures_can_be_allowed(score: Callable[[list[str]], int], seven: Path, allowed: str, code: int) -> None:
    assert score([str(seven), "--max-failed", allowed]) == code


def test_wrong_limits_of_failures(score: Callable[[list[str]], int], seven: Path) -> None:
    for wrong in ("-1", "x", "101%"):
        assert score([str(seven), "--max-failed", wrong]) == 1


def test_another_scale_is_named_and_has_no_level_word(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(seven / "ok0.png")]
    assert score(words) == 0
    value, level, _, _ = capsys.readouterr().out.split()
    assert score([*words, "--scale", "percent"]) == 0
    out = capsys.readouterr().out
    assert level not in out and out.split()[1] == "percent"
    assert float(out.split()[0]) == pytest.approx((float(value) - 1) * 25, abs=0.02)
    for kind in ("s.jsonl", "s.parquet"):
        assert score([*words, "--scale", "percent", "--output", str(tmp_path / kind)]) == 0
        assert rows(tmp_path / kind)[0]["scale"] == "percent"
    assert score([*words, "--output", str(tmp_path / "level.jsonl")]) == 0
    assert "scale" not in rows(tmp_path / "level.jsonl")[0]


def test_the_note_holds_the_dtype_that_was_chosen(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(seven / "ok0.png"), "--output", str(tmp_path / "s.csv")]
    assert score([*words, "--device", "cpu"]) == 0
    assert json.loads((tmp_path / ".s.csv_run.json").read_text())["dtype"] == "float32"
    assert score([*words, "--resume", "--device", "cpu", "--dtype", "float32"]) == 0, "the same, asked for by name"
    assert score([*words, "--resume", "--device", "cpu", "--dtype", "bfloat16"]) == 1
    assert "was scored with dtype 'float32', not 'bfloat16'" in capsys.readouterr().err


def test_from_python(model: str, seven: Path, tmp_path: Path) -> None:
    """What the command does, as a function."""
    job = ScoringJob([str(seven)], tmp_path / "s.jsonl", model=model, loading={"device": "cpu"})
    seen: list[str] = []
    summary = score_table(job, on_score=lambda score: seen.append(score.id))
    assert (summary.n, summary.failed, len(seen)) == (7, 3, 7)
    assert [row["id"] for row in TableRows(tmp_path / "s.jsonl")] == seen
    with pytest.raises(ConfigError, match="already contains scores"):
        score_table(job)
    again = score_table(replace(job, resume=True, retry=True), on_score=lambda score: seen.append(score.id))
    assert (again.n, again.before, len(seen)) == (7, 4, 10)
    with pytest.raises(ConfigError, match="nowhere to write"):
        score_table(replace(job, output=None))


@pytest.mark.slow
def test_a_progress_bar_on_a_terminal(model: str, seven: Path, tmp_path: Path) -> None:
    """Done, all, rate and failures; rows of an earlier run do not count for the rate."""
    import fcntl
    import pty
    import struct
    import termios

    def run(*words: str) -> str:
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))  # Python 3.10 has no tcsetwinsize
        command = [sys.executable, "-m", "q_align", "score", str(seven), "--output", str(tmp_path / "s.csv")]
        process = subprocess.Popen([*command, "--model", model, *words], stderr=child, stdout=subprocess.DEVNULL)
        os.close(child)
        text = b""
        with suppress(OSError):  # the other end is closed
            while piece := os.read(parent, 4096):
                text += piece
        os.close(parent)
        process.wait()
        return text.decode()

    shown = run()
    assert "7/7" in shown and "row/s" in shown and "failed=3" in shown
    lines = (tmp_path / "s.csv").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "s.csv").write_text("".join(lines[:6]), "utf-8")
    assert "5/7" in run("--resume")


def test_frames_of_a_video(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    sys.path.insert(0, str(Path(__file__).parents[1] / "media"))
    from clips import make_clip

    clip = make_clip(seven / "clip.mp4", 30)
    for kind in ("out.jsonl", "out.parquet"):
        out = tmp_path / kind
        assert score([str(clip), str(seven / "ok0.png"), "--output", str(out), "--per-frame"]) == 0
        video, image = rows(out)
        assert video["task"] == "vqa" and len(video["frames"]) == 3 and all(1 <= v <= 5 for v in video["frames"])
        assert image["task"] == "iqa" and image["frames"] is None
    assert score([str(clip), "--output", str(tmp_path / "share.jsonl"), "--per-frame", "--scale", "unit"]) == 0
    assert rows(tmp_path / "share.jsonl")[0]["frames"] == pytest.approx([(v - 1) / 4 for v in video["frames"]])


def test_pooling_of_frames(score: Callable[[list[str]], int], seven: Path, tmp_path: Path) -> None:
    """--pool reaches the scores and the note beside them; images are as without it."""
    pytest.importorskip("av")
    sys.path.insert(0, str(Path(__file__).parents[1] / "media"))
    from clips import make_clip

    media = [str(make_clip(seven / "clip.mp4", 60)), str(seven / "ok0.png")]
    found = {}
    for pool in ("model", "min", "mean", "p10"):
        out = tmp_path / f"{pool}.jsonl"
        assert score([*media, "--output", str(out), "--per-frame", "--pool", pool]) == 0
        found[pool] = rows(out)
        note = json.loads((tmp_path / f".{pool}.jsonl_run.json").read_text())
        assert note["media"]["pool"] == pool
    frames = found["model"][0]["frames"]
    assert len(set(frames)) > 2
    assert found["min"][0]["value"] == pytest.approx(min(frames), abs=1e-5)
    assert found["mean"][0]["value"] == pytest.approx(np.mean(frames), abs=1e-5)
    assert found["p10"][0]["value"] == pytest.approx(np.percentile(frames, 10), abs=1e-5)
    assert len({made[1]["value"] for made in found.values()}) == 1
    assert score([*media, "--output", str(tmp_path / "min.jsonl"), "--resume", "--per-frame"]) == 1, "another pooling"


def test_a_table_is_resumed_with_its_own_columns_only(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("s.csv", "s.jsonl", "s.parquet", "s"):
        out = tmp_path / kind
        assert score([str(seven / "ok0.png"), "--output", str(out)]) == 0
        for other in (["--per-frame"], ["--columns", "id,value"]):
            assert score([str(seven / "ok*.png"), "--output", str(out), "--resume", *other]) == 1
            assert "was scored with columns" in capsys.readouterr().err
        assert len(list(TableRows(out))) == 1
        assert score([str(seven / "ok*.png"), "--output", str(out), "--resume"]) == 0
        assert len(list(TableRows(out))) == 4


def test_names_from_the_standard_input(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("ok1.png\n\nok0.png\nabsent.png\n"))
    assert score(["-", "--root", str(seven), "--output", str(tmp_path / "s.jsonl")]) == 1
    got = rows(tmp_path / "s.jsonl")
    assert [Path(row["id"]).name for row in got] == ["ok1.png", "ok0.png", "absent.png"]
    assert [row["error"] is None for row in got] == [True, True, False]


@pytest.mark.parametrize("top", ["0", "-3", "0%", "101%", "ten", "10 %%"])
def test_the_best_none_is_refused(
    score: Callable[[list[str]], int], seven: Path, capsys: pytest.CaptureFixture[str], top: str
) -> None:
    assert score([str(seven), "--top", top]) == 1
    assert "--top takes a number of at least 1 or a percentage" in capsys.readouterr().err


def test_a_link_to_nothing_is_not_written_through(
    score: Callable[[list[str]], int], seven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "ok0.png").symlink_to(tmp_path / "nowhere")
    words = [str(seven / "ok0.png"), "--threshold", "1", "--keep", str(tmp_path / "kept")]
    for more in ([], ["--link"]):
        assert score([*words, *more]) == 1
        assert "name another --keep" in capsys.readouterr().err
