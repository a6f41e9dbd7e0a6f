"""nano loads through transformers' auto classes, whichever of q_align and transformers is imported first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WEIGHTS = Path(__file__).parents[2] / "q_align/models/nano/weights"
LOAD = f"""
config = AutoConfig.from_pretrained({str(WEIGHTS)!r})
assert config.model_type == "q_align_nano", config
model = AutoModel.from_pretrained({str(WEIGHTS)!r})
assert type(model).__name__ == "NanoForRating", type(model)
assert model.config.hidden == config.hidden
from safetensors.torch import load_file
name, saved = next(iter(load_file({str(WEIGHTS / "model.safetensors")!r}).items()))
assert (model.state_dict()[name].float() == saved.float()).all()
"""


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    "first",
    [
        "import q_align\nfrom transformers import AutoConfig, AutoModel",
        "from transformers import AutoConfig, AutoModel\nimport q_align",
        "import transformers\nimport q_align\nfrom transformers import AutoModel, AutoConfig",
        "import q_align.models.nano.pretrained\nfrom transformers import AutoConfig, AutoModel",
    ],
)
def test_auto_classes_load_nano_in_any_order_of_imports(first: str) -> None:
    python(first + LOAD)


def test_importing_q_align_imports_neither_torch_nor_transformers() -> None:
    heavy = "{'torch', 'transformers', 'tokenizers', 'pyarrow', 'PIL'}"
    assert python(f"import sys, q_align\nprint(sorted({heavy} & set(sys.modules)))").strip() == "[]"
