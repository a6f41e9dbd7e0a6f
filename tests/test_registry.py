"""Registry: names, near misses, and objects from outside: environment variable, and a real package's entry points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from q_align.errors import ConfigError
from q_align.registry import PLUGINS, Registry


@pytest.fixture
def fruits() -> Registry[str]:
    registry: Registry[str] = Registry("fruit", "q_align.test_fruits", key="basket.fruit", of=str)
    registry.register("apple", "red")
    return registry


def install(folder: Path, name: str, code: str, points: str) -> None:
    """A package with metadata, as pip leaves it."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def test_names_in_order_and_look_up(fruits: Registry[str]) -> None:
    fruits.register("pear", "green")
    assert fruits.names() == ("apple", "pear") == tuple(fruits)
    assert fruits["pear"] == "green"
    assert fruits.items() == (("apple", "red"), ("pear", "green"))
    assert "apple" in fruits
    assert "plum" not in fruits
    assert len(fruits) == 2


def test_decorator_returns_what_it_registers() -> None:
    functions: Registry[object] = Registry("function", "q_align.test_functions")

    @functions.register("twice")
    def twice(x: int) -> int:
        return 2 * x

    assert functions["twice"] is twice
    assert twice(2) == 4


def test_near_miss_is_named(fruits: Registry[str]) -> None:
    message = r"^unknown fruit 'aple' \(did you mean 'apple'\?\); choose from apple, all \(basket\.fruit\)$"
    with pytest.raises(ConfigError, match=message):
        raise fruits.unknown("aple", also=("all",))
    with pytest.raises(
        ConfigError, match=r"unknown fruit 'xyz' \(is its module in Q_ALIGN_PLUGINS\?\); choose from ap"
    ):
        fruits["xyz"]


def test_a_name_stands_for_one_object(fruits: Registry[str]) -> None:
    assert fruits.register("apple", "red") == "red"
    with pytest.raises(ConfigError, match=r"^fruit 'apple' is registered already; choose another name$"):
        fruits.register("apple", "blue")
    assert fruits["apple"] == "red"


def test_objects_of_another_class_are_refused(fruits: Registry[str]) -> None:
    with pytest.raises(ConfigError, match=r"^fruit 'plum' must be a str, got int$"):
        fruits.register("plum", 3)  # type: ignore[call-overload]


def test_own_package_is_imported_at_the_first_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]
) -> None:
    (tmp_path / "fruit_modules").mkdir()
    (tmp_path / "fruit_modules" / "__init__.py").write_text(
        "from q_align.registry import Registry\nF = Registry('f', '')"
    )
    for name in ("plum", "fig"):
        code = f"from fruit_modules import F\nF.register('{name}', '{name}')\nassert '{name}' in F"
        (tmp_path / "fruit_modules" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import fruit_modules  # type: ignore[import-not-found]

    registry = fruit_modules.F
    registry.package = "fruit_modules"
    assert set(registry.names()) == {"plum", "fig"}


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]) -> None:
    points = "[q_align.test_fruits]\nplum = plum_package:COLOUR\n[q_align.other]\nfig = no_such_module"
    install(tmp_path, "plum_package", "COLOUR = 'blue'", points)
    monkeypatch.syspath_prepend(tmp_path)
    assert fruits.names() == ("apple", "plum")
    assert fruits["plum"] == "blue"


def test_entry_point_to_a_module_that_registers_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder_code = "from q_align.registry import Registry\nR = Registry('fruit', 'q_align.fruit', of=str)"
    (tmp_path / "holder.py").write_text(holder_code)
    install(
        tmp_path,
        "fig_package",
        "from holder import R\nR.register('fig', 'own')\n",
        "[q_align.fruit]\nfig = fig_package\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    import holder  # type: ignore[import-not-found]

    assert holder.R["fig"] == "own"


@pytest.mark.parametrize(
    ("name", "code", "value", "problem"),
    [
        ("broken_a", "1 / 0", "broken_a", "ZeroDivisionError: division by zero"),
        ("broken_b", "X = 3", "broken_b:X", "ConfigError: fruit 'bad' must be a str, got int"),
        ("broken_c", "X = 3", "broken_c:Y", "AttributeError: module 'broken_c' has no attribute 'Y'"),
        ("broken_d", "raise ValueError('one\\ntwo')", "broken_d:Y", "ValueError: one"),
    ],
)
def test_broken_entry_points_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fruits: Registry[str],
    name: str,
    code: str,
    value: str,
    problem: str,
) -> None:
    install(tmp_path, name, code, f"[q_align.test_fruits]\nbad = {value}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):  # and again: half a plug-in is no plug-in
        with pytest.raises(ConfigError) as error:
            fruits["apple"]
        label = f"plug-in {value!r} (entry point 'bad' of q_align.test_fruits)"
        assert str(error.value) == f"{label} cannot be loaded: {problem}"


def test_module_that_registers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]) -> None:
    install(tmp_path, "idle_package", "", "[q_align.test_fruits]\nidle = idle_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"'idle_package' \(entry point 'idle' of .* registers no fruit 'idle'"):
        fruits.names()


def test_entry_point_must_not_replace_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]
) -> None:
    install(tmp_path, "rotten_package", "COLOUR = 'brown'", "[q_align.test_fruits]\napple = rotten_package:COLOUR\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"rotten_package.*fruit 'apple' is registered already"):
        fruits["apple"]


CHILD = """
import os
from pathlib import Path
from multiprocessing import get_context

import common


def look(_):
    return dict(common.R.items())


if __name__ == "__main__":
    with get_context("spawn").Pool(1) as pool:
        print(look(0), pool.map(look, [0])[0])
"""


def test_plugins_of_the_environment_reach_worker_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "common.py").write_text("from q_align.registry import Registry\nR = Registry('fruit', 'q_align.none')")
    (tmp_path / "mine.py").write_text("from common import R\nR.register('kiwi', 'green')")
    (tmp_path / "main.py").write_text(CHILD)
    monkeypatch.setenv(PLUGINS, "mine, ")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    done = subprocess.run([sys.executable, tmp_path / "main.py"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'kiwi': 'green'} {'kiwi': 'green'}"


def test_broken_plugin_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_with_a_typo.py").write_text("def f(:\n  pass")
    monkeypatch.setenv(PLUGINS, "no_such_plugin")
    with pytest.raises(ConfigError, match=r"^plug-in 'no_such_plugin' \(Q_ALIGN_PLUGINS\) cannot be loaded: Module"):
        fruits["apple"]
    monkeypatch.setenv(PLUGINS, "plugin_with_a_typo")
    with pytest.raises(ConfigError, match=r"^plug-in 'plugin_with_a_typo' .*: SyntaxError: "):
        "apple" in Registry("fruit", "q_align.none")  # noqa: B015


@pytest.mark.parametrize(("value", "imported"), [("'brown'", True), ("'brown'", False), ("3", False)])
def test_entry_point_of_a_known_name_is_an_error_whatever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str], value: str, imported: bool
) -> None:
    name = f"rival_{imported}_{value.strip(chr(39))}"
    install(tmp_path, name, f"COLOUR = {value}", f"[q_align.test_fruits]\napple = {name}:COLOUR\n")
    monkeypatch.syspath_prepend(tmp_path)
    if imported:
        __import__(name)
    with pytest.raises(ConfigError, match=f"plug-in '{name}:COLOUR'"):
        fruits["apple"]


def test_half_a_plugin_is_the_same_error_for_every_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]
) -> None:
    (tmp_path / "halves.py").write_text("from q_align.registry import Registry\nR = Registry('half', 'q_align.none')\n")
    (tmp_path / "half_plugin.py").write_text("from halves import R\nR.register('x', object())\n1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(PLUGINS, "half_plugin")
    for registry in (fruits, Registry("other", "q_align.none"), fruits):
        with pytest.raises(ConfigError, match=r"'half_plugin' .* cannot be loaded: ZeroDivisionError"):
            registry.names()


def test_plugins_named_after_the_first_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fruits: Registry[str]
) -> None:
    assert "lime" not in fruits
    (tmp_path / "late_registry.py").write_text("registries = []")
    (tmp_path / "late_plugin.py").write_text(
        "from late_registry import registries\nregistries[0].register('lime', 'green')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import late_registry  # type: ignore[import-not-found]

    late_registry.registries.append(fruits)
    monkeypatch.setenv(PLUGINS, "late_plugin")
    assert fruits["lime"] == "green"


def test_a_fault_of_the_own_package_is_raised_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_modules").mkdir()
    (tmp_path / "faulty_modules" / "__init__.py").write_text("")
    (tmp_path / "faulty_modules" / "one.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[str] = Registry("fruit", "q_align.none", package="faulty_modules")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
            registry.names()
