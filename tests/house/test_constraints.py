"""constraints.txt pins all that `pip install -e '.[dev,training]'` brings, and this environment has those versions."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): pinned for name, pinned in pairs}


def direct() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["dev"], *extras["training"]):
        yield Requirement(line)


def wanted() -> set[str]:
    """All distributions that this machine needs, by walking the requirements of what is installed."""
    names: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(direct())
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        names.add(key[0])
        assert installed(requirement.name), f"{requirement.name} is not installed: run `make setup`"
        for line in distribution(requirement.name).requires or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in {"", *key[1]}):
                todo.append(inner)
    return names


def test_all_that_is_needed_is_pinned() -> None:
    assert sorted(wanted() - pins().keys()) == []


def test_what_is_installed_is_what_is_pinned() -> None:
    different = {
        name: (installed(name), pinned) for name, pinned in pins().items() if installed(name) not in (None, pinned)
    }
    assert different == {}


def test_pins_are_sorted() -> None:
    names = list(pins())
    assert names == sorted(names)


def test_the_build_uses_the_pinned_tools() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for line in requires:
        name, pinned = line.split("==")
        assert pins().get(canonicalize_name(name), pinned) == pinned


def installed(name: str) -> str | None:
    """The version here, without a local part such as `+cpu`."""
    try:
        return re.sub(r"\+.*", "", version(name))
    except PackageNotFoundError:
        return None
