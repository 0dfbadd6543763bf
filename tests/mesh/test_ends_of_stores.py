"""A process that has used an object store ends whole."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, time
from pathlib import Path

time.sleep = lambda seconds: print(f"waits {seconds} s")
from mesh.object_stores import open_folder

for name in ("a", "b"):
    open_folder(Path(sys.argv[1]) / name)
print("done")
"""


def test_the_end_waits_once_for_the_threads_of_stores(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "done\nwaits 0.2 s\n"
