"""The gradient of an update is that of one large batch, over processes and over accumulated batches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from q_align.losses import Prediction, Targets
from q_align.train.global_batch import gather_rows, mean_answer_tokens, select_rows

pytest.importorskip("accelerate")

# Eight rows, two of them unreadable, with answers of different length: gradients of one update under each loss.
PROGRAM = """
import os
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.label_files import read_labels
from q_align.data.rated_dataset import RatedDataset
from q_align.losses import get_loss
from q_align.models.backbone import Backbone
from q_align.readout.encoder import IGNORE
from q_align.train.trainer import Options, RatingTrainer

tiny, labels, output, batch_size, accumulate = sys.argv[1:]
UNREADABLE = (1, 2, 6)


class InOrder(EpochSampler):
    def __iter__(self):
        return iter(range(self.n))


class Gradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **_):
        model = getattr(model, "module", model)
        found[name] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def uneven(collate):
    def collated(rows):
        for row in rows:
            row.error = f"row {row.index}" if row.index in UNREADABLE else None
        batch = collate(rows)
        for i, row in enumerate(rows):
            batch["answer"][i, batch["answer"].shape[1] - row.index % 3 :] = IGNORE
        return batch
    return collated


found = {}
for name in ("hard", "fidelity", "plcc", "all"):
    backbone = Backbone.from_pretrained(tiny)
    for module in backbone.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # its statistics are those of one process
            module.eval().train = lambda mode=True, module=module: module
    rows = read_labels(labels, mos_range=(1, 5))
    data = RatedDataset([rows.select(list(range(8)))], backbone.card, backbone.encoder.opens)
    args = TrainingArguments(
        output_dir=output + ".run",
        max_steps=1,
        per_device_train_batch_size=int(batch_size),
        gradient_accumulation_steps=int(accumulate),
        max_grad_norm=0,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
        ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
        average_tokens_across_devices=False,
    )
    weights = {"hard": 1.0, "soft": 0.5, "mse": 0.5, "fidelity": 2.0, "plcc": 1.0}
    trainer = RatingTrainer(
        backbone,
        args,
        train_set=data,
        eval_set=None,
        loss=get_loss("blend", weights) if name == "all" else get_loss(name),
        sampler=InOrder(8, seed=0),
        options=Options(max_bad_media=9),
        callbacks=[Gradients()],
    )
    trainer.data_collator = uneven(trainer.data_collator)
    trainer.train()
    found[name]["loss"] = torch.tensor(trainer.state.log_history[0]["loss"])
if args.process_index == 0:
    torch.save(found, output)
"""


def gradients(tmp_path: Path, tiny: Path, rated: Path, *, processes: int, batch_size: int, accumulate: int = 1) -> dict:
    program, output = tmp_path / "program.py", tmp_path / f"{processes}_{batch_size}.pt"
    program.write_text(PROGRAM)
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launch, str(program), str(tiny), str(rated), str(output), str(batch_size), str(accumulate)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return torch.load(output)


@pytest.mark.slow
def test_updates_equal_those_of_one_large_batch(tmp_path: Path, tiny: Path, rated: Path) -> None:
    one = gradients(tmp_path, tiny, rated, processes=1, batch_size=8)
    two = gradients(tmp_path, tiny, rated, processes=2, batch_size=4)
    accumulated = gradients(tmp_path, tiny, rated, processes=1, batch_size=4, accumulate=2)
    assert set(one) == {"hard", "fidelity", "plcc", "all"}
    for name in one:
        assert max(gradient.abs().max() for gradient in one[name].values()) > 1e-3
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(accumulated["hard"], one["hard"], rtol=1e-3, atol=1e-5)


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def records(rows: int) -> tuple[Prediction, Targets]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, 5, generator=random, requires_grad=True)
    prediction = Prediction(value=logits.sum(1), level_logp=logits.log_softmax(-1))
    mos = torch.rand(rows, generator=random)
    std = mos.clone().index_fill(0, torch.tensor([0]), torch.nan)
    probs, ids = torch.rand(rows, 5, generator=random), torch.arange(rows)
    return prediction, Targets(
        ids, probs, mos, std, 2**40 + ids, values=torch.arange(5.0), batch_tokens=torch.tensor(3.0)
    )


def test_gathered_rows_are_the_usable_ones(group: None) -> None:
    """Fields keep their type and every digit, NaN included; padding and unreadable rows are left out."""
    prediction, targets = records(4)
    usable = torch.tensor([True, False, True, True])
    found = gather_rows(prediction, targets, usable, most=6)
    for record, whole in zip(found, (prediction, targets)):
        torch.testing.assert_close(
            {name: getattr(record, name) for name in record.__slots__},
            {name: getattr(select_rows(whole, usable), name) for name in whole.__slots__},
            rtol=0,
            atol=0,
            equal_nan=True,
        )
    assert found[1].source.tolist() == [2**40, 2**40 + 2, 2**40 + 3]
    found[0].value.sum().backward()


GATHER = """
import sys

import torch
from torch import distributed as dist

from q_align.losses import Prediction, Targets
from q_align.train.global_batch import gather_rows

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
usable = torch.tensor([[True, False, True], [False, True]][rank])
value = torch.arange(len(usable)) + 10.0 * rank + 1 / 3
value.requires_grad_()
source = 2**40 + torch.arange(len(usable)) + 10 * rank
plain = torch.zeros(len(usable))
targets = Targets(source, plain[:, None].repeat(1, 5), value.detach(), plain, source, torch.arange(5.0))
prediction, found = gather_rows(Prediction(value=value), targets, usable, most=4)
prediction.value.sum().backward()
torch.save((prediction.value.detach(), found.source, found.mos, value.grad), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_rows_of_two_processes(tmp_path: Path) -> None:
    """Batches of different size, unreadable rows, indices beyond float32; the gradient is that of the own rows."""
    (tmp_path / "gather.py").write_text(GATHER)
    started = [subprocess.Popen([sys.executable, tmp_path / "gather.py", str(rank), tmp_path]) for rank in (0, 1)]
    assert [one.wait(300) for one in started] == [0, 0]
    third = torch.tensor(1 / 3)
    for rank, gradient in ((0, [1.0, 0.0, 1.0]), (1, [0.0, 1.0])):
        value, source, mos, grad = torch.load(tmp_path / f"{rank}.pt")
        expected = torch.tensor([0.0, 2.0, 11.0]) + third
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
        torch.testing.assert_close(mos, expected, rtol=0, atol=0)
        assert (source - 2**40).tolist() == [0, 2, 11]
        assert grad.tolist() == gradient


def test_tokens_of_an_average_batch() -> None:
    """Of readable rows only; the average counts batches, not rows."""
    first = {"answer": torch.tensor([[5, 6, 7], [-100, 6, 7]]), "usable": torch.tensor([True, True])}
    second = {"answer": torch.tensor([[-100, -100, 7], [5, 6, 7]]), "usable": torch.tensor([True, False])}
    assert mean_answer_tokens([first, second], torch.device("cpu")) == 3.0
    assert mean_answer_tokens([second], torch.device("cpu")) == 1.0
