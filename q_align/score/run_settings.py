"""What a scoring job settles before its first item: sampling, columns, and the settings noted beside its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.errors import ConfigError
from q_align.media.expand import has_questions
from q_align.score.model_digest import model_folders, sampled_digest
from q_align.score.output_table import COLUMNS
from q_align.score.scale import LEVEL
from q_align.types import MediaSpec

if TYPE_CHECKING:
    from q_align.score.score_files import ScoringJob
    from q_align.score.scorer import Scorer


def sampled_as(spec: MediaSpec, sampling: Mapping[str, Any]) -> MediaSpec:
    """A model's `MediaSpec` with other values of some fields.

    Raises:
        ConfigError: for invalid values.
    """
    from q_align.score.pooling import check_pooling

    try:
        spec = replace(spec, **sampling)
    except ValueError as error:
        raise ConfigError(f"{error} (--fps, --max-frames, --clip)") from error
    check_pooling(spec.pool)
    return spec


def all_columns(job: ScoringJob) -> tuple[str, ...]:
    """The columns of a job's table."""
    optional = {
        "frames": job.per_frame,
        "question": has_questions(job.media),
        "scale": job.scale != LEVEL,
    }
    return (*COLUMNS, *(name for name, wanted in optional.items() if wanted))


def run_settings(job: ScoringJob, scorer: Scorer) -> dict[str, Any]:
    """The settings of a job that change a score or a row, with the dtype that was chosen."""
    return {
        "model": job.model,
        "weights": sampled_digest(model_folders(job.model, scorer.card)),
        "task": ",".join(job.tasks),
        "scale": job.scale,
        "dtype": str(scorer.dtype).removeprefix("torch."),
        "quantize": job.loading.get("quantize"),
        "media": asdict(scorer.spec),
        **row_settings(job.columns or all_columns(job), job.root, per_frame=job.per_frame),
    }


def row_settings(columns: Sequence[str], root: str | None, *, per_frame: bool = False) -> dict[str, Any]:
    """The settings that change what a row says and which file it is about."""
    place = None if root is None else str(Path(root).resolve())
    return {"columns": ",".join(columns), "per_frame": per_frame, "root": place}
