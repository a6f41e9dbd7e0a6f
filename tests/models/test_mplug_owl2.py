"""The native mPLUG-Owl2 as a model of transformers: batching, cache, attention, saving, strict loading, encoding."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from owl2_tiny import CARD, config, logits, picture, tiny, tokenizer, turn
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from q_align.errors import CheckpointError, ConfigError, LevelTokenError
from q_align.models.backbone import Backbone
from q_align.models.mplug_owl2.configuration import IMAGE_TOKEN
from q_align.models.mplug_owl2.encoder import OwlEncoder
from q_align.models.mplug_owl2.modeling import MPLUGOwl2LlamaForCausalLM
from q_align.models.mplug_owl2.route import find_route
from q_align.readout.encoder import IGNORE
from q_align.score.scorer import Scorer
from q_align.types import Turn


@pytest.fixture(scope="module")
def owl() -> Backbone:
    return tiny()


@pytest.fixture(scope="module")
def folder(owl, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("owl")
    owl.save(path)
    return path


MIXED = [turn(1), turn(2, 3, 4, task="vqa"), turn(5, task="iaa"), turn(6, 7, task="vqa")]


def test_a_batch_of_any_mix_equals_one_by_one(owl):
    alone = torch.cat([logits(owl, [one]) for one in MIXED])
    assert alone.std(0).min() > 1e-3  # they do differ
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 0]):
        assert torch.allclose(logits(owl, [MIXED[i] for i in order]), alone[order], atol=1e-5)


def test_frames_keep_their_order(owl):
    forward, backward = turn(2, 3, 4, task="vqa"), turn(4, 3, 2, task="vqa")
    assert (logits(owl, [forward]) - logits(owl, [backward])).abs().max() > 1e-4


def test_padding_on_either_side_gives_the_same(owl):
    batch = owl.encoder(MIXED)
    left = owl.model(**batch).logits
    right = copy.deepcopy(batch)
    lengths = batch["attention_mask"].sum(-1)
    for row, length in enumerate(lengths.tolist()):
        for name in ("input_ids", "attention_mask"):
            right[name][row] = batch[name][row].roll(length - batch[name].shape[1])
    moved = owl.model(**right).logits
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(left[row, -length:], moved[row, :length], atol=1e-5)


def test_attention_implementations_agree(owl, folder):
    for attn in ("eager", "sdpa"):
        other = Backbone.from_pretrained(folder, attn=attn)
        assert other.model.config._attn_implementation == attn
        assert torch.allclose(logits(other, MIXED), logits(owl, MIXED), atol=1e-5)


def test_bfloat16_stays_close_to_float32(owl, folder):
    """Also where bfloat16 attention on a CPU takes its own way."""
    probs = logits(owl, MIXED).softmax(-1)
    for attn in ("eager", "sdpa"):
        half = Backbone.from_pretrained(folder, dtype="bfloat16", attn=attn)
        assert half.model.dtype == torch.bfloat16
        assert (logits(half, MIXED).float().softmax(-1) - probs).abs().max() < 0.05


def test_logits_to_keep_is_a_slice(owl):
    batch = owl.encoder(MIXED)
    with torch.no_grad():
        whole = owl.model(**batch).logits
        assert torch.allclose(owl.model(**batch, logits_to_keep=3).logits, whole[:, -3:], atol=1e-6)
        assert torch.allclose(
            owl.model(**batch, logits_to_keep=torch.tensor([0, 5])).logits, whole[:, [0, 5]], atol=1e-6
        )


def test_generation_with_a_cache_equals_generation_without(owl):
    batch = owl.encoder(MIXED)
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
    cached, plain = (owl.model.generate(**batch, use_cache=flag, **options) for flag in (True, False))
    assert torch.equal(cached, plain)
    assert cached.shape[1] > batch["input_ids"].shape[1]


def test_gradient_checkpointing_changes_no_gradient():
    plain, saved = tiny(), tiny()
    saved.model.gradient_checkpointing_enable({"use_reentrant": False})
    losses = []
    for owl in (plain, saved):
        owl.model.train()
        batch = owl.encoder([turn(1, answer="good"), turn(2, 3, task="vqa", answer="bad")])
        loss = owl.readout.read(owl.model, batch).nll.mean()
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for (name, a), b in zip(plain.model.named_parameters(), saved.model.parameters()):
        assert a.grad is not None, name
        assert torch.allclose(a.grad, b.grad, atol=1e-6), name


def test_one_step_moves_every_parameter():
    owl = tiny()
    before = {name: value.detach().clone() for name, value in owl.model.named_parameters()}
    optimizer = torch.optim.SGD(owl.model.parameters(), lr=1.0)
    batch = owl.encoder([turn(1, answer="good"), turn(2, answer="bad")])
    owl.readout.read(owl.model, batch).nll.sum().backward()
    optimizer.step()
    still = [name for name, value in owl.model.named_parameters() if torch.equal(value, before[name])]
    # a constant added to all keys of a softmax changes nothing, and nothing reads visual tokens after the last layer
    last = f"model.layers.{owl.model.config.num_hidden_layers - 1}.post_attention_layernorm.multiway.1.weight"
    assert all(name.endswith("attention.key.bias") or name == last for name in still), still


def test_saved_and_loaded_again_is_the_same(owl, folder):
    other = Backbone.from_pretrained(folder)
    assert torch.equal(logits(other, MIXED), logits(owl, MIXED))
    assert other.card == owl.card
    assert other.readout.level_ids == owl.readout.level_ids


def test_auto_classes_know_it(folder):
    for auto in (AutoModelForCausalLM, AutoModelForImageTextToText):
        assert type(auto.from_pretrained(folder)) is MPLUGOwl2LlamaForCausalLM
    assert AutoConfig.from_pretrained(folder).vision.patch_size == 7


def altered(folder: Path, target: Path, *, drop: str = "", add: str = "", **settings: object) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    state = load_file(target / "model.safetensors")
    state.pop(drop, None)
    if add:
        state[add] = torch.zeros(3)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    given = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**given, **settings}))
    return target


def test_loading_is_strict(folder, tmp_path):
    gone = "model.layers.1.self_attn.v_proj.multiway.1.weight"
    with pytest.raises(CheckpointError, match=f"1 missing: {gone}"):
        Backbone.from_pretrained(altered(folder, tmp_path / "a", drop=gone))
    with pytest.raises(CheckpointError, match=r"1 left over: model\.vision_model\.extra"):
        Backbone.from_pretrained(altered(folder, tmp_path / "b", add="model.vision_model.extra"))
    with pytest.raises(CheckpointError, match="of another shape"):
        Backbone.from_pretrained(altered(folder, tmp_path / "c", vocab_size=601))
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot load the weights"):
        Backbone.from_pretrained(tmp_path / "c")


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantised_language_layers(tmp_path, kind):
    bnb = pytest.importorskip("bitsandbytes")
    owl = tiny(hidden=64, intermediate=128)
    owl.save(tmp_path)
    small = Backbone.from_pretrained(tmp_path, quantize=kind)
    kinds = {name: type(module).__name__ for name, module in small.model.named_modules()}
    assert kinds["model.layers.0.self_attn.v_proj.multiway.1"] in ("Linear8bitLt", "Linear4bit")
    assert kinds["model.vision_model.encoder.layers.0.mlp.fc1"] == kinds["lm_head"] == "Linear"
    for name, module in small.model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):  # random weights bear no rounding to 4 bits: compare with the rounded
            rounded = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            owl.model.get_submodule(name).weight.data.copy_(rounded)
    difference = logits(small, MIXED).float().softmax(-1) - logits(owl, MIXED).softmax(-1)
    assert difference.abs().max() < 0.05


def test_options_that_do_not_exist_are_errors(folder):
    with pytest.raises(CheckpointError, match="dtype must be one of"):
        Backbone.from_pretrained(folder, dtype="float8")
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ConfigError, match="unknown quantization '3bit'"):
        Backbone.from_pretrained(folder, quantize="3bit")


def test_old_rotary_tables_are_no_leftovers(folder, tmp_path, owl):
    old = altered(folder, tmp_path / "old", add="model.layers.0.self_attn.rotary_emb.inv_freq")
    assert torch.equal(logits(Backbone.from_pretrained(old), MIXED), logits(owl, MIXED))


def test_remote_code_is_never_followed(folder, tmp_path):
    """A repository's own programs, named by auto_map, are not imported even where they lie in the folder."""
    named = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    target = altered(folder, tmp_path / "remote", auto_map=named)
    (target / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    Backbone.from_pretrained(target).save(tmp_path / "again")
    assert not (tmp_path / "ran").exists()
    assert "auto_map" not in (tmp_path / "again" / "config.json").read_text()


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("pwned"),))


def test_pickled_programs_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = altered(folder, tmp_path / "pickle")
    (target / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Evil()}, target / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot load the weights"):
        Backbone.from_pretrained(target)
    assert not (tmp_path / "pwned").exists()


def test_the_scoring_prompt_is_a_prefix_of_the_training_text(owl):
    for task in ("iqa", "iaa", "vqa"):
        for word in CARD.levels.words:
            scoring, answer = owl.encoder.text_ids(*_texts(task), None, frames=2)
            training, supervised = owl.encoder.text_ids(*_texts(task), word, frames=2)
            assert answer == []
            assert training[: len(scoring)] == scoring
            assert training[-1 - owl.readout.tail] == owl.readout.level_ids[CARD.levels.words.index(word)]
            assert training[-len(supervised) :] == supervised
    batch = owl.encoder([turn(1, answer="good"), turn(2, 3, answer="bad")])
    assert (batch["answer"] != IGNORE).sum(-1).min() > owl.readout.tail + 1  # the stem is supervised too
    assert (batch["input_ids"] == IMAGE_TOKEN).sum(-1).tolist() == [4, 8]
    assert batch["pixel_values"].shape == (3, 3, 28, 28)


def _texts(task: str) -> tuple[str, str]:
    return CARD.question(task), CARD.stem(task)


def test_the_encoder_travels_to_workers(owl):
    again = pickle.loads(pickle.dumps(owl.encoder))
    for name, value in owl.encoder(MIXED).items():
        assert torch.equal(again(MIXED)[name], value)


def test_words_of_several_tokens_are_refused():
    with pytest.raises(LevelTokenError, match=r"'splendid'.*readout.words"):
        OwlEncoder(tokenizer(), 4).level_tokens(("splendid", "bad"), "The quality of the image is")


def test_a_wrong_number_of_visual_tokens_is_an_error(owl):
    batch = owl.encoder([turn(1)])
    with pytest.raises(ValueError, match="hold 4 visual tokens, but 2 frames"):
        owl.model(**{**batch, "pixel_values": batch["pixel_values"].repeat(2, 1, 1, 1)})


def renderings() -> list[Image.Image]:
    """One picture per mode that used to crash or score wrongly; two of them turned by their EXIF tag."""
    base = picture(3, (24, 16))
    palette = base.quantize(16)
    deep = Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257)
    return [base.convert("L"), palette, base.convert("RGBA"), base.convert("CMYK"), deep]


def test_every_image_mode_scores_as_its_rgb_rendering(owl, tmp_path):
    from q_align.media import open_image

    files = []
    for number, image in enumerate(renderings()):
        suffix = "jpg" if image.mode == "CMYK" else "png"
        files.append(tmp_path / f"{number}_{image.mode.replace(';', '')}.{suffix}")
        image.save(files[-1])
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    picture(3, (24, 16)).save(turned, exif=exif, quality=95)
    scorer = Scorer(owl, device="cpu", workers=0)
    for file in [*files, turned]:
        rendered = open_image(file)
        assert rendered.mode == "RGB"
        plain = Turn([rendered], *_texts("iqa"))
        assert scorer.score(file).probs == pytest.approx(logits(owl, [plain]).softmax(-1)[0].tolist(), abs=1e-6)
    assert open_image(turned).size == (16, 24)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=4))
def test_split_and_join_are_inverse(rows):
    width = max(sum(row) for row in rows)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (before, visual, _) in enumerate(rows):
        mask[row, before : before + visual] = True
    route, count = find_route(mask)
    assert count == int(mask.sum())
    if route is None:
        assert count == 0
        return
    x = torch.arange(mask.numel() * 2, dtype=torch.float32).reshape(*mask.shape, 2)
    text, visual = route.split(x)
    assert torch.equal(visual.reshape(-1, 2), x[mask])
    assert torch.equal(text.reshape(-1, 2), x[~mask])
    assert torch.equal(route.join(text, visual, x), x)


def test_published_defaults_fill_what_a_config_leaves_out():
    shape = type(config())(visual_config={"visual_model": {"use_flash_attn": False}, "visual_abstractor": {}})
    assert (shape.vision.hidden_size, shape.vision.tokens, shape.frame_tokens) == (1024, 1025, 65)
    assert "use_flash_attn" not in shape.visual_config["visual_model"]
