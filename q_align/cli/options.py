"""Options that several commands share; imports nothing heavy, so that help is instant."""

from __future__ import annotations

import argparse
from typing import Any

DTYPES = ("auto", "float32", "bfloat16", "float16")
ATTENTION = ("eager", "sdpa", "flash_attention_2")
QUANTIZED = ("8bit", "4bit", "int8")
LOADING = (
    *("batch_size", "batch_tokens", "dtype", "attn", "quantize", "compile"),
    *("workers", "device", "device_map"),
)
SAMPLING = ("fps", "max_frames", "clip", "pool")


def add_config(parser: Any) -> None:
    """The files that a training configuration is made of; further words are its overrides."""
    about = "YAML file, or a name from `q-align config --list`; may be repeated"
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help=about)
    parser.set_defaults(takes_overrides=True)


def add_loading(parser: Any) -> None:
    """How a model is loaded and run; `loading` reads the answers."""
    add = parser.add_argument
    add("--batch-size", type=int, metavar="N", help="frames per forward pass (default: 16; on a CPU up to 8)")
    add("--batch-tokens", type=int, metavar="N", help="tokens per forward pass, padding included; 0: no limit")
    add("--dtype", default="auto", choices=DTYPES, help="precision (default: auto; float32 on a CPU)")
    add("--attn", choices=ATTENTION, help="attention (default: the model's)")
    add("--quantize", choices=QUANTIZED, help="quantize the language model")
    add("--compile", action="store_true", help="torch.compile the model; for long runs on a GPU")
    add_offline(parser)


def add_offline(parser: Any) -> None:
    """For every command that takes the name of a model; `q_align.cli.main` acts on it before anything is imported."""
    parser.add_argument("--offline", action="store_true", help="never download; use the local cache (HF_HUB_OFFLINE=1)")


def add_device(parser: Any) -> None:
    """Where a model runs, for commands that run it in one process."""
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="decoding threads (default: one per core, up to 16)")
    add("--device", help="cuda, cuda:1, mps, cpu (default: the best one available)")
    add("--device-map", metavar="MAP", help="spread the model over devices: auto, balanced, sequential")


def loading(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `Scorer.from_pretrained` that were given; the others keep its defaults."""
    given = {name: getattr(args, name, None) for name in LOADING}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def add_opinions(parser: Any) -> None:
    """Facts of a MOS that a labels file does not state; `opinions` reads the answers."""
    add = parser.add_argument
    ends = ("MIN", "MAX")
    add("--mos-range", nargs=2, type=float, metavar=ends, help="ends of the MOS scale (default: from the rows)")
    add("--lower-is-better", action=argparse.BooleanOptionalAction, help="the scores are DMOS")


def opinions(args: argparse.Namespace) -> dict[str, Any]:
    """`mos_range` and `higher_is_better`, as `read_labels` takes them."""
    return {
        "mos_range": tuple(args.mos_range) if args.mos_range else None,
        "higher_is_better": None if args.lower_is_better is None else not args.lower_is_better,
    }


def add_media(parser: Any) -> None:
    """How images and videos are opened, and what of them is refused; `sampling` and `limits` read the answers."""
    add = parser.add_argument
    add("--allow-urls", action="store_true", help="fetch http and https addresses")
    add("--fps", type=float, help="frames sampled per second; 0: spread --max-frames evenly over the video")
    add("--max-frames", type=int, metavar="N", help="sample at most N frames of a video")
    add("--clip", type=int, metavar="N", help="consecutive frames per sampling position")
    add("--pool", metavar="NAME", help="score of a video: model (sees all frames), or mean, min, p10 of frame scores")
    add("--damaged", choices=("read", "error"), default="read", help="truncated videos: score what decodes, or fail")
    add("--limit-pixels", type=int, metavar="N", help="refuse larger images (default: 89 megapixels)")


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of `MediaSpec` that were given; the others are the model's own."""
    given = {name: getattr(args, name) for name in SAMPLING}
    return {name: value for name, value in given.items() if value is not None}


def limits(args: argparse.Namespace) -> Any:
    """The `Limits` that were given."""
    from dataclasses import replace

    from q_align.media import Limits

    given = Limits(allow_urls=args.allow_urls, damaged=args.damaged)
    return replace(given, max_pixels=args.limit_pixels) if args.limit_pixels else given


def add_max_failed(parser: Any) -> None:
    """How many failures are acceptable; `exit_code` decides."""
    about = "exit code 0 with up to N failed items, or P%% of all (default: 0)"
    parser.add_argument("--max-failed", default="0", metavar="N|P%", help=about)


def exit_code(args: argparse.Namespace, summary: Any) -> int:
    """0 where a run finished, with no more failed items than --max-failed allows; else 1.

    Raises:
        ConfigError: for an invalid --max-failed.
    """
    from q_align.score.selection import Amount

    allowed = Amount.parse(args.max_failed, "--max-failed", least=0)
    share = summary.n * allowed.number / 100 if allowed.percent else allowed.number  # not rounded up
    return 0 if summary.complete and summary.failed <= share else 1
