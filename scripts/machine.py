"""What this machine is, as far as results depend on it."""

import pathlib
import platform

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


def _of_processor(name: str) -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
