"""q-align cluster: scores tables of images and videos on many machines with Ray."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from q_align.cli.options import add_loading, add_max_failed, add_media, exit_code, limits, loading, sampling


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("cluster", help="score on many machines with Ray")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    score = actions.add_parser(
        "score",
        help="score tables of images and videos into a folder of Parquet shards",
        description="Reads Parquet tables with a column of paths or bytes, decodes on CPUs, scores in one actor per "
        "device, and writes Parquet shards. Items that have a row in --output already are skipped.",
    )
    score.add_argument("manifest", nargs="+", metavar="TABLE", help="Parquet files or folders of them")
    score.add_argument("--output", required=True, metavar="DIR")
    score.add_argument("--model", default="nano")
    score.add_argument("--task", default="auto", help="auto, iqa, iaa, vqa (default: auto)")
    score.add_argument("--column", metavar="NAME", help="column that holds the paths or bytes")
    score.add_argument("--root", metavar="DIR", help="folder that paths are relative to")
    score.add_argument("--actors", type=int, default=1, metavar="N", help="scoring actors at the start (default: 1)")
    score.add_argument("--max-actors", type=int, metavar="N", help="scoring actors at most (default: as --actors)")
    score.add_argument("--gpus", type=float, default=0.0, metavar="X", help="GPUs per actor (default: 0)")
    score.add_argument("--address", help="of a running cluster; without it Ray starts on this machine")
    add_max_failed(score)
    add_loading(score.add_argument_group("running"))
    add_media(score.add_argument_group("images and videos"))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.cluster.ray_job import ClusterJob, run_job
    from q_align.cluster.stages import spec_of
    from q_align.log import log
    from q_align.score.run_settings import sampled_as

    names = ("manifest", "output", "model", "task", "column", "root", "actors", "max_actors", "gpus", "address")
    job = ClusterJob(
        **{name: getattr(args, name) for name in names},
        loading=loading(args),
        limits=limits(args),
        spec=sampled_as(spec_of(args.model), sampling(args)),
    )
    summary = run_job(job)
    log.info("%s -> %s", summary, args.output)
    if summary.n == 0:
        print(f"q-align: error: no image or video in {', '.join(args.manifest)}", file=sys.stderr)
        return 1
    return exit_code(args, summary)
