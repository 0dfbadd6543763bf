"""The README is true: its commands run, its targets, links and folders exist, and what it shows is the demo that there is."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from generator.settings import GeneratorSettings
from mesh.settings import ServiceSettings
from orchestrator.settings import OrchestratorSettings
from tests.e2e.conftest import MURPHEY, free_port_base

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DEFAULT_PORT_BASE = 7400
NOT_RUN_HERE = ("make setup", "make test")
"""They run these tests."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The blocks to run, in order; set-up has happened, so no target does it again."""
    wanted = (block for block in blocks("sh") if block.strip() not in NOT_RUN_HERE)
    return [re.sub(r"^make ", "make --old-file=setup ", block, flags=re.MULTILINE) for block in wanted]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"demo", "test", "setup"} <= named <= targets


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_map_names_every_folder() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {path.split("/")[0] for path in listed.splitlines() if "/" in path}
    assert set(re.findall(r"^\| \[(\w+)\]", README, re.MULTILINE)) == {f for f in folders if not f.startswith(".")}


def test_the_output_shown_is_of_this_demo() -> None:
    shown = "".join(blocks("text"))
    asked = re.findall(r'Question\(\s*"([^"]+)"', (ROOT / "examples" / "demo" / "run.py").read_text())
    assert re.findall(r'^\$ murphey ask "([^"]+)"', shown, re.MULTILINE) == asked
    for document in (ROOT / "examples" / "demo" / "documents").iterdir():
        assert document.name in shown


@pytest.mark.parametrize("shown", blocks("toml"))
def test_the_settings_shown_are_settings(shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read as it stands; a name that no service knows would be refused."""
    (tmp_path / "murphey.toml").write_text(shown)
    monkeypatch.chdir(tmp_path)
    sections = tomllib.loads(shown)
    read = {"generator": GeneratorSettings(), "orchestrator": OrchestratorSettings(), "mesh": ServiceSettings()}
    assert sections.keys() <= read.keys()
    for service, section in sections.items():
        settings = read[service].model_dump(mode="json")
        for name, value in section.items():
            shown_part = isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())
            if not shown_part:
                assert settings[name] == value
                continue
            for key, inner in value.items():
                assert inner.items() <= settings[name][key].items()


class Reader:
    """Someone who follows the README, with a data folder and ports apart from those that may be in use here."""

    def __init__(self, data: Path) -> None:
        self.base = free_port_base()
        path = f"{MURPHEY.parent}{os.pathsep}{os.environ['PATH']}"
        own = {"MURPHEY_DATA": str(data), "MURPHEY_PORT_BASE": str(self.base), "PATH": path}
        self.environment = os.environ | own
        self.up: subprocess.Popen[str] | None = None

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(command)],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, command: str) -> None:
        """Runs `murphey up` and returns when it says that it is ready."""
        shell = ["bash", "-euo", "pipefail", "-c", self._here(command).replace("murphey up", "exec murphey up")]
        self.up = subprocess.Popen(
            shell, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.up.stdout is not None
        for line in self.up.stdout:
            if f":{self.base}" in line:
                return
        raise AssertionError("`murphey up` ended before it was ready")

    def python(self, program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", self._here(program)],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        if self.up is not None:
            self.up.send_signal(signal.SIGINT)
            self.up.communicate(timeout=60)
            assert self.up.returncode == 0

    def _here(self, text: str) -> str:
        ports = re.sub(r":74(\d\d)\b", lambda found: f":{self.base + int(found[1])}", text)
        return ports.replace("source .venv/bin/activate\n", "")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    follower = Reader(tmp_path / "data")
    yield follower
    follower.stop()


@pytest.mark.e2e
def test_every_command_runs(reader: Reader) -> None:
    said = ""
    for block in commands():
        if "murphey up" in block:
            reader.start(block)
        else:
            said += reader.run(block)
    assert "six weeks" in said
    assert "event-stream" not in said
    assert said.count("visiting.md") > 1


@pytest.mark.e2e
def test_the_python_client_runs(reader: Reader) -> None:
    reader.start("murphey up")
    reader.run("murphey ingest examples/demo/documents")
    (program,) = blocks("python")
    said = reader.python(program)
    assert "[1]" in said
    assert "weather-rules.txt" in said
