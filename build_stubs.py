"""Generates the Python stubs from `protos/`, and of the protocols of others, as a hatch build hook and as a script.

The protos are the only source: nothing generated is in git. `pip install .` runs this through hatch; in a working tree
`python build_stubs.py` does the same. It also fills `third_party/` with the protos of others that ours import, for buf.
It leaves a tree alone that is newer than its protos.
"""

import importlib.resources
import shutil
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # a plain `python build_stubs.py` needs no hatch
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
PROTOS, STUBS, THIRD_PARTY = ROOT / "protos", ROOT / "murphey", ROOT / "third_party"
OF_OTHERS = {"murphey/triton": ROOT / "generator/engines/triton"}
"""Protocols that others have fixed, which are no part of our contract: the package of their stubs, and where they are."""


class StubsHook(BuildHookInterface):
    """Runs before a wheel or an editable install is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate()


def generate() -> bool:
    """Writes `murphey/**/*_pb2*.py`; False when they are already newer than every proto and this file."""
    protos = sorted(
        [*PROTOS.rglob("*.proto"), *(path for folder in OF_OTHERS.values() for path in folder.glob("*.proto"))]
    )
    newest = max(path.stat().st_mtime for path in [*protos, Path(__file__)])
    marker = STUBS / "py.typed"
    if marker.exists() and marker.stat().st_mtime >= newest and (THIRD_PARTY / "google/api").exists():
        return False
    _copy_third_party()
    shutil.rmtree(STUBS, ignore_errors=True)
    _compile(protos)
    for folder in [STUBS, *(path for path in STUBS.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text('"""Generated from `protos/` by build_stubs.py."""\n')
    marker.touch()
    return True


def _copy_third_party() -> None:
    """google/api and google/rpc from the googleapis-common-protos wheel, for buf and for protoc."""
    for package in ("api", "rpc"):
        target = THIRD_PARTY / "google" / package
        target.mkdir(parents=True, exist_ok=True)
        for entry in importlib.resources.files(f"google.{package}").iterdir():
            if entry.name.endswith(".proto"):
                (target / entry.name).write_bytes(entry.read_bytes())


def _compile(protos: list[Path]) -> None:
    from grpc_tools import protoc

    well_known = importlib.resources.files("grpc_tools") / "_proto"
    others = (f"-I{package}={folder}" for package, folder in OF_OTHERS.items() if folder.exists())
    arguments = [f"-I{PROTOS}", f"-I{THIRD_PARTY}", f"-I{well_known}", *others]
    outputs = [f"--{kind}={ROOT}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    status = protoc.main(["protoc", *arguments, *outputs, *(str(path) for path in protos)])
    if status != 0:
        sys.exit(
            f"protoc failed with status {status}; its message is above. Mend the proto it names and run this again."
        )


if __name__ == "__main__":
    generate()
