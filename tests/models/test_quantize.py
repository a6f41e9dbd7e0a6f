"""Loading options on a CPU: quantized scores are near those of the whole model; what cannot run is a one-line error."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from owl2_tiny import picture
from owl2_tiny import tiny as owl
from tiny_models import make
from transformers.utils import logging as transformers_logging

from q_align import QAlignScorer, Scorer
from q_align.cli.main import main
from q_align.errors import ConfigError, MissingExtraError
from q_align.log import log
from q_align.models.device import check_attention, check_precision, has_instructions, resolve_dtype, warn_of_emulation
from q_align.models.quantize import quantization, warm_up_quantized_layers

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

LIBRARY = {"int8": "torchao", "8bit": "bitsandbytes", "4bit": "bitsandbytes"}
# of a value between 1 and 5, for random models this small; rounding to 16 levels is felt most
TOLERANCE = {"int8": 0.1, "8bit": 0.15, "4bit": 0.8}
PICTURES = [picture(seed, size) for seed, size in enumerate([(40, 60), (64, 64), (110, 33), (20, 20), (90, 90)])]


def needs(quantize: str) -> None:
    pytest.importorskip(LIBRARY[quantize], reason=f"{LIBRARY[quantize]} is not installed (the extra `quant`)")


@pytest.fixture(scope="module", params=["qwen3_vl", "gemma3", "mplug_owl2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Widths of a multiple of 64, as real models have them."""
    place = tmp_path_factory.mktemp(request.param)
    if request.param == "mplug_owl2":
        owl(hidden=64, intermediate=128).save(place)
        return place
    return make(request.param, place, hidden_size=64, intermediate_size=128, head_dim=16, **VISION[request.param])


VISION: dict[str, dict[str, object]] = {
    "qwen3_vl": {
        "vision": {"out_hidden_size": 64},
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
    },
    "gemma3": {},
}


def values(folder: Path, **options: object) -> list[float]:
    scorer = Scorer.from_pretrained(folder, device="cpu", workers=2, **options)  # type: ignore[arg-type]
    found = list(scorer.stream(PICTURES, "iqa"))
    assert all(score.error is None for score in found)
    return [score.value for score in found]  # type: ignore[misc]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", sorted(LIBRARY))
def test_quantised_scores_are_near(folder: Path, quantize: str, dtype: str) -> None:
    needs(quantize)
    expected = values(folder, dtype=dtype)
    found = values(folder, quantize=quantize, dtype=dtype)
    assert found == pytest.approx(expected, abs=TOLERANCE[quantize])
    assert found != expected, "nothing was quantised"
    assert values(folder, quantize=quantize, dtype=dtype) == found, "the same again"


@pytest.mark.parametrize("quantize", sorted(LIBRARY))
def test_language_layers_only(folder: Path, quantize: str) -> None:
    needs(quantize)
    model = Scorer.from_pretrained(folder, device="cpu", workers=0, quantize=quantize).model
    plain = {name for name, module in model.named_modules() if whole(module)}
    lighter = {n for n, m in model.named_modules() if hasattr(m, "in_features")} - plain
    assert lighter and all("layers." in name for name in lighter)
    assert not [name for name in lighter if "vis" in name or "connector" in name or "projector" in name]
    assert "lm_head" in plain


def whole(module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear and type(module.weight) is torch.nn.Parameter


def test_the_command_takes_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs("int8")
    PICTURES[0].save(tmp_path / "a.png")
    words = ["--batch-size", "9"] if "mplug" in str(folder) else ["--batch-tokens", "99"]
    words = ["score", *words, str(tmp_path / "a.png"), "--model", str(folder), "--device", "cpu", "--quantize", "int8"]
    assert (
        main([*words, "--attn", "eager", "--batch-tokens" if "mplug" not in str(folder) else "--batch-size", "99"]) == 0
    )
    assert "a.png" in capsys.readouterr().out


def test_a_shape_that_a_kernel_does_not_take_is_one_line(tmp_path: Path) -> None:
    needs("4bit")
    model = make("gemma3", tmp_path)
    if torch.cpu._is_avx512_bf16_supported():  # only processors with bfloat16 products have the packed kernel
        with pytest.raises(ConfigError, match=r"language_model.*\(32 x .*use quantize: int8"):
            Scorer.from_pretrained(model, device="cpu", quantize="4bit")
    else:
        assert Scorer.from_pretrained(model, device="cpu", quantize="4bit").score(PICTURES[0], "iqa").error is None


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchao", "torchao.quantization", "bitsandbytes"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    for name in LIBRARY:
        with pytest.raises(MissingExtraError, match=r"q_align\[quant\]"):
            quantization(name, "float32", ())


def test_unknown_names_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"unknown quantization '8bits' .did you mean '8bit'"):
        quantization("8bits", "float32", ())
    with pytest.raises(ConfigError, match="did you mean 'flash_attention_2'"):
        check_attention("flash_attention")
    real = importlib.util.find_spec
    monkeypatch.setattr("q_align.models.device.find_spec", lambda name: None if name == "flash_attn" else real(name))
    with pytest.raises(MissingExtraError, match=r"flash_attn is not installed.*sdpa"):
        check_attention("flash_attention_2")
    monkeypatch.setattr("q_align.models.device.find_spec", lambda name: True)
    with pytest.raises(ConfigError, match="bfloat16 or float16, got float32"):
        check_precision("flash_attention_2", "float32", "dtype")
    check_attention("flash_attention_2")
    check_precision("flash_attention_2", "bfloat16", "dtype")
    with pytest.raises(ConfigError, match="needs dtype bfloat16"):
        Scorer.from_pretrained("nano", attn="flash_attention_2")
    with pytest.raises(ConfigError, match="nano has no quantize"):
        Scorer.from_pretrained("nano", quantize="8bit")
    warm_up_quantized_layers(torch.nn.Linear(2, 2))


def test_attention_kernels_agree(folder: Path) -> None:
    assert values(folder, attn="eager") == pytest.approx(values(folder, attn="sdpa"), abs=1e-5)


def test_a_device_map_is_taken(folder: Path) -> None:
    pytest.importorskip("accelerate")
    scorer = Scorer.from_pretrained(folder, workers=0, device_map={"": "cpu"})
    assert [s.value for s in scorer.stream(PICTURES, "iqa")] == pytest.approx(values(folder), abs=1e-5)


def test_a_type_without_instructions_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *words: said.append(text % words))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    here, there = torch.device("cpu"), torch.device("cuda")
    for found, fast in (({"avx2": True, "avx512_bf16": False}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=found: found)
        said.clear()
        for device, dtype in ((here, "bfloat16"), (here, "float32"), (there, "bfloat16")):
            warn_of_emulation(device, dtype, "--dtype")
        assert has_instructions("bfloat16") == fast == (not said)
        assert len(said) <= 1
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    warn_of_emulation(here, "float16", "train.precision")
    assert said == [
        "train.precision: this processor has no instructions for float16 and emulates it, "
        "many times slower than float32"
    ]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")  # not known there: nothing is said
    warn_of_emulation(here, "bfloat16", "--dtype")
    assert len(said) == 1


def test_dtype_auto_is_float32_on_a_cpu_and_a_half_on_an_accelerator(caplog: pytest.LogCaptureFixture) -> None:
    accelerator = torch.device("meta")  # the one that every machine has
    for preferred in (None, "auto", "bfloat16", "float16"):
        assert resolve_dtype("auto", "cpu", preferred) == "float32"
    assert resolve_dtype("auto", accelerator) == resolve_dtype("auto", accelerator, "auto") == "bfloat16"
    assert resolve_dtype("auto", accelerator, "float16") == "float16", "what the checkpoint asks for"
    for dtype in ("float32", "bfloat16", "float16"):
        assert resolve_dtype(dtype, accelerator, "float16") == resolve_dtype(dtype, "cpu") == dtype, (
            "what was asked for"
        )
    with pytest.raises(ConfigError, match=r"unknown dtype 'float23' .did you mean 'float32'"):
        resolve_dtype("float23", "cpu")


def test_the_chosen_dtype_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    from q_align.models import device

    device._logged.clear()
    with caplog.at_level("INFO"):
        for _ in range(2):
            assert Scorer.from_pretrained("nano", device="cpu").dtype == torch.float32
            assert Scorer.from_pretrained("nano", device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    assert [r.message for r in caplog.records if r.message.startswith("dtype auto")] == ["dtype auto: float32 on cpu"]


def test_both_public_scorers_choose_the_same_dtype() -> None:
    assert QAlignScorer("nano", device="cpu").scorer.dtype == Scorer.from_pretrained("nano", device="cpu").dtype
    assert QAlignScorer("nano", device="cpu", dtype="bfloat16").scorer.dtype == torch.bfloat16
