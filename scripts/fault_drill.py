"""Fault drill of q-align score: 1,000 inputs, 200 of them bad in 20 ways, and a kill -9 every few moments until done.

Checks that every good input is scored exactly once, that every bad one has a row with its reason (or is scored, where
it can be read after all), that a sample of the scores equals those of an undisturbed scorer, and the exit code.

    python scripts/fault_drill.py [--inputs 1000] [--json results.json]
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "media"))
from clips import make_clip

SCORE, ERROR, EITHER = "score", "error", "either"


def photo(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def bad_ways(folder: Path) -> list[tuple[str, str, Callable[[Path, int], Path]]]:
    """Name, what must become of it, and how to make one (given a path without suffix and a number)."""
    good = photo(folder / "model.jpg", 0).read_bytes()
    clip = make_clip(folder / "model.mp4", 30).read_bytes()
    av1 = make_clip(folder / "av1.mp4", codec="libsvtav1", options={"crf": "30", "svtav1-params": "log-level=0"})
    sound = make_clip(folder / "sound.mp4", audio=True).read_bytes()

    def data(suffix: str, content: bytes) -> Callable[[Path, int], Path]:
        def make(path: Path, number: int) -> Path:
            path.with_suffix(suffix).write_bytes(content)
            return path.with_suffix(suffix)

        return make

    def saved(suffix: str, image: Callable[[], Image.Image], **options: object) -> Callable[[Path, int], Path]:
        def make(path: Path, number: int) -> Path:
            image().save(path.with_suffix(suffix), **options)
            return path.with_suffix(suffix)

        return make

    def named(text: str) -> Callable[[Path, int], Path]:
        return lambda path, number: photo(path.with_name(f"{path.name} {text} {number}.jpg"), number)

    def a_folder(path: Path, number: int) -> Path:
        path.with_suffix(".jpg").mkdir()
        return path.with_suffix(".jpg")

    def dangling(path: Path, number: int) -> Path:
        path.with_suffix(".jpg").symlink_to("nowhere.jpg")
        return path.with_suffix(".jpg")

    def forbidden(path: Path, number: int) -> Path:
        made = photo(path.with_suffix(".jpg"), number)
        made.chmod(0)
        return made

    def broken_clip(path: Path, number: int) -> Path:
        """Rubbish over the header, in the middle, or the end cut off."""
        content = bytearray(clip)
        place = number % 3
        if place == 0:
            content[:200] = bytes(200)
        elif place == 1:
            content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
        else:
            del content[len(content) * 8 // 10 :]
        path.with_suffix(".mp4").write_bytes(bytes(content))
        return path.with_suffix(".mp4")

    gray = (np.arange(64 * 48, dtype=np.uint32).reshape(48, 64) * 20 % 65535).astype(np.uint16)
    nan = np.full((48, 64), np.nan, dtype=np.float32)
    frames = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    readable = SCORE if os.geteuid() == 0 else ERROR  # root may read everything
    return [
        ("truncated", ERROR, data(".jpg", good[: len(good) // 2])),
        ("zero bytes", ERROR, data(".jpg", b"")),
        ("text", ERROR, data(".jpg", b"this is a text\n")),
        ("wrong extension", SCORE, saved(".png", lambda: Image.new("RGB", (64, 48), "green"), format="JPEG")),
        ("bomb", ERROR, saved(".png", lambda: Image.new("1", (12_000, 12_000)))),
        ("1x1", SCORE, saved(".png", lambda: Image.new("RGB", (1, 1)))),
        ("30000x2", ERROR, saved(".png", lambda: Image.new("RGB", (30_000, 2)))),
        ("CMYK", SCORE, saved(".jpg", lambda: Image.new("CMYK", (64, 48), (10, 90, 30, 0)))),
        ("16-bit", SCORE, saved(".png", lambda: Image.fromarray(gray))),
        ("NaN array", ERROR, saved(".tif", lambda: Image.fromarray(nan))),
        ("directory", ERROR, a_folder),
        ("dangling link", ERROR, dangling),
        ("no permission", readable, forbidden),
        ("unicode name", SCORE, named("ü片𝔘")),
        ("newline name", SCORE, named("a\nb")),
        ("corrupt video", EITHER, broken_clip),
        ("audio only", ERROR, data(".mp4", sound)),
        ("AV1", SCORE, data(".mp4", av1.read_bytes())),
        ("GIF", SCORE, saved(".gif", lambda: frames[0], save_all=True, append_images=frames[1:])),
    ]


def make_inputs(folder: Path, count: int) -> tuple[Path, dict[str, tuple[str, str]]]:
    """A list of `count` inputs in random order, and per id: its kind and what must become of it."""
    spare, media = folder / "spare", folder / "media"
    spare.mkdir()
    media.mkdir()
    bad = count // 5
    ways = bad_ways(spare)
    expected: dict[str, tuple[str, str]] = {}
    for number in range(count - bad):
        expected[str(photo(media / f"good{number}.jpg", number))] = ("good", SCORE)
    names = list(expected)
    for number in range(bad):
        turn = number % (len(ways) + 1)
        if turn == len(ways):  # the twentieth way: a duplicate
            names.append(names[number])
            continue
        kind, outcome, make = ways[turn]
        path = str(make(media / f"bad{number}", number // (len(ways) + 1)))
        expected[path] = (kind, outcome)
        names.append(path)
    random.Random(0).shuffle(names)
    manifest = folder / "list.jsonl"
    manifest.write_text("".join(json.dumps({"path": name}) + "\n" for name in names), encoding="utf-8")
    return manifest, expected


def run_until_done(manifest: Path, output: Path, args: argparse.Namespace) -> tuple[int, int, int]:
    """Starts the command again and again, kills it after some progress; kills, kills before any progress, exit code."""
    rng, kills, early = random.Random(1), 0, 0
    command = [sys.executable, "-m", "q_align", "score", str(manifest), "--root", "/", "--output", f"{output}/"]
    while True:
        before = len(list(output.glob("*.parquet")))
        child = subprocess.Popen(
            [*command, "--model", args.model, "--resume", "--shard-seconds", "0.2"], stderr=subprocess.PIPE
        )
        # one in six dies at once, in the middle of starting; the others some moments after their first shard
        at_once = rng.random() < 1 / 6
        while child.poll() is None and not at_once and len(list(output.glob("*.parquet"))) == before:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, args.pause))
        if child.poll() is not None:
            print((child.stderr.read() if child.stderr else b"").decode(), file=sys.stderr)
            return kills, early, child.returncode
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
        early += at_once


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between progress and death, at most")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, output = Path(place), Path(place) / "scores"
        output.mkdir()
        manifest, expected = make_inputs(folder, args.inputs)
        begun = time.monotonic()
        kills, early, code = run_until_done(manifest, output, args)
        seconds = time.monotonic() - begun
        rows = pq.read_table(sorted(output.glob("part-*.parquet"))).to_pylist()
        faults = judge(rows, expected, code, args.model)
    kinds: dict[str, collections.Counter[str]] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        kind = expected[row["id"]][0]
        kinds.setdefault(kind, collections.Counter())["failed" if row["error"] else "scored"] += 1
        if row["error"] or row["warning"]:
            reasons[kind] = str(row["error"] or row["warning"]).replace(place, "")[-140:]
    result = {
        "inputs": args.inputs,
        "rows": len(rows),
        "kills": kills,
        "kills_while_starting": early,
        "exit_code": code,
        "seconds": round(seconds),
        "faults": faults,
        "kinds": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
        "reasons": reasons,
        "machine": f"{os.cpu_count()}-core {platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if faults else 0


def judge(rows: list[dict], expected: dict[str, tuple[str, str]], code: int, model: str) -> list[str]:
    """What is wrong with a finished table; nothing, one hopes."""
    faults = []
    counts = collections.Counter(row["id"] for row in rows)
    faults += [f"{name} has {count} rows" for name, count in counts.items() if count != 1]
    faults += [f"{name} has no row" for name in expected if name not in counts]
    faults += [f"{name} was never asked for" for name in counts if name not in expected]
    for row in rows:
        kind, outcome = expected.get(row["id"], ("unknown", EITHER))
        if (row["value"] is None) == (row["error"] is None):
            faults.append(f"{row['id']}: neither a value nor a reason, or both")
        if outcome != EITHER and (outcome == ERROR) != (row["error"] is not None):
            faults.append(f"{row['id']} ({kind}) should be: {outcome}; it is: {row['error'] or row['value']}")
    if code != 1:
        faults.append(f"exit code {code}, not 1")
    from q_align.score.scorer import Scorer

    sample = [row for row in rows if row["value"] is not None][:50]
    plain = Scorer.from_pretrained(model, device="cpu", workers=0)
    for row, score in zip(sample, plain.stream([row["id"] for row in sample])):
        if score.value is None or abs(score.value - row["value"]) > 1e-5:
            faults.append(f"{row['id']} scored {row['value']}, undisturbed {score.value}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
