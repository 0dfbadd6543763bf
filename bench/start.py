"""Start and memory: `murphey up` until all are healthy, what the services hold idle, and what a large text file adds.

Memory is the proportional set size of all processes of the mesh, so that shared pages count once. 100 MB of text take about
twenty minutes to embed on two cores; the default is 10 MB, and a report says how many it was.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import corpora
from bench.frame import Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import Options
from bench.peak import Peak, peak_memory

DEFAULT_MEGABYTES = 10.0
IDLE_AFTER_S = 5.0


def run(options: Options, megabytes: float = DEFAULT_MEGABYTES) -> Report:
    """A mesh for each run; the file goes into the last one."""
    size = 0.05 if options.quick else megabytes
    started, idle = [], []
    services, peak, seconds = {}, Peak(), 0.0
    for number in range(options.runs):
        with local_mesh() as mesh:
            started.append(mesh.started_s)
            time.sleep(IDLE_AFTER_S)
            services = mesh.memory_bytes()
            idle.append(sum(services.values()))
            if number == options.runs - 1:
                peak, seconds = _large_file(mesh, size)
    above_mb = (peak.total - idle[-1]) / 1e6
    rows = (
        Row("murphey up until healthy", "s", tuple(started), target=Target("value", at_most=25.0)),
        Row("idle, all services", "GB", tuple(each / 1e9 for each in idle), target=Target("value", at_most=3.0)),
        Row(f"above idle, file of {size:g} MB", "MB", (above_mb,), target=Target("value", at_most=600.0)),
        Row(f"file of {size:g} MB", "MB/s", (size / seconds,)),
        *(Row(f"idle, {name}", "MB", (bytes_ / 1e6,)) for name, bytes_ in sorted(services.items())),
        *(Row(f"at the peak, {name}", "MB", (bytes_ / 1e6,)) for name, bytes_ in sorted(peak.by_service.items())),
    )
    notes = () if size >= 100 else (f"The target is for a file of 100 MB; this one had {size:g}. See --megabytes.",)
    return Report("start", rows, {"megabytes": size}, options.quick, notes)


def _large_file(mesh: LocalMesh, megabytes: float) -> tuple[Peak, float]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "large.txt"
        corpora.write_large_file(path, megabytes)
        started_s = time.monotonic()
        with peak_memory(mesh) as peak:
            mesh.murphey("ingest", str(path))
        return peak, time.monotonic() - started_s
