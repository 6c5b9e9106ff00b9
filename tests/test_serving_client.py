"""The client against small servers on the loopback: REST, gRPC, misuse."""

import concurrent.futures
import contextlib
import http.server
import importlib.util
import json
import re
import socket
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import tfnode
from scripts import serving_client
from scripts.serving.transports import GrpcClient, RestClient, ServingError, Target

needs_serving = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_serving") is None, reason="needs the extra `serving`"
)


def probabilities(x):
    """Of three classes, the first where the first coordinate is positive, else the third."""
    first = np.where(x[:, 0] > 0, 0.75, 0.125)
    return np.stack([first, np.full(len(x), 0.125), 0.875 - first], axis=1)


X = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
# Every tenth label is one that the server never predicts.
Y = np.where(np.arange(50) % 10 == 0, 1, np.where(X[:, 0] > 0, 0, 2))


class Server(http.server.ThreadingHTTPServer):
    """Answers as TensorFlow Serving does, or, for a test, with what `answer` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("localhost", 0), Handler)
        self.requests = []
        self.answer = None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        status, text = 200, self.server.answer
        if not re.fullmatch(r"/v1/models/small(/labels/stable|/versions/3)?:predict", self.path):
            status, text = 404, json.dumps({"error": "Servable not found for request"})
        elif text is None:
            rows = probabilities(np.array(body["instances"])).tolist()
            text = json.dumps({"predictions": [{"logits": p, "probabilities": p} for p in rows]})
        elif isinstance(text, tuple):
            status, text = text
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server, monkeypatch, capsys):
    """The command line against the server; returns the exit status, the output and the errors."""
    monkeypatch.setattr(tfnode.datasets, "load", lambda name, split, as_numpy: (X, Y))
    monkeypatch.setattr(tfnode.datasets, "list_datasets", lambda: ["ours"])

    def run(*arguments):
        port = ("--rest-port", str(server.server_port))
        status = serving_client.main(["small", "--dataset", "ours", *port, *arguments])
        return status, *capsys.readouterr()

    return run


def ask(client, x):
    with contextlib.closing(client):
        return client.probabilities(x)


def target(server, **changes):
    defaults = {
        "model": "small",
        "host": "localhost",
        "port": server.server_port,
        "label": None,
        "version": None,
        "signature": "serving_default",
        "timeout": 5,
    }
    return Target(**{**defaults, **changes})


# === REST ===
def test_one_request(server):
    received = ask(RestClient(target(server)), X[:3])
    np.testing.assert_array_equal(received, probabilities(X[:3]))
    ((path, body),) = server.requests
    assert path == "/v1/models/small:predict"
    assert body == {"signature_name": "serving_default", "instances": X[:3].tolist()}


@pytest.mark.parametrize(
    "changes, path",
    [({"label": "stable"}, "/labels/stable"), ({"version": 3}, "/versions/3")],
)
def test_labels_and_versions(changes, path, server):
    ask(RestClient(target(server, signature="rk4_h0p25", **changes)), X[:1])
    assert server.requests[0][0] == f"/v1/models/small{path}:predict"
    assert server.requests[0][1]["signature_name"] == "rk4_h0p25"


def test_the_command_line(server, client):
    status, output, errors = client("--batch-size", "16", "--threads", "3")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "small: 4 requests, 3 at a time"
    assert lines[1] == "accuracy    90.00 % of 50 samples"
    rate = re.fullmatch(r"throughput  (\d+) samples/s, ([\d.]+) requests/s", lines[2])
    assert float(rate[1]) == pytest.approx(12.5 * float(rate[2]), rel=0.05)
    latencies = [float(t) for t in re.findall(r"p\d\d ([\d.]+) ms", lines[3])]
    assert len(latencies) == 3 and 0 < latencies[0] <= latencies[1] <= latencies[2]
    assert sorted(len(body["instances"]) for _, body in server.requests) == [2, 16, 16, 16]


def test_more_requests_than_samples_begin_again(server, client):
    status, output, _ = client("--batch-size", "20", "--requests", "7")
    assert status == 0
    # 20, 20 and 10 samples, twice, and the first 20 once more.
    assert "accuracy    90.00 % of 120 samples" in output
    assert server.requests[0] == server.requests[3] == server.requests[6]


@pytest.mark.parametrize(
    "answer, message",
    [
        ((400, '{"error": "not finite"}'), r"Received: 400 from .*: \{\"error\": \"not finite\"\}"),
        ("no json", "An answer must be JSON. Received: b'no json' from http://"),
        ('{"predictions": [{"probabilities": [NaN, 0, 1]}]}', "must be JSON. .*: it holds NaN"),
        ('{"predictions": [[0.5, 0.5]]}', "must have a row of 'probabilities'"),
        ('{"outputs": 1}', "must have a row of 'probabilities'"),
        ('{"predictions": [{"probabilities": [1, 0, 0]}]}', r"must have 8 rows .* shape \(1, 3\)"),
        ('{"predictions": [{"probabilities": 1}]}', r"Received: shape \(1,\)"),
    ],
)
def test_answers_that_cannot_be_used(answer, message, server, client):
    server.answer = answer
    status, output, errors = client("--batch-size", "8", "--threads", "2")
    assert (status, output) == (1, "")
    assert re.search(message, errors)


def test_servers_that_are_not_there(server, client):
    status, _, errors = client("--label", "canary")
    assert status == 1
    assert "must have the status 200. Received: 404 from http://" in errors
    assert "Servable not found" in errors
    server.shutdown()
    server.server_close()
    status, _, errors = client()
    assert status == 1
    where = r"http://localhost:\d+/v1/models/small:predict"
    assert re.search(rf"A server must answer. Received: .* from {where}. Is it up\?", errors)


def test_a_server_that_never_answers(server):
    with socket.create_server(("localhost", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ServingError, match=r"must answer\. Received: TimeoutError"):
            ask(RestClient(target(server, port=port, timeout=1)), X[:1])


def test_what_is_not_finite_is_not_sent(server):
    with pytest.raises(ValueError, match="not JSON compliant"):
        ask(RestClient(target(server)), np.full((1, 2), np.nan))
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["unknown_model"], "'cifar10']. Received: 'unknown_model'. Name a --dataset"),
        (["mnist", "--label", "stable", "--version", "1"], "not allowed with"),
        (["mnist", "--batch-size", "0"], "must be a positive integer. Received: 0"),
        (["mnist", "--requests", "-1"], "must be a positive integer"),
        (["mnist", "--nonsense"], "unrecognized arguments"),
        ([], "required: model"),
    ],
)
def test_misuse_of_the_command_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        serving_client.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_data_set_of_a_served_model():
    names = {
        "mnist_rk4_h0p125": "mnist",
        "concentric_spheres_10d_euler_h0p5": "concentric_spheres/10d",
        "energy_landscape": "energy_landscape/three_minima",
        "mnistlike_euler_h1": None,
    }
    assert {name: serving_client.dataset_of(name) for name in names} == names


# === gRPC ===
@pytest.fixture
def grpc_server():
    """A prediction service on the loopback, with TensorFlow Serving's own protocol buffers."""
    import grpc
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        requests = []

        def GetModelMetadata(self, request, context):
            if request.model_spec.name != "small":
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
            signature = meta_graph_pb2.SignatureDef()
            signature.inputs["point"].name = "serving_default_point:0"
            definitions = get_model_metadata_pb2.SignatureDefMap()
            definitions.signature_def["serving_default"].CopyFrom(signature)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(definitions)
            return response

        def Predict(self, request, context):
            self.requests.append(request)
            x = tf.make_ndarray(request.inputs["point"])
            if not np.isfinite(x).all():
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not finite")
            response = predict_pb2.PredictResponse()
            response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto(probabilities(x)))
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    service = Service()
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    service.server_port = server.add_insecure_port("localhost:0")
    server.start()
    yield service
    server.stop(None).wait()


@needs_serving
def test_grpc(grpc_server):
    received = ask(GrpcClient(target(grpc_server, label="stable")), X[:3])
    np.testing.assert_array_equal(received, probabilities(X[:3]))
    (request,) = grpc_server.requests
    spec = request.model_spec
    assert (spec.name, spec.version_label, spec.signature_name) == (
        "small",
        "stable",
        "serving_default",
    )
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["point"]), X[:3])
    ask(GrpcClient(target(grpc_server, version=3)), X[:1])
    assert grpc_server.requests[1].model_spec.version.value == 3


@needs_serving
def test_misuse_of_grpc(grpc_server):
    with pytest.raises(ServingError, match=r"Received: NOT_FOUND from .*: Servable not found"):
        GrpcClient(target(grpc_server, model="other"))
    with pytest.raises(ServingError, match=r"\['serving_default'\]. Received: --signature rk4"):
        GrpcClient(target(grpc_server, signature="rk4"))
    with pytest.raises(ServingError, match=r"Received: INVALID_ARGUMENT from .*: not finite"):
        ask(GrpcClient(target(grpc_server)), np.full((1, 2), np.inf))


@needs_serving
def test_the_command_line_over_grpc(grpc_server, monkeypatch, capsys):
    monkeypatch.setattr(tfnode.datasets, "load", lambda name, split, as_numpy: (X, Y))
    monkeypatch.setattr(tfnode.datasets, "list_datasets", lambda: ["ours"])
    port = str(grpc_server.server_port)
    arguments = ["small", "--dataset", "ours", "--grpc", "--grpc-port", port, "--batch-size", "16"]
    assert serving_client.main(arguments) == 0
    assert "accuracy    90.00 % of 50 samples" in capsys.readouterr().out


def test_without_the_package_grpc_names_the_extra(server, client, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("tensorflow_serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    status, _, errors = client("--grpc")
    assert status == 1
    assert errors.startswith("--grpc needs the extra `serving`. Received: ModuleNotFoundError(")
