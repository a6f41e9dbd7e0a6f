"""Options that several commands share mean the same in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from q_align import Scorer
from q_align.cli import options
from q_align.cli.main import build_parser
from q_align.cli.options import limits, loading, sampling
from q_align.cluster import ray_job
from q_align.errors import ConfigError
from q_align.models import device, quantize
from q_align.score.run_settings import sampled_as
from q_align.types import MediaSpec

COMMANDS = {
    "score": ["score", "a.jpg"],
    "evaluate": ["evaluate"],
    "calibrate": ["calibrate", "--model", "m", "--data", "d"],
    "cluster": ["cluster", "score", "a.parquet", "--output", "o"],
}


def test_names_are_those_of_the_loaders() -> None:
    """Written again, since help must import nothing heavy."""
    assert (options.DTYPES, options.ATTENTION) == (device.DTYPES, device.ATTENTION)
    assert options.QUANTIZED == quantize.QUANTIZERS


@pytest.mark.parametrize("command", COMMANDS)
def test_how_a_model_is_loaded(command: str) -> None:
    parser = build_parser()
    assert loading(parser.parse_args(COMMANDS[command])) == {"dtype": "auto"}
    words = ["--batch-size", "3", "--batch-tokens", "0", "--dtype", "bfloat16", "--attn", "eager", "--quantize", "4bit"]
    said = loading(parser.parse_args([*COMMANDS[command], *words]))
    wanted = {"batch_size": 3, "batch_tokens": 0, "dtype": "bfloat16", "attn": "eager", "quantize": "4bit"}
    assert said == wanted


def test_what_is_said_reaches_the_scorer() -> None:
    words = ["score", "a.jpg", "--batch-size", "3", "--dtype", "bfloat16", "--workers", "0", "--device", "cpu"]
    args = build_parser().parse_args([*words, "--fps", "2", "--max-frames", "5", "--limit-pixels", "77"])
    scorer = Scorer.from_pretrained("nano", limits=limits(args), **loading(args))
    assert (scorer.bounds.frames, str(scorer.dtype), scorer.workers) == (3, "torch.bfloat16", 0)
    assert (scorer.limits.max_pixels, scorer.limits.allow_urls) == (77, False)
    assert sampled_as(MediaSpec(clip=2), sampling(args)) == MediaSpec(fps=2, max_frames=5, clip=2)
    args = build_parser().parse_args(["score", "a.jpg", "--max-frames", "0"])
    with pytest.raises(ConfigError, match="--max-frames"):
        sampled_as(MediaSpec(), sampling(args))
    args = build_parser().parse_args(["score", "a.jpg", "--pool", "p01"])
    with pytest.raises(ConfigError, match=r"unknown pooling 'p01' \(did you mean 'p10'"):
        sampled_as(MediaSpec(), sampling(args))


def test_a_cluster_looks_at_media_as_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs: list[ray_job.ClusterJob] = []
    monkeypatch.setattr(ray_job, "run_job", lambda made: jobs.append(made) or ray_job.ScoringSummary(n=1))
    words = ["--allow-urls", "--damaged", "error", "--max-frames", "7", "--quantize", "int8"]
    args = build_parser().parse_args([*COMMANDS["cluster"], *words])
    assert args.run(args) == 0
    (made,) = jobs
    assert made.limits.allow_urls and made.limits.damaged == "error"
    assert made.spec is not None and made.spec.max_frames == 7
    assert made.loading == {"dtype": "auto", "quantize": "int8"}
