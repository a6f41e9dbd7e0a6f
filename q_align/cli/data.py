"""`q-align data inspect` and `q-align data convert`; `generate`, `fetch` and `pack` have files of their own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.cli import data_fetch, data_generate, data_pack
from q_align.cli.options import add_opinions, opinions
from q_align.errors import ConfigError
from q_align.log import printable

if TYPE_CHECKING:
    pass

EXAMPLES = 5  # missing files that are named
QUESTIONS = {
    "card": "one for all rows of a task; training stores it in the model, which is then scored with it",
    "paraphrases": "paraphrases of the task's question, for training only",
    "items": "each row has its own, asked in training and in evaluation",
}


def add_parser(subparsers: Any) -> Any:
    """Adds `data` with its own sub-commands; returns their holder, for more of them."""
    parser = subparsers.add_parser(
        "data", help="inspect, convert, generate, download and pack data", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)

    inspect = commands.add_parser(
        "inspect", help="what is in a labels file, and how much of its MOS the level labels keep"
    )
    _reading(inspect)
    inspect.add_argument("--media-root", metavar="DIR", help="also check that every image and video exists")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    inspect.add_argument("--plot", metavar="PNG", help="also draw the histogram of the MOS and the levels")
    inspect.set_defaults(run=run)

    convert = commands.add_parser("convert", help="write labels, or a list of paths, as CSV or Parquet")
    _reading(convert)
    convert.add_argument("--output", required=True, metavar="FILE", help="file to write, .csv or .parquet")
    convert.set_defaults(run=run)
    data_generate.add_parser(commands)
    data_fetch.add_parser(commands)
    data_pack.add_parser(commands, _reading)
    return commands


def run(args: argparse.Namespace) -> int:
    """Runs inspect or convert; raises `LabelError` for a file that cannot be read."""
    from q_align.data.label_files import read_labels
    from q_align.levels import LevelScheme

    if args.data_command == "convert":
        return _convert(args)
    root = args.media_root
    labels = read_labels(
        args.file,
        media_root=root or "",  # nothing is opened: paths stay as the file has them
        task=args.task,
        source=args.source,
        **opinions(args),
    ).on(LevelScheme())
    from q_align.data.inspect_labels import inspect, plot
    from q_align.log import log

    found = inspect(labels)
    if found["splits"] and "train" not in found["splits"]:
        log.warning("%s: no row is called 'train' in column split; training takes the rows that are", labels.source)
    if args.plot:
        plot(labels, args.plot)
    if root is not None:
        from q_align.data.media_files import missing_media

        lost = labels.column("media")[missing_media(labels)].tolist()
        found["missing_media"] = len(lost)
        labels.report["missing_media_rows"] = lost[:EXAMPLES]
    print(json.dumps(found) if args.json else printable("\n".join(_lines(found, labels.report)), allowed="\n\t"))
    return 1 if found.get("missing_media") else 0


def _convert(args: argparse.Namespace) -> int:
    from q_align.data.convert_labels import convert_list, is_list, write_labels
    from q_align.data.label_files import read_labels
    from q_align.data.mos_range import log_range
    from q_align.log import log

    source, target = Path(args.file).resolve(), Path(args.output).resolve()
    if source == target:
        raise ConfigError(f"{args.output}: is the file to convert; name another --output")
    if is_list(source):
        rows = convert_list(args.file, args.output)
        print(f"{args.output}: {rows} rows without MOS, for q-align score and q-align cluster")
        return 0
    labels = read_labels(args.file, media_root="", task=args.task, source=args.source, **opinions(args))
    log_range(labels)
    rows = write_labels(labels, args.output)
    data_pack.log_training_keys(labels)
    named = [name for name in labels.column("media")[:EXAMPLES] if "://" not in name and not Path(name).is_absolute()]
    if source.parent != target.parent and named:
        folder = Path(args.file).parent
        log.info("paths are written as they were: read them with --media-root (data.media_root) %s", folder)
    print(f"{args.output}: {rows} rows")
    return 0


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV, TSV, JSONL, Parquet, or published Q-Align JSON")
    parser.add_argument(
        "--task",
        help="rating task: iqa, iaa, vqa or a registered one (default: the file's column, else by kind of file)",
    )
    parser.add_argument("--source", help="name of the data set (default: the file's name, or its folder's)")
    add_opinions(parser)


def _lines(found: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """The findings for people, one line each."""
    low, high = found["mos_range"]
    own, mos = found["own_levels"], found["mos"]
    lines = [
        f"{found['source']}: {found['rows']} rows, {found['usable']} usable, {found['duplicates']} duplicate paths",
        f"repaired {found['repaired']}, off-vocabulary {found['off_vocabulary']}, "
        f"without score {found['without_score']}",
        f"tasks {_list(found['tasks'])}; splits {_list(found['splits']) or 'none'}",
        f"MOS {mos['min']:g}..{mos['max']:g}, mean {mos['mean']:.4g}; range {low:g}..{high:g} ({found['range_from']})"
        + ("" if found["higher_is_better"] else ", lower is better")
        + (f"; {found['hint']} (--mos-range 1 5)" if found["hint"] else ""),
        f"std known for {found['std']['rows']} rows, mean {found['std']['mean']:.4g}"
        if found["std"]
        else "std unknown",
        f"levels {_list(found['levels'])}",
    ]
    if found["questions"] != "none":
        lines.append(f"questions: {QUESTIONS[found['questions']]}")
    if not found["conversion"]:
        lines.append("too few rows, or equal MOS: no correlation of the level labels with the MOS")
    for name, kept in found["conversion"].items():
        lines.append(f"{name} labels keep SRCC {kept['srcc']:.4f} PLCC {kept['plcc']:.4f} of the MOS")
    if own:
        lines.append(f"the file's own levels: agreement {own['agreement']:.2%} of {own['rows']} rows")
    if own and "implied_range" in own:
        kept = own["implied_conversion"]
        lines.append(
            f"they imply a range {own['implied_range'][0]:.6g}..{own['implied_range'][1]:.6g}, with agreement "
            f"{own['implied_agreement']:.2%} and SRCC {kept['srcc']:.4f} PLCC {kept['plcc']:.4f}"
        )
    if "missing_media" in found:
        lines.append(f"images and videos missing: {found['missing_media']} of {found['usable']}")
    for name, title in (
        ("off_vocabulary_rows", "off-vocabulary"),
        ("without_score_rows", "without score"),
        ("missing_media_rows", "missing"),
    ):
        lines += [f"  {title}: {row}" for row in report.get(name, [])]
    return lines


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
