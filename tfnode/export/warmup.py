"""Warm-up requests, which TensorFlow Serving answers before it reports a model as loaded."""

import pathlib
import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from tfnode.typing import PathLike

WARMUP = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")

# The rows of the requests: the smallest batch, and one worth splitting among threads.
BATCH_SIZES = (1, 16)


def write_warmup(
    path: PathLike, name: str, signatures: Iterable[str], inputs: Mapping[str, np.ndarray]
) -> None:
    """Writes the requests as a TFRecord file of `PredictionLog` protocol buffers.

    They need the package `tensorflow-serving-api`; without it there is a warning and no file.

    Args:
        path: Path of the file.
        name: String, the name of the model.
        signatures: Iterable of strings; each gets one request of each batch size.
        inputs: Dictionary from names of inputs to NumPy arrays.
    """
    import tensorflow as tf

    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        warnings.warn(
            "Warm-up requests are TensorFlow Serving's protocol buffers and need the package "
            f"tensorflow-serving-api. Received: no such package, so {str(path)!r} was not "
            "written, and the first requests to the model will be slow. Install the extra "
            "`serving`.",
            stacklevel=2,
        )
        return
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            for size in BATCH_SIZES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for key, array in inputs.items():
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(array[:size]))
                log = prediction_log_pb2.PredictLog(request=request)
                record = prediction_log_pb2.PredictionLog(predict_log=log)
                writer.write(record.SerializeToString())
