"""How to ask TensorFlow Serving for the probabilities of classes: over REST and over gRPC."""

import dataclasses
import http.client
import json
import urllib.parse
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

OUTPUT = "probabilities"


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
        signature: The name of one of the model's.
        timeout: The seconds that a request may take.
    """

    model: str
    host: str
    port: int
    label: str | None
    version: int | None
    signature: str
    timeout: int


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
        self._path = f"{path}:predict"

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        body = {"signature_name": self._target.signature, "instances": x.tolist()}
        # A NaN would not be JSON, on either side.
        answer = self._post(json.dumps(body, allow_nan=False))
        try:
            return np.array([row[OUTPUT] for row in answer["predictions"]])
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                f"An answer must have a row of {OUTPUT!r} for each sample. Received: "
                f"{json.dumps(answer)[:200]}. Was the model exported by tfnode?"
            ) from error

    def close(self) -> None:
        self._connection.close()

    def _post(self, body: str) -> Any:
        where = f"http://{self._target.host}:{self._target.port}{self._path}"
        try:
            self._connection.request("POST", self._path, body)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            # The next request gets a new connection.
            self.close()
            raise ServingError(
                f"A server must answer. Received: {error!r} from {where}. Is it up?"
            ) from error
        if response.status != 200:
            raise ServingError(
                f"The answer must have the status 200. Received: {response.status} from {where}: "
                f"{text.decode(errors='replace')}"
            )
        try:
            return json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            raise ServingError(
                f"An answer must be JSON. Received: {text[:200]!r} from {where}: {error}"
            ) from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")


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
        question = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(question.model_spec)
        answer = self._call(self._stub.GetModelMetadata, question)
        signatures = metadata.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        if target.signature not in signatures.signature_def:
            raise ServingError(
                f"The model has the signatures {sorted(signatures.signature_def)}. "
                f"Received: --signature {target.signature}"
            )
        (self._input,) = signatures.signature_def[target.signature].inputs

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        self._request.inputs[self._input].CopyFrom(tf.make_tensor_proto(x, "float32"))
        answer = self._call(self._stub.Predict, self._request)
        if OUTPUT not in answer.outputs:
            raise ServingError(
                f"An answer must have {OUTPUT!r}. Received: {sorted(answer.outputs)}. Was the "
                "model exported by tfnode?"
            )
        return tf.make_ndarray(answer.outputs[OUTPUT])

    def close(self) -> None:
        self._channel.close()

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
                f"{error.details()}"
            ) from error
