"""The installed command: its answers for people and for programs, its exit status, and misuse."""

import configparser
import csv
import importlib
import io
import json
import os
import pathlib
import re
import shlex
import signal
import sys
import zipfile

import keras
import numpy as np
import pytest
from stand_ins import StandInZoo

import tfnode
import zoo
from scripts import verify_zoo
from tfnode.solvers import RK4, BogackiShampine32, Euler
from zoo import archives, hub, verification
from zoo.commands import command_line, main, subjects, table1

ROOT = pathlib.Path(__file__).parents[1]
X = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype("float32")


@pytest.fixture
def ask(capsys):
    """Runs a command line; returns the exit status and what is printed."""

    def run(*arguments):
        status = main.answer([str(argument) for argument in arguments])
        return status, capsys.readouterr().out

    return run


@pytest.fixture
def series(tmp_path):
    """A model of a time series as a file, and data that fits its steps of Euler's method."""
    block = tfnode.ODEBlock(keras.layers.Rescaling(-0.5), Euler(1.0), t1=2.0, save_at=(1.0, 2.0))
    keras.Sequential([keras.Input((1,)), block], name="mine").save(tmp_path / "mine.keras")
    x = np.array([[1.0], [2.0], [4.0]])
    np.savez(tmp_path / "test.npz", x=x, y=x[:, None] * np.array([[0.5], [0.25]]))
    return tmp_path / "mine.keras", tmp_path / "test.npz"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    return StandInZoo(tmp_path, monkeypatch)


@pytest.fixture
def paths(tmp_path):
    """A model as a file, and data for it: each class is the sign of the first coordinate."""

    def write(solver, factor=-1.0):
        field = keras.layers.Rescaling(factor)
        block = tfnode.ODEBlock(field, solver)
        logits = keras.layers.Dense(2, use_bias=False)
        model = keras.Sequential([keras.Input((2,)), block, logits], name="mine")
        logits.set_weights([np.array([[-1.0, 1.0], [0.0, 0.0]])])
        model.save(tmp_path / "mine.keras")
        np.savez(tmp_path / "test.npz", x=X, y=(X[:, 0] > 0).astype(int))
        return tmp_path / "mine.keras", tmp_path / "test.npz"

    return write


# === check ===
def test_an_ode_is_a_yes(ask, paths, tmp_path):
    model, data = paths(RK4(1 / 4))
    options = ("--data", data, "--reference-steps", 8)
    figure = tmp_path / "new" / "figure.svg"
    page = tmp_path / "new" / "page.html"
    drawn = ("--figure", figure, "--html", page, "--class-names", "left", "right")
    status, printed = ask("check", model, *options, *drawn)
    assert status == 0
    assert printed.startswith(f"{model} is an ODE: gap 0.0000, threshold 0.02, 40 samples\n")
    assert printed.splitlines()[1].split()[2:] == ["accuracy", "gap", "error"]
    assert [line.partition(" ")[0] for line in printed.splitlines()[-4:]] == [
        *("*", "step/tolerance:", "gap:", "error:")
    ]
    assert "\ngap: the difference in accuracy, as a fraction, from the first row\n" in printed
    assert figure.read_text(encoding="utf-8").startswith("<?xml")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert f"Is {model} an ODE?" in text
    # Named where an answer is near to a change.
    assert '<bdi title="left">left</bdi> before <bdi title="right">right</bdi>' in text


def test_names_of_classes_are_as_many_as_they_are_and_for_a_page(ask, paths, tmp_path, capsys):
    model, data = paths(RK4(1 / 4))
    page = tmp_path / "page.html"
    with pytest.raises(command_line.Stop, match=r"each of the 2 classes.* Received: class_names="):
        ask("check", model, "--data", data, "--html", page, "--class-names", "one")
    assert not page.exists()
    with pytest.raises(SystemExit):
        ask("check", model, "--data", data, "--class-names", "left", "right")
    assert "--class-names is for --html. Received: " in capsys.readouterr().err


@pytest.mark.parametrize("shape, count", [((None,), 2), ((None, 1), 2), ((None, 3), 3)])
def test_names_are_as_many_as_the_classes_of_an_output(shape, count):
    class Answering:
        output_shape = shape

    subjects.check_names("abc"[:count], Answering())
    with pytest.raises(ValueError, match=rf"each of the {count} classes.* Received: class_names="):
        subjects.check_names("a", Answering())


def test_a_model_that_is_none_is_a_no_and_json_is_the_report(ask, paths):
    # One step of Euler's method takes z to -2 z, and the flow never changes the sign.
    model, data = paths(Euler(1.0), factor=-3.0)
    status, printed = ask("check", model, "--data", data, "--reference-steps", 8, "--json")
    assert status == 1
    report = tfnode.validity.ValidityReport.from_json(printed)
    assert (report.is_ode, report.gap, report.num_samples) == (False, 1.0, 40)
    status, _ = ask("check", model, "--data", data, "--reference-steps", 8, "--threshold", 0.99999)
    assert status == 1


def test_pretrained_weights_know_their_data(ask, stand_in):
    name, model = stand_in.add(rk4_steps=8, test_samples=50)
    status, printed = ask("check", name, "--json")
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test[:50]", as_numpy=True)
    report = tfnode.validity.check(model, (x, y), reference_steps=8)
    found = json.loads(printed)
    assert (status, found["num_samples"]) == (1 - report.is_ode, 50)
    assert found["gap"] == report.gap
    _, printed = ask("check", name, "--data", "energy_landscape/three_minima:validation[:20]")
    assert printed.startswith(f"{name} is ")
    assert ", 20 samples" in printed
    # Asked by its model, they are named too.
    stand_in.content["default"] = {model.name: name}
    stand_in.write()
    _, printed = ask("check", model.name, "--data", "energy_landscape/three_minima:test[:20]")
    assert printed.startswith(f"{name} is ")


def test_a_time_series_is_judged_as_such_too(ask, series):
    model, data = series
    status, printed = ask("check", model, "--data", data, "--reference-steps", 16)
    assert status == 1
    last = printed.splitlines()[-1]
    assert last.startswith("as a time series: bound to the times of its training; at nearer times ")
    assert last.endswith("threshold 0.02, with a kink at the distance of the training")
    _, printed = ask("check", model, "--data", data, "--reference-steps", 16, "--json")
    assert tfnode.validity.ValidityReport.from_json(printed).series.has_kink


def test_a_figure_needs_matplotlib_before_the_work(ask, paths, tmp_path, monkeypatch):
    model, data = paths(RK4(1 / 4))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(tfnode.validity, "check", None)
    for option, name in (("--figure", "new.png"), ("--html", "new.html")):
        with pytest.raises(command_line.Stop, match="needs `matplotlib`") as stop:
            ask("check", model, "--data", data, option, tmp_path / name)
        assert stop.value.status == 2


def test_regression_is_judged_too(ask, paths):
    model, data = paths(RK4(1 / 4))
    np.savez(data, x=X, y=np.stack([X[:, 0], X[:, 1]], axis=1))
    status, printed = ask("check", model, "--data", data, "--reference-steps", 8)
    assert status == 0
    assert printed.startswith(f"{model} is an ODE: gap 0.000")
    # There is no accuracy.
    assert printed.splitlines()[1].split() == ["solver", "step/tolerance", "gap", "error"]
    assert "\ngap: the distance of the outputs, over their spread, from the first row\n" in printed


# === export ===
def test_versions_are_written_under_the_solvers_that_are_named(ask, paths, tmp_path):
    model, _ = paths(RK4(1 / 4))
    out = tmp_path / "served"
    status, printed = ask("export", model, out, "--solver", "rk4:1/4", "--solver", "euler:0.125")
    written = [out / "rk4_h0p25" / "1", out / "euler_h0p125" / "1", out / "models.config"]
    assert (status, printed.splitlines()) == (0, [f"Written: {path}" for path in written])
    assert all(path.exists() for path in written)
    card = json.loads((written[0] / "assets.extra/validity.json").read_text(encoding="utf-8"))
    assert card["is_valid"] is False


def test_pretrained_weights_are_exported_with_their_report(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(tfnode.validity, "check", None)
    out = tmp_path / "served"
    status, printed = ask("export", "energy_landscape", out, "--require-valid", "--json")
    (path, config) = json.loads(printed)
    assert (status, config) == (0, str(out / "models.config"))
    card = json.loads((pathlib.Path(path) / "assets.extra/validity.json").read_text("utf-8"))
    assert card["is_valid"] is True
    assert card["data"]["name"] == "energy_landscape/three_minima:test"


def test_blocks_with_several_solvers_need_one_that_is_named(ask, tmp_path):
    blocks = [tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(h)) for h in (1 / 2, 1 / 4)]
    keras.Sequential([keras.Input((2,)), *blocks]).save(tmp_path / "two.keras")
    with pytest.raises(command_line.Stop, match="if all its blocks have the same") as stop:
        ask("export", tmp_path / "two.keras", tmp_path / "served")
    assert stop.value.status == 2


def test_a_regression_is_exported_without_a_verdict(ask, paths, tmp_path):
    model, data = paths(RK4(1 / 4))
    np.savez(data, x=X, y=X)
    line = ("export", model, tmp_path / "served", "--data", data)
    status, printed = ask(*line)
    version = tmp_path / "served" / "rk4_h0p25" / "1"
    assert (status, printed.splitlines()[0]) == (0, f"Written: {version}")
    with pytest.raises(command_line.Stop, match="Received: targets of a regression"):
        ask(*line, "--require-valid")


@pytest.mark.parametrize(
    "line", ["check MODEL --data DATA", "export MODEL OUT", "export MODEL OUT --solver rk4:1/4"]
)
def test_a_model_without_a_block_is_told_what_to_do(ask, tmp_path, line):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]).save(tmp_path / "rn.keras")
    np.savez(tmp_path / "test.npz", x=X, y=(X[:, 0] > 0).astype(int))
    places = {"MODEL": "rn.keras", "DATA": "test.npz", "OUT": "out"}
    arguments = [tmp_path / places[a] if a in places else a for a in line.split()]
    with pytest.raises(command_line.Stop, match=r"must have an `ODEBlock`.*without any block"):
        ask(*arguments)


# === zoo ===
def test_the_zoo_is_listed(ask, stand_in):
    name, _ = stand_in.add()
    assert ask("zoo", "list", "cifar*") == (0, "cifar10\ncifar10_conv\n")
    assert ask("zoo", "list", "zzz") == (0, "There are no such models.\n")
    nothing = (0, "There are no such pretrained weights.\n")
    assert ask("zoo", "list", "zzz", "--pretrained") == nothing
    assert ask("zoo", "list", "zzz", "--json") == (0, "[]\n")
    table = zoo.list_models(pretrained=True)
    assert ask("zoo", "list", "--pretrained") == (0, f"{table}\n")
    status, printed = ask("zoo", "list", name, "--pretrained", "--json")
    assert (status, json.loads(printed)) == (0, table.records)


def test_a_reader_may_have_read_enough(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main.answer(["zoo", "list"]) == 128 + signal.SIGPIPE


def test_weights_are_fetched(ask, stand_in, monkeypatch):
    shipped, _ = stand_in.add()
    fetched, _ = stand_in.add("mnist", shipped=False)
    monkeypatch.setenv("TFNODE_ZOO_URL", stand_in.server.as_uri())
    status, printed = ask("zoo", "fetch", "--json")
    assert (status, json.loads(printed)) == (
        0,
        {
            shipped: str(stand_in.shipped / f"{shipped}.weights.h5"),
            fetched: str(stand_in.home / f"{fetched}.weights.h5"),
        },
    )
    stand_in.content["default"] = {"mnist": fetched}
    stand_in.write()
    for name in (fetched, "mnist"):
        assert ask("zoo", "fetch", name) == (0, f"{stand_in.home / fetched}.weights.h5\n")


def test_weights_are_verified_as_by_the_script(ask, stand_in, monkeypatch, capsys):
    name, _ = stand_in.add()
    rows = [(name, "gap", "0.1000", "0.1000", True), (name, "rk4_steps", 8, 9, False)]
    monkeypatch.setattr(verification, "compare", lambda entry: rows)
    status, printed = ask("zoo", "verify", name)
    assert (status, printed.splitlines()[-1].split()) == (
        1,
        [name, "rk4_steps", "8", "9", "differs"],
    )
    assert verify_zoo.main([name]) == 1
    assert capsys.readouterr().out == printed
    status, printed = ask("zoo", "verify", "--json")
    first, _ = json.loads(printed)
    values = {"quantity": "gap", "expected": "0.1000", "found": "0.1000", "agree": True}
    assert (status, first) == (1, {"weights": name, **values})


# === Misuse ===
MISUSE = {
    "": "the following arguments are required: COMMAND",
    "train": "invalid choice: 'train'",
    "check": "the following arguments are required: MODEL",
    "check nowhere.keras": "MODEL must be a file that is there. Received: 'nowhere.keras'",
    "check mnist --data no.npz": "--data must be a file that is there. Received: 'no.npz'",
    "check hf://user/mine": "Received: MODEL='hf://user/mine' alone. Pass a file of arrays",
    "check mnist --reference-steps 1": "must be an integer of at least 2. Received: 1",
    "check mnist --threshold -1": "must be a number of at least 0. Received: -1",
    "check mnist --figure a.svg --html ./a.svg": "must be two files. Received: 'a.svg' for both",
    "check mnist --figure report.txt": "--figure must end in one of",
    **{
        f"check mnist {option} {path}": f"`{option}` must be a file that can be written"
        for option in ("--figure", "--html")
        for path in ("FOLDER.png", f"{'x' * 256}.png", "FILE/new.png")
    },
    "check mnist --jso": "unrecognized arguments: --jso",
    "export mnist": "the following arguments are required: OUT",
    "export mnist out --solver rk4:": "must be a name, or a name and a step",
    "export mnist out --solver rk4:1/0": "Received: rk4:1/0",
    "export mnist out --solver rk4:1e400": "Received: rk4:1e400",
    "export hf://user/mine out --reference-steps 8": "which needs data. Received: 8 without",
    "export mnist FILE": "must be a directory that can be written to",
    "zoo": "the following arguments are required: COMMAND",
    "zoo fetch mnist_v9": "`name` must be that of pretrained weights",
    "zoo verify --quick energy_landscape_rk4_damped_v1": "--quick chooses the weights itself",
}


@pytest.mark.parametrize("line", MISUSE)
def test_misuse_is_answered_by_the_rule_and_what_came(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    (tmp_path / "FOLDER.png").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main.answer(line.split())
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (2, "")
    assert said.err.startswith("usage: ")
    assert MISUSE[line] in said.err


@pytest.mark.parametrize(
    "line, rule",
    [
        ("check imagenet", "`name` must be that of pretrained weights"),
        ("check mnist_rk4", r"Did you mean .*'mnist_rk4_.*`tfnode zoo list --pretrained`"),
        ("check MODEL --data imagenet", "`name` must be one of"),
        ("check MODEL --data MODEL.npz", "Data must be an .npz file with the arrays"),
        ("check BROKEN --data DATA", "A model is loaded from a whole `.keras` file"),
        ("check MODEL --data DATA --threshold 2", "`threshold` must be"),
        ("export MODEL OUT --solver leapfrog", "A solver is one of the names"),
        ("export MODEL OUT --require-valid", "A verdict is one on data"),
    ],
)
def test_what_cannot_be_answered_ends_with_two(ask, paths, tmp_path, line, rule):
    model, data = paths(RK4(1 / 4))
    (tmp_path / "mine.keras.npz").write_bytes(b"no arrays")
    (tmp_path / "broken.keras").write_bytes(b"no model")
    places = {"BROKEN": tmp_path / "broken.keras", "MODEL": model, "DATA": data}
    for key, place in {**places, "OUT": tmp_path / "out"}.items():
        line = line.replace(key, str(place))
    with pytest.raises(command_line.Stop, match=rule) as stop:
        ask(*line.split())
    assert stop.value.status == 2


def test_an_error_that_nobody_expected_is_no_answer(monkeypatch, capsys):
    monkeypatch.setattr(zoo, "list_models", lambda pattern: [][0])
    assert main.answer(["zoo", "list"]) == 2
    assert "IndexError: list index out of range" in capsys.readouterr().err


def test_steps_that_do_not_arrive_are_no_answer(ask, tmp_path):
    block = tfnode.ODEBlock(keras.layers.Rescaling(-9.0), BogackiShampine32(max_num_steps=3))
    model = keras.Sequential([keras.Input((2,)), block])
    model.save(tmp_path / "mine.keras")
    np.savez(tmp_path / "test.npz", x=X, y=(X[:, 0] > 0).astype(int))
    with pytest.raises(command_line.Stop, match="max_num_steps") as stop:
        ask("check", tmp_path / "mine.keras", "--data", tmp_path / "test.npz")
    assert stop.value.status == 2


# === table1 ===
def test_the_table_is_that_of_the_results(ask):
    text = (ROOT / "docs/results/table1/table1.csv").read_text(encoding="utf-8")
    assert table1.PATH.read_text(encoding="utf-8") == text
    status, printed = ask("table1")
    rows = list(csv.reader(text.splitlines()))
    lines = printed.splitlines()
    assert (status, len(lines)) == (0, len(rows))
    assert all(cell in line for row, line in zip(rows, lines) for cell in row)
    status, printed = ask("table1", "--json")
    record = next(r for r in json.loads(printed) if r["dataset"] == "MNIST")
    assert record == {
        "dataset": "MNIST",
        "whose": "paper",
        "grid": {"NFE": "9-16", "accuracy %": "96.5 ± 0.2", "under RK4 %": ""},
        "adaption": {
            "NFE": "9.8",
            "with checks": "",
            "accuracy %": "95.6 ± 0.5",
            "under RK4 %": "",
        },
    }

    # === Installed ===


def test_the_entry_point_is_there():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    scripts = config["options.entry_points"]["console_scripts"].split("=")
    module, _, function = scripts[1].strip().partition(":")
    assert scripts[0].strip() == "tfnode"
    assert getattr(importlib.import_module(module), function) is main.main
    # The pattern takes this package, too.
    assert "zoo*" in config["options.packages.find"]["include"].split()


LINES = ["", "check", "export", "zoo", "zoo list", "zoo fetch", "zoo verify", "table1"]


@pytest.mark.parametrize("line", LINES)
def test_help_shows_the_lines_to_type(line, capsys):
    with pytest.raises(SystemExit) as stopped:
        main.answer([*line.split(), "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert f"\n    tfnode {line}" in printed
    # A command that answers says what its JSON holds.
    assert ("print JSON: " in printed) == (line not in ("", "zoo"))


def lines_to_type():
    """Those of the help texts; test_fences.py has those of the pages."""
    text = [path.read_text(encoding="utf-8") for path in (ROOT / "zoo/commands").glob("*.py")]
    return re.findall(r"^(?:    )?tfnode (.+)$", "\n".join(text), re.MULTILINE)


def test_the_lines_to_type_are_good():
    lines = lines_to_type()
    assert len(lines) > 15
    for line in lines:
        main.parser().parse_args(shlex.split(line, comments=True))


def test_the_addresses_are_those_of_the_zoo():
    assert subjects.HUB == hub.PREFIX


def test_an_optimizer_that_was_saved_on_pytorch_trains_on_every_backend(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.25), "mse")
    model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["compile_config"]["optimizer"].update(
        module="keras.src.backend.torch.optimizers.torch_adam", registered_name="Adam"
    )
    members["config.json"] = json.dumps(config)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    loaded = archives.load(content.getvalue(), "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert float(loaded.optimizer.learning_rate) == 0.25
    assert int(loaded.optimizer.iterations) == 1
    loaded.fit(np.ones((4, 2)), np.ones(4), verbose=0)
