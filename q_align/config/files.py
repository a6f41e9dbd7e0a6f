"""Configuration files: the folder of those that come with q_align, and YAML -> a tree of sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from q_align.errors import ConfigError, nearest

_INSTALLED = Path(__file__).parents[1] / "configs"
_CHECKOUT = Path(__file__).parents[2] / "configs"


def configs_folder() -> Path:
    """The folder with the configurations that come with q_align."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def config_names() -> list[str]:
    """Names of the configurations that come with q_align, such as "nano" and "qwen3_5/4b"."""
    folder = configs_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """The file of that path; where there is none, the configuration of that name that comes with q_align.

    "nano", "nano.yaml" and "configs/nano.yaml" are the same name, so that commands written for a clone work anywhere.

    Raises:
        ConfigError: when it is neither; names the nearest one.
    """
    if Path(name).is_file():
        return Path(name)
    short = Path(name).as_posix().removeprefix("configs/").removesuffix(".yaml")
    names = config_names()
    if short in names:
        return configs_folder() / f"{short}.yaml"
    what = "is a folder" if Path(name).is_dir() else "no such file"
    raise ConfigError(
        f"{name}: cannot read the configuration ({what}){nearest(short, names)}; "
        "`q-align config --list` names those that come with q_align"
    )


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader keeps the last of two equal keys; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1 and name != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_config(file: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        ConfigError: when it cannot be read, holds a key twice, or holds something else.
    """
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # a safe loader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot read the configuration ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from error
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected sections such as `train:`, got {type(tree).__name__}")
    return tree or {}
