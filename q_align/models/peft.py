"""LoRA adapters: added to a model, loaded from every layout in use, merged into the weights.

Layouts: folders of the peft library (ours and DeQA-Score's), and the Q-Align authors' adapter with
`non_lora_trainables.bin` beside it.
Source: LoRA (Hu et al., ICLR 2022); targets and ranks of Q-Align's published scripts (r 128, alpha 256).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from q_align.errors import CheckpointError, ConfigError, nearest, require
from q_align.models.families import Family
from q_align.models.parts import PEFT_PREFIX, part_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"
NON_LORA = "non_lora_trainables"


def add_lora(
    model: nn.Module,
    family: Family,
    *,
    r: int,
    alpha: int,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    also_train: Sequence[str] = (),
    dora: bool = False,
    frozen: str = "float32",
) -> Any:
    """Freezes the model and adds trainable adapters to the target modules; what is trained is float32.

    Args:
        model: the backbone's model; a quantised one makes this QLoRA.
        family: names the default targets (within the language part) and the parts.
        r: rank.
        alpha: the adapters' output is scaled by alpha / r.
        dropout: of the adapters' input.
        targets: names of linear modules; None: the family's.
        also_train: parts that are trained in full beside the adapters.
        dora: weight-decomposed adapters.
        frozen: dtype that the frozen matrices are held in, which is what the forward pass computes in (autocast);
            norms and biases stay float32, quantised layers stay as they are.

    Raises:
        ConfigError: when a target or a part matches nothing in this model.
    """
    peft = require("peft", extra="train")
    settings = peft.LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_dora=dora,
        target_modules=_targets(model, family, targets),
        modules_to_save=[name for part in also_train for name in _modules_of(model, family, part)] or None,
    )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    adapted = peft.get_peft_model(model, settings)
    for parameter in adapted.parameters():
        # not those of a quantiser, nor those that DeepSpeed has taken apart
        if parameter.is_floating_point() and type(parameter.data) is Tensor and not hasattr(parameter, "ds_id"):
            half = not parameter.requires_grad and parameter.dim() > 1
            parameter.data = parameter.data.to(getattr(torch, frozen) if half else torch.float32)
    return adapted


def base_dtype(folder: Path, frozen: str, *, quantized: bool) -> str:
    """In what a base is loaded for `add_lora`: half precision where that loses nothing, to save memory.

    Args:
        folder: of the base.
        frozen: as in `add_lora`.
        quantized: quantisers compute in the dtype that the model is loaded in.
    """
    if quantized:
        return frozen
    config = folder / "config.json"
    if is_adapter(folder) or not config.is_file():
        return "float32"
    record = json.loads(config.read_text(encoding="utf-8"))
    return frozen if frozen in (record.get("dtype"), record.get("torch_dtype")) else "float32"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters over a base rather than a whole model."""
    return (folder / CONFIG).is_file()


def load_adapter(model: PreTrainedModel, folder: Path, *, merge: bool = True) -> Any:
    """Adds the adapters of a folder to their base model.

    Args:
        model: the base, already loaded.
        folder: `adapter_config.json`, `adapter_model.safetensors|bin`, and perhaps `non_lora_trainables.bin`.
        merge: add the adapters to the weights (scoring is then as fast as without); a quantised base never merges.

    Raises:
        CheckpointError: when keys are missing, left over, or of another shape than the base's.
    """
    peft = require("peft", extra="train")
    _load_full_parts(model, folder)
    state = _read(folder, "adapter_model")
    if not state:
        raise CheckpointError(f"{folder}: no adapter_model.safetensors or adapter_model.bin beside {CONFIG}")
    settings = peft.PeftConfig.from_pretrained(str(folder))
    # the weights show best which modules have an adapter; published configs name them loosely
    targets = sorted({key.removeprefix(PEFT_PREFIX).split(".lora_")[0] for key in state if ".lora_A" in key})
    unknown = [name for name in targets if name not in dict(model.named_modules())]
    if targets and not unknown:
        settings.target_modules = targets
    _complain(folder, leftover=unknown)
    settings.inference_mode = merge
    wrapped = peft.get_peft_model(model, settings)
    expected = peft.get_peft_model_state_dict(wrapped)
    shapes = [key for key in expected if key in state and expected[key].shape != state[key].shape]
    _complain(folder, missing=set(expected) - set(state), leftover=set(state) - set(expected), shapes=shapes)
    peft.set_peft_model_state_dict(wrapped, state)
    wrapped.eval()
    if merge and not getattr(model, "is_quantized", False):
        return wrapped.merge_and_unload()
    return wrapped


def _targets(model: nn.Module, family: Family, given: Sequence[str] | None) -> list[str]:
    """Full names of the linear modules to adapt: the family's within the language part, or the given ones anywhere."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    wanted = given or list(family.lora)
    here = linear if given else [n for n in linear if part_of(family, f"{n}.weight") in (None, "language")]
    matched = {name for name in here for target in wanted if f".{name}".endswith(f".{target}")}
    lost = [target for target in wanted if not any(f".{name}".endswith(f".{target}") for name in here)]
    if (given and lost) or not matched:
        ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
        raise ConfigError(
            f"lora.targets: no linear module is called {', '.join(lost)}{nearest(lost[0], ends)}; "
            f"this model has {', '.join(ends)}"
        )
    return sorted(matched)


def _modules_of(model: nn.Module, family: Family, part: str) -> list[str]:
    """Names of the modules of a part; lists of layers are named one by one, as the peft library needs it."""
    modules = dict(model.named_modules())
    found = []
    for prefix in getattr(family, part):
        name = prefix.rstrip(".")
        if isinstance(modules.get(name), nn.ModuleList):
            found += [f"{name}.{index}" for index in range(len(modules[name]))]
        elif name in modules:
            found.append(name)
    if not found:
        raise ConfigError(f"lora.also_train: this model has no modules in its part {part!r}")
    return found


def _load_full_parts(model: nn.Module, folder: Path) -> None:
    """Weights that were trained in full beside the authors' adapters (their abstractor), under the base's names."""
    given = _read(folder, NON_LORA)
    known = model.state_dict()
    state = {_base_name(key, known): value for key, value in given.items()}
    shapes = [key for key, value in state.items() if key in known and known[key].shape != value.shape]
    _complain(folder, leftover=set(state) - set(known), shapes=shapes)
    model.load_state_dict(state, strict=False)


def _base_name(key: str, known: Mapping[str, Tensor]) -> str:
    """Drops the wrappers' prefixes ("base_model.", one "model.") as far as it takes to meet a name of the base."""
    for prefix in ("", "base_model.", PEFT_PREFIX):
        name = key.removeprefix(prefix)
        if name in known:
            return name
    return key


def _read(folder: Path, stem: str) -> dict[str, Tensor]:
    """Tensors of `stem.safetensors` or `stem.bin` (tensors only, never arbitrary objects); {} where neither exists."""
    safe, binary = folder / f"{stem}.safetensors", folder / f"{stem}.bin"
    if safe.is_file():
        from safetensors.torch import load_file

        return load_file(safe)
    return torch.load(binary, map_location="cpu", weights_only=True) if binary.is_file() else {}


def _complain(folder: Path, *, missing: Any = (), leftover: Any = (), shapes: Any = ()) -> None:
    wrong = (("missing", missing), ("left over", leftover), ("of another shape than the base's", shapes))
    text = "; ".join(f"{len(keys)} {what}: {', '.join(sorted(keys))}" for what, keys in wrong if keys)
    if text:
        raise CheckpointError(f"{folder}: the adapter does not fit its base, keys {text}")
