"""What the results of a benchmark depend on."""

import datetime
import importlib.util
import os
import platform
from typing import Any

from scripts import machine
from scripts.benchmarks.peers import PEERS
from tfnode import versions


def description(command: str) -> dict[str, Any]:
    """The command, the versions and the machine that the results depend on."""
    packages = ("tensorflow", "keras", "numpy", "jaxlib", *(n for p in PEERS.values() for n in p))
    present = [name for name in packages if importlib.util.find_spec(name)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": machine.commit(),
        "versions": versions.of(*present),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": machine.processor(),
            "flags": machine.flags(),
            "gpu": machine.gpu(),
            "cores": os.cpu_count(),
            "memory_gb": round(memory / 1e9, 1),
        },
    }
