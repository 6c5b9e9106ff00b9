"""What the results of this package have in common."""

import dataclasses
import json
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Base of the results: plain values, which JSON can hold."""

    def to_json(self) -> str:
        """The result as a JSON string; numbers that are not finite become null."""
        return json.dumps(_plain(dataclasses.asdict(self)), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
