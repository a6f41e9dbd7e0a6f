"""The embedded model: batches change no score, prompts are prefixes, all learns, files give back the same model."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from q_align.errors import CheckpointError, LevelTokenError
from q_align.levels import LevelScheme
from q_align.models import nano as package
from q_align.models.backbone import Backbone
from q_align.models.nano import build
from q_align.models.nano.encoder import NanoEncoder
from q_align.models.nano.tiles import NATIVE, grid_shape, split_into_tiles
from q_align.models.nano.tokenizer import make_tokenizer
from q_align.readout import LevelWords
from q_align.readout.encoder import IGNORE
from q_align.score.scorer import Scorer
from q_align.tasks import TASKS
from q_align.types import Item, Turn


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def turn(*frames, task="iqa", answer=None, question=None):
    about = TASKS[task]
    return Turn(list(frames), question or about.question, about.stem, answer, video=task == "vqa")


def logp(backbone, turns):
    with torch.inference_mode():
        return backbone.readout.read(backbone.model, backbone.encoder(turns))


RAGGED = [
    turn(picture(448, 448)),
    turn(picture(31, 80, 1), task="iaa"),
    turn(picture(7, 5, 2)),
    turn(picture(300, 200, 3), picture(300, 200, 4), task="vqa", question="Could you rate the quality of this clip?"),
    turn(picture(1000, 260, 5)),
]


def test_a_batch_changes_no_score(nano):
    together = logp(nano, RAGGED).level_logp
    for i, single in enumerate(RAGGED):
        torch.testing.assert_close(logp(nano, [single]).level_logp[0], together[i], atol=1e-5, rtol=0)
    shuffled = logp(nano, RAGGED[::-1]).level_logp
    torch.testing.assert_close(shuffled.flip(0), together, atol=1e-5, rtol=0)


def test_more_padding_changes_no_score(nano):
    batch = nano.encoder([RAGGED[0]])
    pad = 11
    wider = dict(batch)
    wider["input_ids"] = torch.cat([torch.zeros(1, pad, dtype=torch.long), batch["input_ids"]], 1)
    wider["attention_mask"] = torch.cat([torch.zeros(1, pad, dtype=torch.long), batch["attention_mask"]], 1)
    with torch.inference_mode():
        a = nano.model(**batch, logits_to_keep=1).logits
        b = nano.model(**wider, logits_to_keep=1).logits
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", TASKS)
def test_scoring_prompt_is_a_prefix_of_the_training_prompt(nano, task):
    frame = picture(50, 40)
    asked = nano.encoder([turn(frame, task=task)])["input_ids"][0].tolist()
    for number, word in enumerate(nano.card.levels.words):
        taught = nano.encoder([turn(frame, task=task, answer=word)])
        ids = taught["input_ids"][0].tolist()
        assert ids[: len(asked)] == asked
        assert ids[len(asked)] == nano.readout.level_ids[number]
        assert len(ids) == len(asked) + 1 + nano.readout.tail
        answer = taught["answer"][0].tolist()
        assert answer == ids[-len(answer) :]


def test_level_position_is_the_same_when_training_and_scoring(nano):
    words = [*nano.card.levels.words]
    taught = [Turn(t.frames, t.question, t.stem, word) for t, word in zip(RAGGED, words)]
    out = logp(nano, taught)
    torch.testing.assert_close(out.level_logp, logp(nano, RAGGED).level_logp, atol=1e-5, rtol=0)
    batch = nano.encoder(taught)
    assert out.tokens.tolist() == (batch["answer"] != IGNORE).sum(1).tolist()


def test_logits_to_keep_gives_the_last_rows_of_all_logits(nano):
    batch = nano.encoder(RAGGED[:2])
    with torch.inference_mode():
        full = nano.model(**batch).logits
        last = nano.model(**batch, logits_to_keep=3).logits
    assert full.shape[1] == batch["input_ids"].shape[1]
    torch.testing.assert_close(full[:, -3:], last, atol=1e-6, rtol=0)


def test_every_parameter_gets_a_gradient():
    backbone = build(seed=1)
    backbone.model.train()
    taught = [Turn(t.frames, t.question, t.stem, "good") for t in RAGGED]
    backbone.readout.read(backbone.model, backbone.encoder(taught)).nll.sum().backward()
    still = [n for n, p in backbone.model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_a_network_without_tones_is_one_of_before(nano, tmp_path):
    old = build(seed=1, tones=0)
    old.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["tones"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = Backbone.from_pretrained(str(tmp_path))
    old.model.vision.to(memory_format=torch.channels_last)  # as loaded: the other layout's kernels round differently
    assert again.model.vision.tones is None and nano.model.vision.tones is not None
    assert torch.equal(logp(again, RAGGED).level_logp, logp(old, RAGGED).level_logp)


def test_pixels_get_a_gradient(nano):
    batch = nano.encoder([RAGGED[0]])
    pixels = (batch["pixel_values"].float() / 255).requires_grad_()
    out = nano.readout.read(nano.model, {**batch, "pixel_values": pixels}).level_logp
    torch.testing.assert_close(out, logp(nano, RAGGED[:1]).level_logp, atol=1e-5, rtol=0)
    out.sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_gradient_checkpointing_changes_no_gradient():
    grads = []
    for checkpointing in (False, True):
        backbone = build(seed=1)
        if checkpointing:
            backbone.model.gradient_checkpointing_enable()
        backbone.model.train()
        batch = backbone.encoder([turn(picture(64, 64), answer="bad")])
        backbone.readout.read(backbone.model, batch).nll.sum().backward()
        grads.append(backbone.model.decoder.layers[0].attention.q_proj.weight.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_a_frozen_norm_stands_still():
    backbone = build(seed=1)
    backbone.model.vision.requires_grad_(False)
    before = {n: b.clone() for n, b in backbone.model.vision.named_buffers()}
    backbone.model.train()
    backbone.model(**backbone.encoder(RAGGED[:1]))
    for name, buffer in backbone.model.vision.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_a_question_with_the_token_of_a_frame_is_an_error_of_its_item(nano):
    """As its own tokens they would be counted as frames, and the whole batch would fail."""
    items = [Item(str(i), picture(40, 40), "iqa", question) for i, question in enumerate(["Is it <image>?", "Is it?"])]
    broken, fine = Scorer(nano, device="cpu").stream(items)
    assert broken.error == "the question 'Is it <image>?' holds '<image>', which stands for a frame"
    assert fine.error is None


def test_a_saved_model_is_the_same_model(nano, tmp_path):
    nano.save(tmp_path)
    again = Backbone.from_pretrained(tmp_path)
    bare = Backbone.from_pretrained(tmp_path, bare=True)
    for name, value in nano.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert again.card == nano.card
    expected = logp(nano, RAGGED).level_logp
    for backbone in (again, bare):
        torch.testing.assert_close(logp(backbone, RAGGED).level_logp, expected, atol=1e-5, rtol=0)


def test_broken_folders_say_what_is_wrong(nano, tmp_path):
    nano.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Backbone.from_pretrained(tmp_path, bare=True)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Backbone.from_pretrained(tmp_path)
    nano.encoder.save(tmp_path)
    config = (tmp_path / "config.json").read_text().replace('"mlp": ', '"mlp": 1')
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match="does not fit"):
        Backbone.from_pretrained(tmp_path, bare=True)


def test_same_seed_same_weights():
    a, b, c = (build(seed=s).model.state_dict() for s in (3, 3, 4))
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])


def test_is_small(nano):
    assert sum(p.numel() for p in nano.model.parameters()) < 5_000_000


def test_encoder_travels_to_workers(nano):
    again = pickle.loads(pickle.dumps(nano.encoder))
    for name, value in nano.encoder(RAGGED).items():
        assert torch.equal(value, again(RAGGED)[name]), name


def test_mixed_batches_are_refused(nano):
    with pytest.raises(AssertionError, match="all for training"):
        nano.encoder([turn(picture(9, 9)), turn(picture(9, 9), answer="good")])


@pytest.mark.parametrize("words", [("perfect", "okay", "awful"), ("5", "4", "3", "2", "1"), ("100", "50", "0")])
def test_other_level_words(words):
    scheme = LevelScheme(words, tuple(range(len(words), 0, -1)))
    encoder = NanoEncoder(make_tokenizer(), tile=224, tokens=4)
    readout = LevelWords(scheme, encoder, tuple(task.stem for _, task in TASKS.items()))
    assert len(set(readout.level_ids)) == len(words)


def test_a_level_word_of_several_tokens_is_refused():
    with pytest.raises(LevelTokenError, match="splendiferous"):
        NanoEncoder(make_tokenizer(), tile=224, tokens=4).level_tokens(("splendiferous", "bad"), "It is")


def test_a_new_task_moves_no_token(nano):
    """Ids are rows of every checkpoint's embedding: a task with words of its own must not move one."""
    code = """
from q_align.models.nano.tokenizer import make_tokenizer
from q_align.tasks import TASKS, Task
asked = "How sharp is this portrait, dear?"
TASKS.register("portrait", Task("portrait", "image", (asked,), "The likeness of the portrait is"))
tokenizer = make_tokenizer()
assert tokenizer.decode(tokenizer.encode(asked).ids) == asked
print(tokenizer.to_str(), end="")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packaged = Tokenizer.from_file(str(Path(package.__file__).parent / "weights" / "tokenizer.json"))
    assert done.stdout == packaged.to_str() == make_tokenizer().to_str()
    assert build(seed=0).model.config.vocab_size == nano.model.config.vocab_size == 974


@given(st.text(max_size=60))
@settings(max_examples=50, deadline=None)
def test_any_text_is_encoded_without_loss(text):
    import unicodedata

    tokenizer = make_tokenizer()
    text = " ".join(unicodedata.normalize("NFC", text).replace("▁", "").split(" ")).strip(" ")
    if any(name in text for name in ("<pad>", "<s>", "</s>", "<image>", "<rater>")):
        return
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@given(st.integers(1, 1200), st.integers(1, 1200), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_tiles_lie_inside_and_are_few(width, height, native):
    side = 224
    columns, rows = grid_shape(width / side, height / side, native)
    assert 1 <= columns * rows <= native
    tiles = split_into_tiles(Image.new("RGB", (width, height)), side, native=native)
    assert len(tiles) <= native + 5
    for tile in tiles:
        assert 1 <= tile.pixels.shape[0] <= side and 1 <= tile.pixels.shape[1] <= side
        assert -1 <= tile.place[0] <= 1 and -1 <= tile.place[1] <= 1


def test_small_frames_are_seen_whole_and_large_ones_at_native_scale():
    small = picture(100, 60)
    (tile,) = split_into_tiles(small, 224)
    assert np.array_equal(tile.pixels, np.asarray(small))
    large = picture(448, 448)
    tiles = split_into_tiles(large, 224)
    assert len(tiles) == 4
    assert np.array_equal(tiles[0].pixels, np.asarray(large)[:224, :224])
    assert np.array_equal(tiles[3].pixels, np.asarray(large)[224:, 224:])
    assert len(split_into_tiles(Image.new("RGB", (4000, 3000)), 224)) == NATIVE + 4 + 1


def test_half_precision_weights_load(nano, tmp_path):
    nano.save(tmp_path)
    for bare in (False, True):
        model = Backbone.from_pretrained(tmp_path, dtype="bfloat16", bare=bare).model
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        out = nano.readout.read(model, nano.encoder(RAGGED[:2])).level_logp
        assert out.dtype == torch.float32 and torch.isfinite(out).all()


@pytest.mark.parametrize(("width", "height"), [(448, 448), (480, 320), (320, 320), (225, 100), (890, 670), (333, 517)])
def test_tiles_cover_a_frame_and_hardly_overlap(width: int, height: int) -> None:
    from q_align.models.nano.tiles import GRID, split_into_tiles

    seen = np.zeros((height, width), int)
    marked = np.arange(width * height, dtype=np.uint32).reshape(height, width)
    frame = Image.fromarray(np.stack([marked % 251, marked // 251 % 251, marked // 63001], -1).astype(np.uint8))
    for tile in split_into_tiles(frame, 224):
        first = tile.pixels[0, 0].astype(int)
        top, left = divmod(int(first[0] + 251 * first[1] + 63001 * first[2]), width)
        high, wide = tile.pixels.shape[:2]
        assert top % GRID == 0 and left % GRID == 0 and max(high, wide) <= 224
        seen[top : top + high, left : left + wide] += 1
    # a frame that takes the largest tiles may lose less than one step of the grid at its far edges
    assert seen[: height - GRID + 1, : width - GRID + 1].min() == 1
    assert seen.mean() < 1.15
