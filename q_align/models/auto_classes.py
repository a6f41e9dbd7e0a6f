"""Registers nano with transformers' AutoConfig and AutoModel, once transformers' auto classes are imported.

`import q_align` must not import transformers, and transformers has no entry points for models. So a finder on
`sys.meta_path` waits for the two modules that hold the auto classes and registers nano right after each has run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto."


def _register_config(module: Any) -> None:
    from q_align.models.nano.configuration import NanoConfig

    module.AutoConfig.register(NanoConfig.model_type, NanoConfig, exist_ok=True)


def _register_model(module: Any) -> None:
    from q_align.models.nano.configuration import NanoConfig
    from q_align.models.nano.pretrained import NanoForRating

    module.AutoModel.register(NanoConfig, NanoForRating, exist_ok=True)


_REGISTER = {_AUTO + "configuration_auto": _register_config, _AUTO + "modeling_auto": _register_model}


class _AfterImport(MetaPathFinder):
    """Lets Python import the two modules as always, then registers nano with each."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _REGISTER else None
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _REGISTER[fullname](module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register_with_transformers() -> None:
    """Registers nano now, where transformers' auto classes are imported, and else as soon as they are."""
    for name, register in _REGISTER.items():
        if name in sys.modules:
            register(sys.modules[name])
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())
