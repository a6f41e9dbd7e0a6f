"""A cluster run on Ray Data: units -> decode (processors) -> score (one actor per device) -> shards.

Ray restarts lost tasks and actors, on other machines where there are any; a shard's name depends on the task that
writes it, so a repeated attempt replaces it and adds nothing. A killed run is resumed by the ids that have rows.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from q_align.cluster.manifest import ManifestTable, WorkUnit, open_tables, work_units
from q_align.cluster.stages import ScoreStage, decode_unit, spec_of, write_shard
from q_align.errors import ConfigError, require
from q_align.log import log
from q_align.media import LIMITS, Limits
from q_align.models.backbone import read_card
from q_align.score.model_digest import model_folders, sampled_digest
from q_align.score.output_table import COLUMNS, check_free, read_rows
from q_align.score.resume import ResumeState, ScoringSummary, count_rows
from q_align.score.run_note import check_run_note, lock_table
from q_align.score.run_settings import row_settings
from q_align.tasks import get_task
from q_align.types import MediaSpec


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """What to score, with what, and on how much of a cluster (see `q-align cluster score --help`).

    Attributes:
        spec: how images and videos are opened; None: as in the model's training.
        loading: options of `Scorer.from_pretrained` beside the device.
    """

    manifest: tuple[str, ...]
    output: str
    model: str = "nano"
    task: str = "auto"
    column: str | None = None
    root: str | None = None
    actors: int = 1
    max_actors: int | None = None
    gpus: float = 0.0
    address: str | None = None
    limits: Limits = LIMITS
    spec: MediaSpec | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)


def run_job(job: ClusterJob) -> ScoringSummary:
    """Scores what has no row in the output yet; returns the count of all rows there.

    Raises:
        ConfigError: for a wrong task or table, or an output with other settings.
        MissingExtraError: without Ray.
    """
    if job.task != "auto":
        get_task(job.task)
    tables = open_tables(job.manifest, job.column)
    folder = Path(job.output).resolve()
    spec = job.spec or spec_of(job.model)
    check_free(folder, resume=True)
    for word in job.manifest:
        if Path(word).is_dir() and folder.is_relative_to(Path(word).resolve()):
            raise ConfigError(f"--output {job.output} is in the manifest's folder {word}; name another --output")
    # what `q-align score` notes too, so that either can resume what the other began
    job = replace(job, loading={**job.loading, "dtype": _dtype(job)})
    precision = {"dtype": job.loading["dtype"], "quantize": job.loading.get("quantize")}
    weights = sampled_digest(model_folders(job.model, read_card(job.model)))
    settings = {"model": job.model, "weights": weights, "task": job.task, "scale": "level", **precision}
    settings |= {"media": asdict(spec), **row_settings(_columns(tables), job.root)}
    lock = lock_table(f"{folder}/")
    try:
        check_run_note(f"{folder}/", settings)
        state, summary = ResumeState(), ScoringSummary()
        before = count_rows(read_rows(folder), state)
        work = list(work_units(tables, state, job.root, summary, task=job.task))
        log.info("%d units of work left; %d rows by earlier runs", len(work), before.n)
        if work:
            _run(job, work, spec, str(folder))
        total = count_rows(read_rows(folder))
    finally:
        lock.release()
    summary.n, summary.failed, summary.before = total.n, total.failed, before.n
    return summary


def _dtype(job: ClusterJob) -> str:
    """The precision of all actors alike, chosen here: this machine need not have a GPU."""
    import torch

    from q_align.models.device import resolve_dtype

    dtype = job.loading.get("dtype", "auto")
    preferred = read_card(job.model).dtype
    if dtype != "auto" or not job.gpus:
        return resolve_dtype(dtype, "cpu", preferred)
    return resolve_dtype(dtype, "cuda", preferred) if torch.cuda.is_available() else preferred or "bfloat16"


def _columns(tables: Iterable[ManifestTable]) -> tuple[str, ...]:
    return (*COLUMNS, "question") if any("question" in table.others for table in tables) else COLUMNS


def _run(job: ClusterJob, work: list[WorkUnit], spec: MediaSpec, folder: str) -> None:
    # no telemetry, and no tokens for a cluster that lives inside this process
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if job.address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray = require("ray", extra="cluster")
    data = require("ray.data", extra="cluster")
    started = not ray.is_initialized()
    if started:
        options: dict[str, Any] = {"include_dashboard": False} if job.address is None else {}
        if job.address and "HF_HUB_OFFLINE" in os.environ:  # processes on this machine inherit it
            options["runtime_env"] = {"env_vars": {"HF_HUB_OFFLINE": os.environ["HF_HUB_OFFLINE"]}}
        ray.init(address=job.address or "local", log_to_driver=False, **options)
    try:
        data.DataContext.get_current().enable_progress_bars = False
        decoded = data.from_items([{"unit": number} for number in range(len(work))], override_num_blocks=len(work))
        decoded = decoded.map_batches(
            partial(_decode, work=ray.put(work), root=job.root, spec=spec, limits=job.limits),
            batch_size=1,
            batch_format="pyarrow",
        )
        columns = _columns(unit.table for unit in work)
        loading = {**job.loading, "spec": spec, "device": "cuda" if job.gpus else "cpu"}
        if not job.gpus:
            loading["workers"] = 0  # an actor without a device has one processor
        scored = decoded.map_batches(
            ScoreStage,
            fn_constructor_args=(job.model, job.task, loading, columns),
            compute=data.ActorPoolStrategy(min_size=job.actors, max_size=job.max_actors or job.actors),
            num_gpus=job.gpus,
            num_cpus=1,
            # blocks as they were decoded, which bounds their bytes; for many actors without a GPU in smaller shares
            batch_size=None if job.gpus else 16,
            batch_format="pyarrow",
        )
        scored.write_datasink(_sink(data, folder))
    finally:
        if started:
            ray.shutdown()


def _decode(batch: Any, *, work: Any, root: str | None, spec: Any, limits: Limits) -> Iterator[Any]:
    import ray
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = limits.max_pixels  # this process is ours alone
    todo: list[WorkUnit] = ray.get(work)
    for number in batch["unit"].to_pylist():
        yield from decode_unit(todo[number], root=root, spec=spec, limits=limits)


def _sink(data: Any, folder: str) -> Any:
    """A data sink that writes whole shards; a class made here, since its base comes with Ray."""
    run = uuid.uuid4().hex[:8]

    class Sink(data.Datasink):
        def write(self, blocks: Iterable[Any], ctx: Any) -> dict[str, int]:
            import pyarrow as pa

            tables = [block for block in blocks if len(block)]
            if not tables:
                return {"n": 0, "failed": 0}
            return write_shard(pa.concat_tables(tables), folder, f"ray-{run}-{ctx.task_idx:06d}")

        @property
        def min_rows_per_write(self) -> int:
            return 10_000

    return Sink()
