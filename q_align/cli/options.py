"""Options that several commands share: how a model is loaded and run, and how media are looked at.

Knows argparse and names; imports nothing heavy.
"""

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
SAMPLING = ("fps", "max_frames", "clip")


def add_config(parser: Any) -> None:
    """The files that a training configuration is made of; further words are its overrides."""
    about = "YAML file, or a name from `q-align config --list`; may be repeated"
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help=about)
    parser.set_defaults(takes_overrides=True)


def add_loading(parser: Any) -> None:
    """How a model is loaded and run; `loading` gives what was said."""
    add = parser.add_argument
    add("--batch-size", type=int, metavar="N", help="frames at once (default: 16; on a CPU up to 8)")
    add("--batch-tokens", type=int, metavar="N", help="tokens at once, padding included; 0: any number")
    add("--dtype", default="auto", choices=DTYPES, help="precision (default: auto; float32 on a CPU)")
    add("--attn", choices=ATTENTION, help="attention (default: the model's)")
    add("--quantize", choices=QUANTIZED, help="quantize the language model")
    add("--compile", action="store_true", help="compile the model first; for long runs on a GPU")
    add_offline(parser)


def add_offline(parser: Any) -> None:
    """For every command that takes the name of a model; `q_align.cli.main` acts on it before anything is imported."""
    parser.add_argument("--offline", action="store_true", help="never download; use the local cache (HF_HUB_OFFLINE=1)")


def add_device(parser: Any) -> None:
    """On what a model runs, where one process runs it."""
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="decoding threads (default: one per core, at most 16)")
    add("--device", help="cuda, cuda:1, mps, cpu (default: the best one here)")
    add("--device-map", metavar="MAP", help="spread the model: auto, balanced, sequential")


def loading(args: argparse.Namespace) -> dict[str, Any]:
    """Options of `Scorer.from_pretrained` beside the model; what was not said is left to it."""
    given = {name: getattr(args, name, None) for name in LOADING}
    return {name: value for name, value in given.items() if value is not None and value is not False}


def add_opinions(parser: Any) -> None:
    """What a labels file does not say of its MOS; `opinions` gives what was said."""
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
    """How media are sampled, and what of them is refused; `sampling` and `limits` give what was said."""
    add = parser.add_argument
    add("--allow-urls", action="store_true", help="fetch http and https addresses")
    add("--fps", type=float, help="points per second of a video; 0: --max-frames over all of it")
    add("--max-frames", type=int, metavar="N", help="frames of a video at most")
    add("--clip", type=int, metavar="N", help="frames one after another at each point")
    add("--damaged", choices=("read", "error"), default="read", help="videos that end early")
    add("--limit-pixels", type=int, metavar="N", help="refuse larger pictures (default: 89 megapixels)")


def sampling(args: argparse.Namespace, spec: Any) -> Any:
    """A model's `MediaSpec` with what was said.

    Raises:
        ConfigError: for values that make no sense.
    """
    from dataclasses import replace

    from q_align.errors import ConfigError

    given = {name: getattr(args, name) for name in SAMPLING}
    try:
        return replace(spec, **{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise ConfigError(f"{error} (--fps, --max-frames, --clip)") from error


def limits(args: argparse.Namespace) -> Any:
    """The `Limits` that were said."""
    from dataclasses import replace

    from q_align.media import Limits

    said = Limits(allow_urls=args.allow_urls, damaged=args.damaged)
    return replace(said, max_pixels=args.limit_pixels) if args.limit_pixels else said
