"""Thread pools of native libraries, sized once before they are imported.

Left alone, OpenBLAS, OpenMP and the tokenizers each start a thread a core and fight over them: on two cores that made a
20 ms query 110 ms. OpenVINO and torch get the cores; the others get one thread.
"""

import os
from collections.abc import MutableMapping

_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")


def limit(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets what is not set already, in this process or in the environment of one to be started."""
    for name in _ONE_THREAD:
        environment.setdefault(name, "1")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
