"""How to ask TensorFlow Serving for the probabilities of classes: over REST and over gRPC.

What answers may be anything, so that an answer is checked before it is used.
"""

import contextlib
import dataclasses
import http.client
import json
import re
import reprlib
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

OUTPUT = "probabilities"
DEFAULT_SIGNATURE = "serving_default"

# In bytes: some hundred thousand rows of ten classes.
LARGEST_ANSWER = 2**26

# Of the sum of probabilities in single precision, or half.
_ROUNDING = 1e-3


class ServingError(Exception):
    """What a server answers, or that it does not, in words for the person who asks."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a served model is.

    Args:
        model: Its name.
        host: That of the server.
        port: That of the transport.
        label: Such as `"stable"`.
        version: In place of a label. With neither, the server takes the latest version.
        signature: The name of one of the model's, by which a request chooses a solver.
        timeout: The seconds that a request may take.

    Raises:
        ServingError: If the host has no name that can be looked up.
    """

    model: str
    host: str
    port: int
    label: str | None
    version: int | None
    signature: str
    timeout: int

    def __post_init__(self) -> None:
        try:
            # As a socket does it, when it is too late for a good answer.
            encoded = self.host.encode("idna")
        except UnicodeError:
            encoded = b""
        if not re.fullmatch(rb"[!-~]+", encoded):
            raise ServingError(
                "A host must have a name, in parts of 1 to 63 characters between dots, or an "
                f"address. Received: host={self.host!r}. Name it as in --host localhost."
            )


class RestClient:
    """Asks over REST, on one connection that is kept open."""

    def __init__(self, target: Target):
        self._target = target
        self._connection = http.client.HTTPConnection(
            target.host, target.port, timeout=target.timeout
        )
        path = f"/v1/models/{urllib.parse.quote(target.model, safe='')}"
        if target.label is not None:
            path += f"/labels/{urllib.parse.quote(target.label, safe='')}"
        if target.version is not None:
            path += f"/versions/{target.version}"
        self._path = path
        # Every model has the default.
        if target.signature != DEFAULT_SIGNATURE:
            self._check_signature()

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        body = {"signature_name": self._target.signature, "instances": x.tolist()}
        # A NaN would not be JSON, on either side.
        answer = self._ask("POST", ":predict", json.dumps(body, allow_nan=False))
        try:
            rows = [row[OUTPUT] for row in answer.content["predictions"]]
        except (KeyError, TypeError) as error:
            raise ServingError(
                f"An answer must have a row of {OUTPUT!r} for each sample. Received: "
                f"{answer}. Was the model exported by tfnode?"
            ) from error
        return _checked(rows, len(x))

    def close(self) -> None:
        self._connection.close()

    def _check_signature(self) -> None:
        with contextlib.ExitStack() as stack:
            # Nobody else closes a client that is not made.
            stack.callback(self.close)
            answer = self._ask("GET", "/metadata")
            try:
                known = {**answer.content["metadata"]["signature_def"]["signature_def"]}
                _check_known(self._target.signature, known)
            except (KeyError, TypeError) as error:
                raise ServingError(
                    f"The metadata of a model must list its signatures. Received: {answer}. Is it "
                    "TensorFlow Serving?"
                ) from error
            stack.pop_all()

    def _ask(self, method: str, about: str, body: str | None = None) -> "_Answer":
        path = self._path + about
        where = f"http://{self._target.host}:{self._target.port}{path}"
        try:
            self._connection.request(method, path, body)
            response = self._connection.getresponse()
            text = self._read(response, where)
        except (OSError, http.client.HTTPException) as error:
            # The next request gets a new connection.
            self.close()
            raise ServingError(
                f"A server must answer. Received: {_excerpt(repr(error).encode())} from "
                f"{where}. Is it up?"
            ) from error
        if response.status != 200:
            raise ServingError(
                f"The answer must have the status 200. Received: {response.status} from "
                f"{where}: {_excerpt(text)}"
            )
        try:
            return _Answer(text, where, json.loads(text, parse_constant=_refuse))
        except (ValueError, RecursionError) as error:
            raise ServingError(
                f"An answer must be JSON. Received: {_excerpt(text)} from {where}: {error}. "
                "Is it TensorFlow Serving?"
            ) from error

    def _read(self, response: http.client.HTTPResponse, where: str) -> bytes:
        """The body, if it ends in time, and before it fills the memory."""
        ends_at = time.monotonic() + self._target.timeout
        text = bytearray()
        with response:
            while part := response.read1(2**16):
                text += part
                if len(text) > LARGEST_ANSWER:
                    self.close()
                    raise ServingError(
                        f"An answer must have at most {LARGEST_ANSWER} bytes. Received: more, from "
                        f"{where}. Ask with a smaller --batch-size."
                    )
                if time.monotonic() > ends_at:
                    raise TimeoutError("the answer did not end in time")
            if response.length:
                raise http.client.IncompleteRead(bytes(text), response.length)
        return bytes(text)


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What a server sent, from where, and what that says."""

    text: bytes
    where: str
    content: Any

    def __str__(self) -> str:
        return f"{_excerpt(self.text)} from {self.where}"


def _check_known(signature: str, known: Iterable[str]) -> None:
    # Those that begin with two underscores are TensorFlow's own.
    names = sorted(name for name in known if not name.startswith("__"))
    if signature not in names:
        raise ServingError(
            f"The model has the signatures {_excerpt(repr(names).encode(), 1000)}. "
            f"Received: --signature {signature}. Name one of these by --solver."
        )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")


def _excerpt(text: bytes, length: int = 200) -> str:
    """The beginning of what a server sent, as one line that a terminal can show."""
    line = " ".join(text[:1000].decode(errors="replace").split())
    return "".join(c if c.isprintable() else "?" for c in line)[:length]


def _checked(rows: list, num_rows: int) -> np.ndarray:
    """The rows of an answer as an array `(num_rows, classes)`, if they are probabilities."""
    for row in rows:
        if not _is_distribution(row):
            raise ServingError(
                "The probabilities of an answer must lie in [0, 1] and add up to 1. Received: "
                f"{reprlib.repr(row)}. Is this the output of a classifier?"
            )
    widths = {len(row) for row in rows}
    if len(rows) != num_rows or len(widths) != 1:
        raise ServingError(
            f"An answer must have {num_rows} rows of {OUTPUT!r}, of one length. Received: "
            f"{len(rows)} rows of the lengths {sorted(widths)}. Was the model exported by tfnode?"
        )
    return np.array(rows)


def _is_distribution(row: Any) -> bool:
    try:
        p = np.array(row)
    except ValueError:
        return False
    # Of text, null and integers of any length NumPy makes no numbers.
    is_row = p.ndim == 1 and p.dtype.kind in "iuf"
    return is_row and bool(((p >= 0) & (p <= 1 + _ROUNDING)).all() and abs(p.sum() - 1) < _ROUNDING)


class GrpcClient:
    """Asks over gRPC, by TensorFlow Serving's own protocol buffers."""

    def __init__(self, target: Target):
        try:
            import grpc
            from tensorflow_serving.apis import get_model_metadata_pb2 as metadata
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise ServingError(
                f"--grpc needs the extra `serving`. Received: {error!r}. Install it by "
                "`pip install .[serving]`."
            ) from error
        self._target, self._error = target, grpc.RpcError
        self._channel = grpc.insecure_channel(f"{target.host}:{target.port}")
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._request = predict_pb2.PredictRequest()
        self._specify(self._request.model_spec)
        self._request.model_spec.signature_name = target.signature
        with contextlib.ExitStack() as stack:
            # Nobody else closes a client that is not made.
            stack.callback(self.close)
            self._input = self._find_input(metadata)
            stack.pop_all()

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        self._request.inputs[self._input].CopyFrom(tf.make_tensor_proto(x, "float32"))
        answer = self._call(self._stub.Predict, self._request)
        if OUTPUT not in answer.outputs:
            raise ServingError(
                f"An answer must have {OUTPUT!r}. Received: {sorted(answer.outputs)}. Was the "
                "model exported by tfnode?"
            )
        try:
            rows = np.atleast_1d(tf.make_ndarray(answer.outputs[OUTPUT])).tolist()
        except (TypeError, ValueError) as error:
            raise ServingError(
                f"An answer must have a tensor {OUTPUT!r}. Received: one that cannot be read: "
                f"{error}. Was the model exported by tfnode?"
            ) from error
        return _checked(rows, len(x))

    def close(self) -> None:
        self._channel.close()

    def _find_input(self, metadata: Any) -> str:
        """The name of the one input of the signature, by what the server says of the model."""
        question = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(question.model_spec)
        answer = self._call(self._stub.GetModelMetadata, question)
        signatures = metadata.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        name = self._target.signature
        _check_known(name, signatures.signature_def)
        inputs = sorted(signatures.signature_def[name].inputs)
        if len(inputs) != 1:
            raise ServingError(
                f"A test set has one input. Received: --signature {name} with the inputs {inputs}. "
                "Ask for such a model by a request of your own."
            )
        return inputs[0]

    def _specify(self, model_spec: Any) -> None:
        model_spec.name = self._target.model
        if self._target.label is not None:
            model_spec.version_label = self._target.label
        if self._target.version is not None:
            model_spec.version.value = self._target.version

    def _call(self, method: Callable, request: Any) -> Any:
        try:
            return method(request, timeout=self._target.timeout)
        except self._error as error:
            where = f"{self._target.host}:{self._target.port}"
            raise ServingError(
                f"The answer must have the status OK. Received: {error.code().name} from {where}: "
                f"{_excerpt((error.details() or '').encode())}"
            ) from error
