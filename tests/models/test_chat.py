"""Every family of chat models: one seam, the same numbers as the plain library, whatever the batch."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TINY, make
from transformers.utils import logging as transformers_logging

from q_align.errors import CheckpointError, ConfigError, LevelTokenError, MissingExtraError, QAlignError
from q_align.levels import WORDS
from q_align.models.backbone import Backbone, read_card
from q_align.models.chat.processor import load_processor
from q_align.models.families import FAMILIES, family_of
from q_align.models.parts import freeze, part_of
from q_align.models.peft import add_lora
from q_align.readout import ReadoutSpec
from q_align.readout.encoder import IGNORE
from q_align.tasks import TASKS
from q_align.types import MediaSpec, Turn

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

IQA, IAA, VQA = TASKS["iqa"], TASKS["iaa"], TASKS["vqa"]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def turn(*sizes: tuple[int, int], task: str = "iqa", answer: str | None = None) -> Turn:
    frames = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    return Turn(frames, TASKS[task].question, TASKS[task].stem, answer, video=len(sizes) > 1)


def ragged() -> list[Turn]:
    """Small, wide and tall pictures, several frames, all three stems."""
    return [turn((40, 60)), turn((64, 64), (30, 90), (50, 50), task="vqa"), turn((110, 33), task="iaa"), turn((20, 20))]


def logp(backbone: Backbone, turns: list[Turn]) -> torch.Tensor:
    with torch.no_grad():
        return backbone.readout.read(backbone.model, backbone.encoder(turns)).level_logp


@pytest.fixture(scope="module", params=sorted(TINY))
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.from_pretrained(make(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("qwen3_5", tmp_path_factory.mktemp("qwen3_5_again"))


@pytest.mark.parametrize(
    ("file", "key", "name"),
    [
        ("tokenizer_config.json", "tokenizer_class", "AutoTokenizer"),
        ("preprocessor_config.json", "image_processor_type", "AutoImageProcessor"),
        ("config.json", "", "AutoModelForImageTextToText"),
    ],
)
def test_programs_in_a_model_folder_are_never_run(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, key: str, name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(qwen, folder)
    place = folder / (file if (folder / file).is_file() else "processor_config.json")
    record = json.loads(place.read_text())
    inner = record.get("image_processor", record) if key == "image_processor_type" else record
    kind = ["evil.Evil", None] if name == "AutoTokenizer" else "evil.Evil"
    inner |= {"auto_map": {name: kind, "AutoConfig": "evil.Evil"}} | ({key: "Evil"} if key else {})
    place.write_text(json.dumps(record))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with suppress(CheckpointError):
        Backbone.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


def test_scores_do_not_depend_on_the_batch(backbone: Backbone) -> None:
    turns = ragged()
    together = logp(backbone, turns)
    alone = torch.cat([logp(backbone, [one]) for one in turns])
    assert (together - alone).abs().max() < 1e-5
    assert (logp(backbone, turns[::-1]).flip(0) - alone).abs().max() < 1e-5
    # the pictures matter, or equality would show nothing
    assert (together.softmax(-1)[0] - together.softmax(-1)[3]).abs().max() > 1e-4


def test_equals_the_plain_library(backbone: Backbone, tmp_path: Path) -> None:
    """Processor on one prompt, full logits, softmax: what its documentation shows."""
    backbone.save(tmp_path)
    family = backbone.card.family
    processor = load_processor(tmp_path, family_of(family), family)
    tokenizer = processor.tokenizer
    ids = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][-1] for word in WORDS]
    for one in ragged():
        content = [*({"type": "image"} for _ in one.frames), {"type": "text", "text": one.question}]
        if processor.chat_template is None:  # PaliGemma: the answer is a suffix, and an end token follows it
            text = "<image>" * len(one.frames) + one.question
            inputs = processor(text=text, images=[one.frames], suffix=one.stem, return_tensors="pt")
            inputs.pop("labels")
            place = -2
        else:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=processor.chat_template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
            text += (" " if text.endswith(":") else "") + one.stem
            inputs = processor(
                text=[text],
                images=[one.frames],
                return_tensors="pt",
                add_special_tokens=tokenizer.bos_token is None or not text.startswith(tokenizer.bos_token),
                **family_of(family).chat.images,
            )
            place = -1
        with torch.no_grad():
            logits = backbone.model(**inputs).logits[0, place]
        expected = logits[ids].softmax(-1)
        assert (logp(backbone, [one])[0].softmax(-1) - expected).abs().max() < 1e-5
        assert torch.allclose(logp(backbone, [one])[0], logits.log_softmax(-1)[ids], atol=1e-5)


def test_training_batch_is_scoring_batch_plus_answer(backbone: Backbone) -> None:
    encoder = backbone.encoder
    tokenizer = encoder.processor.tokenizer
    taught = [dataclasses.replace(one, answer=word) for one, word in zip(ragged(), WORDS)]
    scoring, training = encoder(ragged()), encoder(taught)
    added = 1 + backbone.readout.tail
    assert torch.equal(training["input_ids"][:, :-added], scoring["input_ids"])
    assert training["input_ids"][:, -added].tolist() == list(backbone.readout.level_ids[:4])
    for row, one in zip(training["answer"], taught):
        said = tokenizer.decode(row[row != IGNORE])
        assert said.strip() == f"{one.stem} {one.answer}.{encoder.end}"
        assert torch.equal(row[row != IGNORE], training["input_ids"][taught.index(one)][-(row != IGNORE).sum() :])
    # padding in front only
    for batch in (scoring, training):
        assert (batch["attention_mask"].diff(dim=1) >= 0).all()
        assert (batch["attention_mask"][:, -1] == 1).all()
    # the level distribution that training sees is the one that scoring uses
    with torch.no_grad():
        seen = backbone.readout.read(backbone.model, training)
    assert (seen.level_logp - logp(backbone, ragged())).abs().max() < 1e-5
    assert (seen.tokens == (training["answer"] != IGNORE).sum(-1)).all()


def test_thinking_is_off_and_the_prompt_travels(backbone: Backbone, tmp_path: Path) -> None:
    assert backbone.card.prompt.endswith("{stem}")
    assert ("</think>" in backbone.card.prompt) == (backbone.card.family == "qwen3_5")
    backbone.save(tmp_path)
    template = tmp_path / "chat_template.jinja"
    if template.is_file():  # a template that changes its mind later changes no score
        changed = template.read_text(encoding="utf-8").replace("assistant", "judge").replace("<think>\n\n", "<think>")
        template.write_text(changed, encoding="utf-8")
    again = Backbone.from_pretrained(tmp_path)
    assert again.card == backbone.card
    assert torch.equal(logp(again, ragged()), logp(backbone, ragged()))


def test_one_step_moves_every_trainable_parameter(backbone: Backbone) -> None:
    # everything that training is offered depends on picture and answer
    model, encoder = backbone.model, backbone.encoder
    taught = [dataclasses.replace(one, answer=word) for one, word in zip(ragged(), WORDS)]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    prediction = backbone.readout.read(model, encoder(taught))
    assert prediction.nll is not None
    (prediction.nll.mean() + (prediction.level_logp * torch.arange(5.0)).mean()).backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3).step()
    still = [n for n, p in model.named_parameters() if p.requires_grad and torch.equal(p, before[n])]
    parts = {part_of(family_of(backbone.card.family), name) for name in before}
    model.load_state_dict(before, strict=False)
    model.zero_grad()
    assert not still
    assert parts == {"vision", "connector", "language"}
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert all("vision_tower" in name for name in frozen)


def test_no_score_depends_on_what_is_frozen_at_loading(backbone: Backbone) -> None:
    """Layers of the vision tower that nothing reads are frozen, and no others."""
    weights = dict(backbone.model.named_parameters())
    frozen = {name: p.detach().clone() for name, p in weights.items() if not p.requires_grad}
    before = logp(backbone, ragged())
    with torch.no_grad():
        for name in frozen:
            weights[name].add_(1.0)
        after = logp(backbone, ragged())
        for name, value in frozen.items():
            weights[name].copy_(value)
    assert torch.equal(after, before), sorted(frozen)


def test_freezing_a_part(backbone: Backbone) -> None:
    model, family = backbone.model, family_of(backbone.card.family)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    freeze(model, family, ["vision", "connector"])
    left = {part_of(family, name) for name, p in model.named_parameters() if p.requires_grad}
    for name, p in model.named_parameters():
        p.requires_grad_(name in trainable)
    assert left == {"language"}


def test_lora_trains_adapters_and_comes_back(backbone: Backbone, tmp_path: Path) -> None:
    base = tmp_path / "base"
    backbone.save(base)
    tuned = Backbone.from_pretrained(base)
    family = family_of(tuned.card.family)
    tuned.model = add_lora(tuned.model, family, r=2, alpha=8)
    tuned.card = dataclasses.replace(tuned.card, base=str(base))
    adapted = [name for name, p in tuned.model.named_parameters() if p.requires_grad]
    assert adapted
    assert all("lora_" in name and part_of(family, name) == "language" for name in adapted)
    taught = [dataclasses.replace(one, answer="bad") for one in ragged()]
    optimizer = torch.optim.AdamW([p for p in tuned.model.parameters() if p.requires_grad], lr=1e-2)
    before = logp(tuned, ragged())
    for _ in range(2):  # B is zero at first: A moves with the second step
        prediction = tuned.readout.read(tuned.model, tuned.encoder(taught))
        assert prediction.nll is not None
        prediction.nll.mean().backward()
        assert all(p.grad is not None for p in tuned.model.parameters() if p.requires_grad)
        optimizer.step()
        optimizer.zero_grad()
    after = logp(tuned, ragged())
    assert (after - before).abs().max() > 1e-4
    tuned.save(tmp_path / "adapter")
    again = Backbone.from_pretrained(tmp_path / "adapter")
    assert (logp(again, ragged()) - after).abs().max() < 1e-5


def test_two_tasks_share_the_frames(backbone: Backbone) -> None:
    turns = [turn((40, 60)), turn((64, 64), (30, 90)), turn((110, 33))]
    asks = [(task.question, task.stem) for task in (IQA, IAA, VQA)]
    encoder = backbone.encoder
    assert encoder.shares == (backbone.card.family not in ("paligemma", "aya_vision"))
    if not encoder.shares:
        return
    assert backbone.readout.shares
    together = backbone.readout.read(backbone.model, backbone.readout.share(turns, asks)).level_logp  # (B, n, K)
    for number, (question, stem) in enumerate(asks):
        alone = logp(backbone, [dataclasses.replace(one, question=question, stem=stem) for one in turns])
        assert (together[:, number] - alone).abs().max() < 1e-5


@pytest.mark.parametrize("max_pixels", [None, 40 * 40, 120 * 120])
def test_length_is_close(backbone: Backbone, max_pixels: int | None) -> None:
    encoder = dataclasses.replace(backbone.encoder, media=MediaSpec(max_pixels=max_pixels))
    for one in [turn((40, 60)), turn((110, 33)), turn((640, 400))]:
        real = int(encoder([one])["attention_mask"].sum())
        assert abs(encoder.length(one) - real) < 60, "text is estimated, visual tokens are counted"


@pytest.mark.parametrize("max_pixels", [32 * 32, 64 * 64, 96 * 96])
def test_budget_holds_in_training_and_scoring(backbone: Backbone, max_pixels: int, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    card = dataclasses.replace(backbone.card, media=MediaSpec(max_pixels=max_pixels))
    small = Backbone.from_pretrained(tmp_path, card=card)
    scoring, training = small.encoder([turn((300, 200))]), small.encoder([turn((300, 200), answer="good")])
    assert torch.equal(scoring["pixel_values"], training["pixel_values"])
    pixels = scoring["pixel_values"]
    if card.family.startswith("qwen"):
        seen = len(pixels) * 8 * 8  # patches of 8 x 8
    else:
        seen = pixels[..., 0, :, :].numel()  # tiles of 32 x 32
        seen -= 32 * 32 if seen > 32 * 32 else 0  # the global view beside them
    # a family with a grid of fixed shapes takes the smallest one that covers the picture
    assert seen <= max(max_pixels, 32 * 32) * (2 if card.family in ("llava_next", "llava_onevision") else 1)
    small.save(tmp_path / "small")
    again = Backbone.from_pretrained(tmp_path / "small")
    assert again.card.media.max_pixels == max_pixels
    assert torch.equal(again.encoder([turn((300, 200))])["pixel_values"], pixels)


def test_native_tiles_of_a_large_photograph(backbone: Backbone) -> None:
    card = dataclasses.replace(backbone.card, media=MediaSpec(max_pixels=48 * 48, tiles=4))
    encoder = dataclasses.replace(backbone.encoder, media=card.media)
    assert len(encoder._views(turn((300, 200)))) == 5
    assert len(encoder._views(turn((60, 60)))) == 1, "too small to lose much"
    assert len(encoder._views(turn((300, 200), (300, 200)))) == 2, "frames of a video are not cut"
    tiled = Backbone.join(backbone.model, encoder, card)
    turns = [turn((300, 200)), turn((60, 60)), turn((200, 100), task="iaa")]
    alone = torch.cat([logp(tiled, [one]) for one in turns])
    assert (logp(tiled, turns) - alone).abs().max() < 1e-5


def test_encoder_is_picklable_and_safe_in_threads(backbone: Backbone) -> None:
    copy = pickle.loads(pickle.dumps(backbone.encoder))
    turns = [turn((30 + i, 60 - i), task=("iqa", "iaa", "vqa")[i % 3]) for i in range(12)]
    expected = [copy([one]) for one in turns]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: (backbone.encoder.length(one), backbone.encoder([one]))[1], turns))
    for a, b in zip(expected, found):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_question_with_a_placeholder_is_refused(backbone: Backbone) -> None:
    one = dataclasses.replace(turn((40, 40)), question=f"What is {backbone.encoder.layout.frame}?")
    with pytest.raises(QAlignError, match="marks a frame"):
        backbone.encoder([one])


def test_unknown_family_says_what_is_assumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "aya_vision" not in FAMILIES
    logger = logging.getLogger("q_align")
    logger.addHandler(caplog.handler)
    try:
        Backbone.from_pretrained(make("aya_vision", tmp_path))
    finally:
        logger.removeHandler(caplog.handler)
    assert "unknown family aya_vision: assuming image placeholder '<image>', end-of-turn token" in caplog.text


def test_words_that_are_several_tokens_are_refused_with_better_ones(qwen: Path) -> None:
    card = read_card(qwen)
    words = ("excellent", "good", "mediocre", "poor", "bad")
    card = dataclasses.replace(card, readout=ReadoutSpec("levels", dataclasses.replace(card.levels, words=words)))
    with pytest.raises(LevelTokenError, match=r"'mediocre' is not a single token after .*excellent, good, fair, poor"):
        Backbone.from_pretrained(qwen, card=card)


def test_untuned_model_is_a_start(qwen: Path) -> None:
    card = read_card(qwen)
    assert card.family == "qwen3_5"
    assert card.tasks == ()


def test_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError):
        Backbone.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"unknown family 'qwen3_6'.*did you mean 'qwen3_5'"):
        Backbone.from_pretrained(tmp_path, card=dataclasses.replace(read_card("nano"), family="qwen3_6"))


def test_published_layout_with_preprocessor_file_only(qwen: Path, tmp_path: Path) -> None:
    """Older checkpoints have no processor_config.json; the model's own type names the processor."""
    for file in qwen.iterdir():
        if file.name != "processor_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert torch.equal(
        logp(Backbone.from_pretrained(tmp_path), ragged()), logp(Backbone.from_pretrained(qwen), ragged())
    )


def test_loading_options(qwen: Path) -> None:
    plain = logp(Backbone.from_pretrained(qwen), ragged())
    eager = Backbone.from_pretrained(qwen, attn="eager", device_map="cpu")
    assert (logp(eager, ragged()) - plain).abs().max() < 1e-5
    half = Backbone.from_pretrained(qwen, dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    inputs = half.encoder(ragged())
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    with torch.no_grad():
        found = half.readout.read(half.model, inputs).level_logp
    assert found.dtype == torch.float32, "the softmax is not done in half precision"
    assert (found.softmax(-1) - plain.softmax(-1)).abs().max() < 0.05
    with pytest.raises(ConfigError, match=r"unknown quantization '8bits'.*did you mean '8bit'"):
        Backbone.from_pretrained(qwen, quantize="8bits")


@pytest.mark.parametrize(("name", "module"), [("8bit", "bitsandbytes"), ("4bit", "bitsandbytes"), ("int8", "torchao")])
def test_quantised_loading(qwen: Path, name: str, module: str) -> None:
    """Close to the plain model where the optional package is there, else an error that says how to get it."""
    if importlib.util.find_spec(module) is None:
        with pytest.raises(MissingExtraError, match=rf"{module} is not installed.*q_align\[quant\]"):
            Backbone.from_pretrained(qwen, quantize=name)
        return
    quantised, plain = Backbone.from_pretrained(qwen, quantize=name), Backbone.from_pretrained(qwen)
    found, before = logp(quantised, ragged()).softmax(-1), logp(plain, ragged()).softmax(-1)
    assert (found - before).abs().max() > 0
    if name == "4bit":  # random weights of a tiny model suffer from rounding: compare with the rounded weights
        from bitsandbytes.functional import dequantize_4bit

        for path, layer in quantised.model.named_modules():
            if type(layer).__name__ == "Linear4bit":
                rounded = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
                plain.model.get_submodule(path).weight.data.copy_(rounded)
    assert (found - logp(plain, ragged()).softmax(-1)).abs().max() < (0.02 if name == "4bit" else 0.3)
