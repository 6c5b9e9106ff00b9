"""What the results of this package have in common."""

import dataclasses
import json
import math

import numpy as np


class Result:
    """Base of the frozen results: plain values, which JSON can hold."""

    def to_json(self):
        """The result as a JSON string; numbers that are not finite become null."""
        return json.dumps(_plain(dataclasses.asdict(self)), allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
