"""The published Q-Align files: what is repaired, and that conversion gives the paper's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from q_align.data.inspect_labels import inspect
from q_align.data.label_files import read_labels
from q_align.data.published_json import answer_level, one_question
from q_align.errors import LabelError
from q_align.levels import LevelScheme
from q_align.tasks import TASKS

# Found from the borders between the published levels (docs/labels.md): SRCC, PLCC as in the paper.
TABLE = {
    "koniq": ((6.684, 85.356), 0.952, 0.961),
    "spaq": ((0.0, 94.0), 0.969, 0.968),
    "kadid": ((1.0533, 4.8867), 0.979, 0.982),
}


@pytest.mark.parametrize("name", TABLE)
def test_conversion_equals_the_papers_table(shared: Path, name: str) -> None:
    ends, srcc, plcc = TABLE[name]
    found = inspect(read_labels(shared / f"data/labels/q_align/train_{name}.json", mos_range=ends).on(LevelScheme()))
    assert found["conversion"]["hard"]["srcc"] == pytest.approx(srcc, abs=0.003)
    assert found["conversion"]["hard"]["plcc"] == pytest.approx(plcc, abs=0.003)
    own = found["own_levels"]
    assert own["agreement"] >= 0.998
    for end, between, used in zip(own["implied_range"], own["implied_range_within"], ends):
        assert between[0] <= end <= between[1]
        assert end == pytest.approx(used, abs=1e-3)


@pytest.mark.parametrize(
    ("file", "rows", "repaired", "off"),
    [
        ("train_spaq", 8897, 1263, 0),
        ("train_kadid", 8106, 2, 18),
        ("train_koniq", 7046, 0, 0),
        ("test_lsvq_1080p", 3573, 403, 0),
        ("maxwell_train_split_1", 3634, 0, 0),
        ("livec", 1169, 0, 0),
        ("test_ava", 19930, 0, 0),
    ],
)
def test_faults_are_repaired_and_counted(shared: Path, file: str, rows: int, repaired: int, off: int) -> None:
    labels = read_labels(shared / f"data/labels/q_align/{file}.json")
    report = labels.on(LevelScheme()).report
    assert (report["usable"], report["repaired"], report["off_vocabulary"], report["without_score"]) == (
        rows,
        repaired,
        off,
        0,
    )
    questions = set(labels.column("question").tolist()) - {None}
    assert not any("<|image|>" in q or q.count("?") > 1 for q in questions)
    known = {q.replace("this clip", "this video") for _, task in TASKS.items() for q in task.questions}
    assert {q.replace("this clip", "this video") for q in questions} <= known


def record(name: str, answer: str, **more: object) -> dict:
    asked = "Rate it.\n<|image|>Do you like it?\n<|image|>"
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": f"The quality of the image is {answer}."}]
    return {"id": f"{name}->{more.pop('score', 3.0)}", "image": name, "conversations": turns, **more}


def test_every_fault_in_one_file(tmp_path: Path) -> None:
    rows = [
        record("a.jpg", "good", score="4.5"),
        record("b.jpg", "pristine", score="1.0"),
        record("c.jpg", "bad", score="none"),
        record("d.jpg", "fair", score="none", gt_score=2.0),
    ]
    (tmp_path / "set.json").write_text(json.dumps(rows))
    labels = read_labels(tmp_path / "set.json", media_root="").on(LevelScheme())
    assert labels.column("id").tolist() == ["a.jpg", "b.jpg", "d.jpg"]
    assert labels.column("raw_mos").tolist() == [4.5, 1.0, 2.0]
    # the word outside the vocabulary is counted: the level of b comes from its MOS
    assert labels.column("level").tolist() == ["good", "pristine", "fair"]
    assert labels.scheme.words[labels.scheme.hard(labels[1].mos)] == "bad"
    assert labels.report["off_vocabulary_rows"] == ["b.jpg: pristine"]
    assert labels.report["without_score_rows"] == ["c.jpg"]
    assert labels.report["repaired"] == 3
    assert labels[0].question == "Rate it."
    assert labels.column("repair").tolist() == ["two questions in one string"] * 3


def test_a_file_without_any_score_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps([record("a.jpg", "good", score="?")]))
    with pytest.raises(LabelError, match="none of 1 records has an image or video and a score"):
        read_labels(tmp_path / "set.json")


def test_text_of_published_turns() -> None:
    frames = "<|image|>" * 8
    assert one_question(f"How good is it?  {frames}") == ("How good is it?", False)
    assert one_question(f"How?\n{frames}What?\n{frames}") == ("How?", True)
    assert answer_level("The quality of the video is very good.") == "very good"
