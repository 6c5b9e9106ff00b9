"""What this machine and the checkout on it are, as far as results depend on them."""

import os
import pathlib
import platform
import subprocess

# The commit of a checkout that was copied, of which git knows nothing or another one.
COMMIT = "TFNODE_COMMIT"

# Those that say how fast convolutions are.
_TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor() -> str:
    """The name of the processor, which `platform` does not tell on Linux."""
    return _of_processor("model name") or platform.processor() or platform.machine()


def flags() -> list[str]:
    """Which of the telling extensions the processor has."""
    found = _of_processor("flags").split()
    return [flag for flag in _TELLING if flag in found]


def has_amx() -> bool:
    """Whether the processor multiplies matrices of bfloat16 by itself, many times faster."""
    return "amx_bf16" in flags()


def gpu() -> str:
    """The name of the first GPU, or nothing where there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.partition("\n")[0].strip()


def commit() -> str:
    """The commit of this checkout, and whether it has changes."""
    if COMMIT in os.environ:
        return os.environ[COMMIT]
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    root = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def short_commit(commit: str) -> str:
    """What pages say of a commit: its first ten digits, and whether the checkout had changes."""
    digits, dash, changes = commit.partition("-")
    return f"{digits[:10]}{dash}{changes}"


def _of_processor(name: str) -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
