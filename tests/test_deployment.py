"""What starts a server in production, against the exported models and against each other.

There is no server here: see docs/serving.md for what of this was run.
"""

import contextlib
import http.server
import pathlib
import re
import shutil
import subprocess
import threading

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

ROOT = pathlib.Path(__file__).parents[1]
HERE, SAVED_MODELS = ROOT / "docs" / "serving", ROOT / "saved_models"
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
MODELS_CONFIG = (SAVED_MODELS / "models.config").read_text(encoding="utf-8")
MONITORING = (HERE / "monitoring.config").read_text(encoding="utf-8")


def read(path):
    return yaml.safe_load((HERE / path).read_text(encoding="utf-8"))


COMPOSE, PROMETHEUS = read("compose.yaml"), read("prometheus.yml")
SERVING = COMPOSE["services"]["serving"]
DEPLOYMENT = read("kubernetes/deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
PROBES = [CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
HEALTH_CHECK = SERVING["healthcheck"]["test"]
# The lines of the page that start a server.
RUNS = [line for line in PAGE.splitlines() if line.startswith("docker run")]

# The labels of each model, by its name.
LISTED = {
    re.search('name: "(.+)"', entry)[1]: re.findall(r'key: "(\w+)"', entry)
    for entry in MODELS_CONFIG.split("  config {\n")[1:]
}
# The directory of each entry, below that of the models.
BASE_PATHS = re.findall('base_path: "/models/(.+)"', MODELS_CONFIG)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


# === Names ===
@pytest.mark.parametrize(
    "path",
    [*(probe["path"] for probe in PROBES), re.search("GET (.+) HTTP", HEALTH_CHECK[-1])[1]],
)
def test_what_is_probed_is_listed(path):
    found = re.fullmatch(r"/v1/models/([^/:]+)(?:/labels/([^/:]+)/metadata)?", path)
    assert found, path
    name, label = found.groups()
    assert name in LISTED
    assert label is None or label in LISTED[name]


@pytest.mark.parametrize("page", ["docs/serving.md", "scripts/serving_client.py"])
def test_pages_name_models_that_are_listed(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    models = "|".join({path.split("/")[0] for path in BASE_PATHS})
    named = re.findall(rf"\b((?:{models})_rk4_(?:\d+_steps|h0p\d+))", text)
    assert named
    assert set(named) <= LISTED.keys()


def test_every_model_has_a_name_to_read_and_its_old_one():
    old = {path.replace("/", "_") for path in BASE_PATHS}
    assert old <= LISTED.keys()
    others = LISTED.keys() - old
    assert len(others) == len(old)
    assert [name for name in others if not re.fullmatch(r"\w+_rk4_\d+_steps", name)] == []


# === Paths, ports and options ===
def options_of(words):
    pairs = [word.removeprefix("--").split("=", 1) for word in words if word.startswith("--")]
    return dict(pair for pair in pairs if len(pair) == 2)


def test_the_server_is_started_in_one_way():
    compose, pod = options_of(SERVING["command"]), options_of(CONTAINER["args"])
    # A pod keeps its list, and a new one is rolled out.
    assert pod == {
        **{name: value for name, value in compose.items() if "poll" not in name},
        "model_config_file": "/config/models.config",
    }
    (line,) = RUNS
    measures = {"monitoring_config_file": "/config/monitoring.config"}
    assert options_of(line.split()) | measures == compose
    (image,) = re.findall(r"tensorflow/serving:\S+", line)
    assert image == SERVING["image"] == CONTAINER["image"]


def test_what_the_server_reads_is_there():
    options = options_of(SERVING["command"])
    mounted = {place: HERE / host for host, place, _ in (v.split(":") for v in SERVING["volumes"])}
    assert mounted["/models"].resolve() == SAVED_MODELS
    assert options["model_config_file"] == "/models/models.config"
    assert mounted[options["monitoring_config_file"]] == HERE / "monitoring.config"
    assert len(BASE_PATHS) == len(LISTED)
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert mounts == {"models": "/models", "config": "/config"}


def test_measurements_are_where_they_are_looked_for():
    (path,) = re.findall('path: "(.+)"', MONITORING)
    (job,) = PROMETHEUS["scrape_configs"]
    annotations = POD["metadata"]["annotations"]
    assert path == job["metrics_path"] == annotations["prometheus.io/path"]
    ((target,),) = (config["targets"] for config in job["static_configs"])
    name, port = target.split(":")
    assert name in COMPOSE["services"]
    assert port == annotations["prometheus.io/port"] == "8501"
    prometheus = COMPOSE["services"]["prometheus"]
    (volume,) = prometheus["volumes"]
    assert HERE / volume.split(":")[0] == HERE / "prometheus.yml"
    assert prometheus["depends_on"] == {name: {"condition": "service_healthy"}}


def test_ports_agree():
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {probe["port"] for probe in PROBES} == {"rest"}
    service = read("kubernetes/service.yaml")["spec"]["ports"]
    assert {port["targetPort"]: port["port"] for port in service} == ports
    published = [port.split(":") for port in SERVING["ports"]]
    # Open to this machine alone.
    assert published == [["127.0.0.1", str(port), str(port)] for port in ports.values()]
    assert f"/dev/tcp/127.0.0.1/{ports['rest']} " in HEALTH_CHECK[-1]


# === Kubernetes ===
def test_manifests_belong_together():
    labels = POD["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert read("kubernetes/service.yaml")["spec"]["selector"] == labels
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes.keys()
    claim = read("kubernetes/volume.yaml")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    server = read("kustomization.yaml")
    models = yaml.safe_load((SAVED_MODELS / "kustomization.yaml").read_text(encoding="utf-8"))
    (of_server,), (of_models,) = (k["configMapGenerator"] for k in (server, models))
    assert of_server["name"] == of_models["name"] == volumes["config"]["configMap"]["name"]
    assert of_models["behavior"] == "merge"
    assert of_server["files"] + of_models["files"] == ["monitoring.config", "models.config"]
    assert [(SAVED_MODELS / path).resolve() for path in models["resources"]] == [HERE]
    manifests = {path.relative_to(HERE).as_posix() for path in HERE.glob("kubernetes/*.yaml")}
    assert set(server["resources"]) == manifests


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on the PATH")
def test_kustomize_puts_the_files_as_they_are_into_one_config_map():
    command = ["kubectl", "kustomize", str(SAVED_MODELS)]
    printed = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    found = {manifest["kind"]: manifest for manifest in yaml.safe_load_all(printed)}
    assert found.keys() == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"}
    config = found["ConfigMap"]
    assert config["data"] == {"models.config": MODELS_CONFIG, "monitoring.config": MONITORING}
    volumes = found["Deployment"]["spec"]["template"]["spec"]["volumes"]
    (used,) = (volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
    assert used == config["metadata"]["name"]
    # A hash of the files, so that another list is another name.
    assert re.fullmatch(r"tfnode-serving-\w{10}", used)


# === The health check ===
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.server.paths.append(self.path)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def answering(status):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.status, server.paths = status, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def is_healthy(port):
    kind, *command, script = HEALTH_CHECK
    assert kind == "CMD"
    # A dollar would be compose's.
    assert "$" not in script
    script = script.replace("/8501 ", f"/{port} ")
    return not subprocess.run([*command, script], capture_output=True, timeout=30).returncode


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on the PATH")
def test_the_health_check_tells_who_answers():
    with answering(200) as server:
        assert is_healthy(server.server_port)
        (path,) = server.paths
        assert path.endswith("/labels/stable/metadata")
    assert not is_healthy(server.server_port)
    with answering(404) as server:
        assert not is_healthy(server.server_port)
