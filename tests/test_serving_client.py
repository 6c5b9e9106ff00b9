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
import time

import fences
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
from scripts import serving_client
from scripts.serving import transports
from scripts.serving.transports import GrpcClient, RestClient, ServingError, Target
from tfnode.export.graphs import write_graphs
from tfnode.solvers import RK4, Euler

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
        self.answer = self.metadata = None
        # The solvers that a request may choose.
        self.signatures = {"serving_default": probabilities}

    def handle_error(self, *_):
        """A client that hangs up is none."""


MODEL = "/v1/models/small(/labels/stable|/versions/3)?"
NOT_FOUND = 404, json.dumps({"error": "Servable not found for request"})


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        status, text = 200, self.server.answer
        if not re.fullmatch(f"{MODEL}:predict", self.path):
            status, text = NOT_FOUND
        elif text is None:
            predict = self.server.signatures[body["signature_name"]]
            rows = predict(np.array(body["instances"], "float32")).tolist()
            text = json.dumps({"predictions": [{"logits": p, "probabilities": p} for p in rows]})
        elif callable(text):
            self.close_connection = True
            return text(self)
        elif isinstance(text, tuple):
            status, text = text
        self.send(status, text)

    def do_GET(self):
        names = ["__saved_model_init_op", *self.server.signatures]
        signatures = {name: {"inputs": {}} for name in names}
        metadata = {"metadata": {"signature_def": {"signature_def": signatures}}}
        known = 200, self.server.metadata or json.dumps(metadata)
        self.send(*(known if re.fullmatch(f"{MODEL}/metadata", self.path) else NOT_FOUND))

    def send(self, status, text):
        self.send_response(status)
        body = text.encode(errors="surrogateescape")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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
    server.signatures["rk4_h0p25"] = probabilities
    ask(RestClient(target(server, signature="rk4_h0p25", **changes)), X[:1])
    assert server.requests[0][0] == f"/v1/models/small{path}:predict"
    assert server.requests[0][1]["signature_name"] == "rk4_h0p25"


@pytest.fixture(scope="module")
def solvers(tmp_path_factory):
    """A SavedModel with a signature for each solver, as functions; and what Keras answers."""
    block = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), Euler(1.0))
    model = keras.Sequential([keras.Input((2,), name="point"), block, keras.layers.Dense(3)])
    first, second = (tfnode.with_solver(model, solver) for solver in (Euler(1.0), RK4(1 / 2)))
    names = {"euler_1_step": first, "rk4_2_steps": second}
    path = tmp_path_factory.mktemp("small") / "1"
    write_graphs(path, {"serving_default": first, **names, "euler_h1": first})
    loaded = tf.saved_model.load(path)

    def function(signature):
        def predict(x):
            # `loaded` owns the variables.
            return loaded.signatures[signature](point=tf.constant(x))["probabilities"].numpy()

        return predict

    expected = {name: keras.ops.softmax(twin(X)) for name, twin in names.items()}
    return {name: function(name) for name in loaded.signatures}, expected


def test_a_request_chooses_its_solver(server, solvers):
    server.signatures, expected = solvers
    found = {
        name: ask(RestClient(target(server, signature=name)), X)
        for name in (*expected, "serving_default", "euler_h1")
    }
    for name, probabilities in expected.items():
        np.testing.assert_allclose(found[name], probabilities, rtol=1e-4, atol=1e-6)
    # Two solvers, of which the first is the default, and has its old name.
    first, second = (found[name] for name in expected)
    assert abs(first - second).max() > 1e-3
    for name in ("serving_default", "euler_h1"):
        np.testing.assert_array_equal(found[name], first)


def test_the_command_line_names_a_solver(server, client):
    server.signatures["rk4_4_steps"] = probabilities
    status, output, errors = client("--solver", "rk4_4_steps")
    assert (status, errors) == (0, "")
    assert "accuracy    90.00 % of 50 samples" in output
    assert {body["signature_name"] for _, body in server.requests} == {"rk4_4_steps"}
    server.requests.clear()
    status, output, errors = client("--solver", "rk4_5_steps", "--label", "stable")
    assert (status, output, server.requests) == (1, "", [])
    assert errors == (
        "The model has the signatures ['rk4_4_steps', 'serving_default']. Received: --signature "
        "rk4_5_steps. Name one of these by --solver.\n"
    )


@pytest.mark.parametrize(
    "metadata",
    ["[]", "null", "{}", '{"metadata": {"signature_def": {"signature_def": [1]}}}', "no json"],
)
def test_metadata_that_cannot_be_used(metadata, server, client):
    server.metadata = metadata
    status, output, errors = client("--solver", "rk4_4_steps")
    assert (status, output) == (1, "")
    assert re.fullmatch(
        r".* must (list its signatures|be JSON)\. Received: .* from http.*\n", errors
    )


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


def rows(*probabilities):
    """An answer of 8 rows, the last of which are these."""
    good = ["[0.5, 0.25, 0.25]"] * (8 - len(probabilities))
    objects = [f'{{"probabilities": {row}}}' for row in (*good, *probabilities)]
    return f'{{"predictions": [{", ".join(objects)}]}}'


HTML = (200, "<!DOCTYPE html>\n<html>\n<body>It works!</body>\n" + "<p>" * 10_000)
NO_PROBABILITIES = r"must lie in \[0, 1\] and add up to 1\. Received: "
ANSWERS = {
    "an error": ((400, '{"error": "not finite"}'), r'400 from .*: \{"error": "not finite"\}'),
    "an error page": ((502, HTML[1]), "502 from .*: <!DOCTYPE html> <html> <body>It works"),
    "a page": (HTML, "must be JSON. Received: <!DOCTYPE html> <html> .* TensorFlow Serving?"),
    "no JSON": ("no json", "An answer must be JSON. Received: no json from http://"),
    "nothing": ("", "must be JSON. Received:  from http://"),
    "codes of a terminal": ("\x1b[2J\x07", r"must be JSON. Received: \?\[2J\? from"),
    "half an answer": (rows()[:100], 'must be JSON. Received: {"predictions"'),
    "bytes that are no text": ("\udcff", "must be JSON"),
    "deep nesting": ("[" * 200_000, "must be JSON. .* recursion"),
    "deep nesting in a row": (rows("[" * 500 + "]" * 500), NO_PROBABILITIES),
    "NaN": (rows("[NaN, 0, 1]"), "must be JSON. .*: it holds NaN"),
    "infinity": (rows("[-Infinity, 0, 1]"), "must be JSON. .*: it holds -Infinity"),
    "infinity by its exponent": (rows("[1e999, 0, 1]"), NO_PROBABILITIES + r"\[inf, 0, 1\]"),
    "a number without end": (rows(f"[{'9' * 400}, 0, 1]"), NO_PROBABILITIES),
    "text": (rows('["a", "b", "c"]'), NO_PROBABILITIES + r"\['a', 'b', 'c'\]"),
    "numbers as text": (rows('["1", "0", "0"]'), NO_PROBABILITIES),
    "null": (rows("[null, 0.5, 0.5]"), NO_PROBABILITIES + r"\[None, 0.5, 0.5\]"),
    "objects": (rows("[{}, {}, {}]"), NO_PROBABILITIES),
    "logits": (rows("[2.5, -1.0, 0.5]"), NO_PROBABILITIES + r"\[2.5, -1.0, 0.5\]"),
    "beyond 1": (rows("[1.5, -0.5, 0]"), NO_PROBABILITIES),
    "not one in all": (rows("[0.5, 0.1, 0.1]"), NO_PROBABILITIES),
    "another width": (rows(*["[0.5, 0.5]"] * 8), "3 classes of the test set. .* of 2"),
    "more classes": (rows(*["[0.25, 0.25, 0.25, 0.25]"] * 8), "3 classes .* of 4"),
    "two widths": (rows("[0.5, 0.5]"), r"8 rows .* of one length. .* \[2, 3\]"),
    "no probabilities": ('{"predictions": [[0.5, 0.5]]}', "must have a row of 'probabilities'"),
    "no predictions": ('{"outputs": 1}', "must have a row of 'probabilities'"),
    "a list": ("[]", "must have a row of 'probabilities'"),
    "null alone": ("null", "must have a row of 'probabilities'"),
    "too few": (
        '{"predictions": [{"probabilities": [1, 0, 0]}]}',
        r"8 rows .*: 1 rows of the lengths \[3\]",
    ),
    "too many": (rows(*["[1, 0, 0]"] * 9), r"8 rows .*: 9 rows of the lengths \[3\]"),
    "none": ('{"predictions": []}', "must have 8 rows .*: 0 rows"),
    "numbers": ('{"predictions": [{"probabilities": 1}]}', NO_PROBABILITIES + "1"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_that_cannot_be_used(kind, server, client):
    server.answer, message = ANSWERS[kind]
    status, output, errors = client("--batch-size", "8", "--threads", "2")
    assert (status, output) == (1, "")
    assert re.search(message, errors)
    # One line, which a terminal can show.
    assert errors.endswith("\n") and errors[:-1].isprintable()
    assert len(errors) < 600


def test_an_answer_that_would_fill_the_memory(server, client, monkeypatch):
    monkeypatch.setattr(transports, "LARGEST_ANSWER", 2**20)
    server.answer = " " * 2**21
    status, output, errors = client()
    assert (status, output) == (1, "")
    assert re.fullmatch(r"An answer must have at most 1048576 bytes\. Received: more, .*\n", errors)


def test_an_answer_that_does_not_end(server):
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(50):
                handler.wfile.write(b" ")
                time.sleep(0.1)

    server.answer = drip
    with pytest.raises(ServingError, match=r"TimeoutError.*the answer did not end in time"):
        ask(RestClient(target(server, timeout=0.2)), X[:1])


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


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "", ".", "a b", "a\nb", "a\0b", "\ud800"])
def test_a_host_that_has_no_name_is_refused(server, client, host):
    with pytest.raises(ServingError, match=r"must have a name.* Received: host=.* Name it as"):
        target(server, host=host)
    status, _, errors = client("--host", host)
    assert status == 1
    assert f"Received: host={host!r}" in errors


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "xn--e1afmkfd", "größe.example", "a.b."])
def test_a_host_has_a_name_or_an_address(server, host):
    assert target(server, host=host).host == host


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
        (["unknown_model"], "'cifar10_conv']. Received: 'unknown_model'. Name a --dataset"),
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
        "mnist_rk4_8_steps": "mnist",
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
        requests, inputs, answer = [], ["point"], None
        signatures = {"serving_default": probabilities}

        def GetModelMetadata(self, request, context):
            if request.model_spec.name != "small":
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
            signature = meta_graph_pb2.SignatureDef()
            for name in self.inputs:
                signature.inputs[name].name = f"serving_default_{name}:0"
            definitions = get_model_metadata_pb2.SignatureDefMap()
            for name in self.signatures:
                definitions.signature_def[name].CopyFrom(signature)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(definitions)
            return response

        def Predict(self, request, context):
            self.requests.append(request)
            (given,) = request.inputs.values()
            x = tf.make_ndarray(given)
            if not np.isfinite(x).all():
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not finite")
            response = predict_pb2.PredictResponse()
            predict = self.signatures[request.model_spec.signature_name]
            answer = predict(x) if self.answer is None else self.answer
            response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto(answer))
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
def test_the_request_of_the_page(grpc_server, capsys):
    grpc_server.signatures = {"": probabilities}
    _, code = fences.of("docs/serving.md", "python", 0, 1)
    exec(code.replace(":8500", f":{grpc_server.server_port}"), {})
    (request,) = grpc_server.requests
    assert request.model_spec.version_label == "stable"
    assert capsys.readouterr().out == f"{probabilities(np.array([[0.5, -1.0], [1.5, 0.0]]))}\n"


@needs_serving
def test_a_request_over_grpc_chooses_its_solver(grpc_server, solvers):
    grpc_server.signatures, expected = solvers
    for name, probabilities in expected.items():
        found = ask(GrpcClient(target(grpc_server, signature=name)), X)
        np.testing.assert_allclose(found, probabilities, rtol=1e-4, atol=1e-6)
    with pytest.raises(ServingError, match=r"\['euler_1_step', .*--signature rk4_5_steps"):
        GrpcClient(target(grpc_server, signature="rk4_5_steps"))


@needs_serving
def test_a_client_over_grpc_that_is_not_made_is_closed(grpc_server, monkeypatch):
    import grpc

    channels, make = [], grpc.insecure_channel

    def record(address):
        channels.append(make(address))
        return channels[-1]

    monkeypatch.setattr(grpc, "insecure_channel", record)
    with pytest.raises(ServingError):
        GrpcClient(target(grpc_server, signature="rk4"))
    (channel,) = channels
    with pytest.raises(ValueError, match="closed channel"):
        channel.unary_unary("any")(b"")


@needs_serving
def test_misuse_of_grpc(grpc_server):
    with pytest.raises(ServingError, match=r"Received: NOT_FOUND from .*: Servable not found"):
        GrpcClient(target(grpc_server, model="other"))
    with pytest.raises(ServingError, match=r"\['serving_default'\]. Received: --signature rk4"):
        GrpcClient(target(grpc_server, signature="rk4"))
    with pytest.raises(ServingError, match=r"Received: INVALID_ARGUMENT from .*: not finite"):
        ask(GrpcClient(target(grpc_server)), np.full((1, 2), np.inf))


@needs_serving
@pytest.mark.parametrize(
    "answer, message",
    [
        ([[np.nan, 0.5, 0.5]], NO_PROBABILITIES + r"\[nan, 0.5, 0.5\]"),
        ([["a", "b", "c"]], NO_PROBABILITIES + r"\[b'a', b'b', b'c'\]"),
        (1.0, NO_PROBABILITIES + "1.0"),
        ([[[0.5, 0.5]]], NO_PROBABILITIES),
        ([[0.5, 0.5]] * 2, "must have 1 rows .*: 2 rows"),
    ],
)
def test_answers_over_grpc_that_cannot_be_used(answer, message, grpc_server):
    grpc_server.answer = answer
    with pytest.raises(ServingError, match=message):
        ask(GrpcClient(target(grpc_server)), X[:1])


@needs_serving
def test_a_model_of_several_inputs_has_no_test_set(grpc_server):
    grpc_server.inputs = ["b", "a"]
    with pytest.raises(ServingError, match=r"has one input.* the inputs \['a', 'b'\]"):
        GrpcClient(target(grpc_server))


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
