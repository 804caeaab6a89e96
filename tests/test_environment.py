"""pyproject.toml, environment.yml and the README name the same dependencies."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))

# What conda needs besides: the interpreter, and pip to install this package itself. All else has
# the same name on PyPI and on conda-forge.
ONLY_CONDA = {"python", "pip"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def parsed(requirements: list[str]) -> dict[str, frozenset[str]]:
    """Turn ["A_b[c]>=1,<2"] into {"a-b": {">=1", "<2"}}."""
    found: dict[str, frozenset[str]] = {}
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+?)(?:\[[\w,]+\])?\s*((?:[<>=!~].*)?)", requirement.strip())
        assert match, f"cannot read {requirement!r}"
        name = normal(match[1])
        assert name not in found, f"{name} is there twice"
        found[name] = frozenset(part.strip() for part in match[2].split(",") if part.strip())
    return found


def all_requirements() -> dict[str, set[str]]:
    """Every dependency and where it is asked for."""
    groups = {"runtime": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    found: dict[str, set[str]] = {}
    for group, requirements in groups.items():
        for name in parsed(requirements):
            found.setdefault(name, set()).add(group)
    return found


def test_conda_gets_what_pip_gets_with_the_engine() -> None:
    extras = PROJECT["optional-dependencies"]
    more = [one for name in ("llama", "charts", "download", "tables") for one in extras[name]]
    wanted = parsed(PROJECT["dependencies"] + more)
    listed = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
    given = parsed(listed)
    assert given.pop("python") == {PROJECT["requires-python"]}
    assert {name: given[name] for name in given if name not in ONLY_CONDA} == wanted


def test_conda_installs_this_package_from_the_clone() -> None:
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert ENVIRONMENT["channels"][0] == "conda-forge"
    sections = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    assert sections == [{"pip": ["-e ."]}]


def test_the_engine_is_pinned_to_one_version() -> None:
    # Its low-level calls change between versions, and .ci/engine.py compares with this pin.
    (engine,) = PROJECT["optional-dependencies"]["llama"]
    assert re.fullmatch(r"llama-cpp-python==\d+\.\d+\.\d+", engine)


def test_nothing_is_asked_for_in_two_ways() -> None:
    seen: dict[str, frozenset[str]] = {}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirements in groups:
        for name, versions in parsed(requirements).items():
            assert seen.setdefault(name, versions) == versions, name


@functools.cache
def brought_by(names: frozenset[str]) -> set[str]:
    """Follow what each distribution requires here, to everything that comes with these."""
    seen: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here, such as torch
        waiting += [
            normal(re.split(r"[^\w.-]", line, maxsplit=1)[0])
            for line in requires
            if "extra ==" not in line
        ]
    return seen


def test_everything_imported_comes_with_the_package() -> None:
    # An import that only works because a test tool brought it would fail for everybody else.
    extras = PROJECT["optional-dependencies"]
    providers = importlib.metadata.packages_distributions()
    providers |= {"llama_cpp": ["llama-cpp-python"], "torch": ["torch"]}
    providers |= {"tokenizers": ["tokenizers"], "gguf": ["gguf"]}
    faults = []
    for path in sorted((ROOT / "gguf_widgets").rglob("*.py")):
        allowed = [*PROJECT["dependencies"], *extras["llama"], *extras["download"]]
        allowed += extras["demo-train"] if "demo" in path.parts else []
        given = brought_by(frozenset(parsed(allowed)))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in names} - {"gguf_widgets"}:
                sources = {normal(name) for name in providers.get(top, [])}
                if top not in sys.stdlib_module_names and not sources & given:
                    faults.append(f"{path.relative_to(ROOT)} imports {top}")
    assert faults == []


def reasons() -> str:
    readme = (ROOT / "README.md").read_text("utf-8")
    section = re.search(r"^## What it depends on$(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    assert section, "the README has no section 'What it depends on'"
    return section[1]


@pytest.mark.parametrize("name", sorted(all_requirements()))
def test_the_readme_gives_the_reason_for_each(name: str) -> None:
    words = {normal(word) for word in re.findall(r"[\w.-]*\w", reasons())}
    assert name in words, f"{name} ({', '.join(sorted(all_requirements()[name]))}) has no reason"


def test_the_readme_names_nothing_that_is_no_longer_used() -> None:
    table = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", reasons(), re.MULTILINE)
    bold = re.findall(r"\*\*([\w.-]+)\*\*", reasons())
    named = {normal(word.strip()) for cell in [*table, *bold] for word in cell.split(",")}
    assert named - {"package"} <= set(all_requirements())
