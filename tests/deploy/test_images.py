"""The Containerfiles, as far as they can be judged without an engine: hadolint's rules, and that what they name is there.

That an image builds and runs is not shown here.
"""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesh.up import DEFAULT_PORT_BASE, PORT_OFFSETS

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "images").glob("*.Containerfile"))


@dataclass
class Stage:
    """One `FROM`, with its instructions in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def said(self, keyword: str) -> list[str]:
        return [argument for each, argument in self.instructions if each == keyword]


def stages(path: Path) -> list[Stage]:
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text()).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        keyword, _, argument = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = argument.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].instructions.append((keyword, argument))
    return found


def chain(path: Path, last: Stage) -> list[Stage]:
    """A stage after those of the file that it builds upon."""
    by_name = {stage.name: stage for stage in stages(path)}
    return [*(chain(path, by_name[last.base]) if last.base in by_name else []), last]


def images(path: Path) -> list[Stage]:
    """The stages that are run: those with an entry point."""
    return [stage for stage in stages(path) if stage.said("ENTRYPOINT")]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_everything_copied_is_in_the_tree_and_not_ignored(path: Path) -> None:
    names = {stage.name for stage in stages(path)}
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    for stage in stages(path):
        for argument in stage.said("COPY"):
            if source := re.match(r"--from=(\S+)", argument):
                assert source[1] in names
                continue
            for name in argument.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert not any(Path(name).match(pattern) for pattern in ignored), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_bases_are_pinned_by_a_tag(path: Path) -> None:
    names = {stage.name for stage in stages(path)} | {"scratch"}
    for stage in stages(path):
        assert stage.base in names or re.search(r":\d+\.\d+-", stage.base), stage.base


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_images_run_as_nobody_and_tell_their_health(path: Path) -> None:
    for image in images(path):
        layers = chain(path, image)
        users = [user for stage in layers for user in stage.said("USER")]
        assert users[-1:] == ["65532:65532"]
        (port,) = image.said("EXPOSE")
        (check,) = image.said("HEALTHCHECK")
        command = json.loads(check[check.index("[") :])
        assert command[1] == f"-addr=127.0.0.1:{port}"
        assert int(port) == DEFAULT_PORT_BASE + PORT_OFFSETS[image.name or "gateway"]
        copied = " ".join(each for stage in layers for each in stage.said("COPY"))
        assert command[0] in copied or f"/{command[0]} " in f"{copied} "


def test_each_service_has_an_image_that_starts_it() -> None:
    (path,) = [path for path in FILES if path.stem == "services"]
    entries = {image.name: json.loads(image.said("ENTRYPOINT")[0]) for image in images(path)}
    assert set(entries) == set(PORT_OFFSETS) - {"gateway"}
    for name, entry in entries.items():
        assert entry == ["python", "-m", name]
        assert importlib.util.find_spec(f"{name}.__main__")


def test_all_packages_of_the_distribution_are_copied() -> None:
    """`murphey` is generated in the image."""
    (path,) = [path for path in FILES if path.stem == "services"]
    build = next(stage for stage in stages(path) if stage.name == "build")
    packages = {each.parent.name for each in ROOT.glob("*/__main__.py")} - {"bench", "training"} | {"mesh"}
    assert packages <= {name for argument in build.said("COPY") for name in argument.split()}
