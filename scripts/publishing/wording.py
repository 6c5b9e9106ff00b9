"""Numbers as people read them."""

import math


def rounded(count: int) -> str:
    """A large number with two digits, in words."""
    count = round(count, 1 - int(math.log10(count)))
    for size, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def two_digits(value: float) -> str:
    """A number with two digits, and all those before the point."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def counted(num_steps: int) -> str:
    return f"{num_steps} step{'s' * (num_steps != 1)}"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(num_bytes: int) -> str:
    """Of a file."""
    return f"{two_digits(num_bytes / 1e3)} kB" if num_bytes < 1e6 else f"{num_bytes / 1e6:.1f} MB"
