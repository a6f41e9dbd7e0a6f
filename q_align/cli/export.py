"""q-align export: writes a trained model as one plain folder, with its adapters merged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from q_align.cli.options import add_offline


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="write a model as one plain folder, adapters merged",
        description="Loads a model (a run's folder, a checkpoint, an adapter with its base) and writes one folder with "
        "its weights, adapters merged, its tokenizer and q_align.json. The folder needs nothing else.",
        epilog="example: q-align export runs/lora --output models/mine --dtype bfloat16",
        allow_abbrev=False,
    )
    parser.add_argument("model", help="folder of a run, of a checkpoint or of an adapter; a published id, or nano")
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder")
    parser.add_argument("--base", metavar="DIR", help="base model of the adapter, if it was moved")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="of the weights")
    add_offline(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.errors import ConfigError

    output = Path(args.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: exists and is not empty; name a new folder (--output)")
    from q_align.models.backbone import Backbone
    from q_align.train.progress import quiet_libraries

    with quiet_libraries():
        Backbone.from_pretrained(args.model, dtype=args.dtype, base=args.base).save(output)
    print(output)
    return 0
