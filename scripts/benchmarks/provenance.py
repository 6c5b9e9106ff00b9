"""What the results of a benchmark depend on."""

import datetime
import importlib.util
import os
import platform
import subprocess
from typing import Any

from scripts import machine
from scripts.benchmarks.peers import PEERS
from tfnode import versions


def description(command: str) -> dict[str, Any]:
    """The command, the versions and the machine that the results depend on."""
    packages = ("tensorflow", "keras", "numpy", "jaxlib", *(n for p in PEERS.values() for n in p))
    present = [name for name in packages if importlib.util.find_spec(name)]
    git = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, encoding="utf-8").stdout.strip(),
        "versions": versions.of(*present),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": machine.processor(),
            "flags": machine.flags(),
            "cores": os.cpu_count(),
            "memory_gb": round(memory / 1e9, 1),
        },
    }
