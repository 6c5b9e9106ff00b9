"""The command lines: misuse is answered at once, by the rule and what came; how a command ends."""

import ast
import importlib
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import zoo
from scripts import command_line, models, reproduce_figures
from scripts.paper import engines
from scripts.paper.figures_by_number import FIGURES
from zoo.commands import greetings

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = [
    path.stem
    for path in sorted((ROOT / "scripts").glob("*.py"))
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]
POSITIVE = "must be a positive integer. Received: "
NATURAL = "must be an integer of at least 0. Received: "
PLACE = "must be a directory that can be written to"
PATH = "must be a file that can be written"
TABLE1 = "reproduce_table1 --quick"
TRAIN = "train --model mnist --recipe rk4_damped"
BUNDLE = "train_on_gpu --make-bundle b"

# command line: a part of what is answered; FILE is the path of a file, EMPTY of a directory
MISUSE = {
    # Counts.
    **{
        f"{command} {option} {value}": f"argument {option}: {POSITIVE}{value}"
        for command, options in {
            TABLE1: ("--seeds", "--iterations", "--grid", "--jobs"),
            "reproduce_figures --quick": ("--seeds", "--iterations", "--jobs"),
            "compare_policies --quick": ("--seeds", "--iterations", "--jobs"),
            TRAIN: ("--version", "--iterations"),
            "benchmark": (
                *("--rounds", "--steps", "--mnist-steps", "--iterations", "--requests"),
                "--timeout",
            ),
            "export_saved_models": ("--samples", "--reference-steps"),
            "serving_client mnist": (
                *("--version", "--batch-size", "--requests", "--threads", "--timeout"),
            ),
            BUNDLE: ("--iterations", "--batch-size", "--test-samples", "--rk4-steps"),
        }.items()
        for option in options
        for value in ("0", "-1", "1.5", "many", "1_000", "²")
    },
    "train --model mnist": "the following arguments are required: --recipe",
    "campaign nonsense": "a campaign must be one of",
    "campaign --minutes 0": "argument --minutes: must be a positive number. Received: 0",
    "campaign --seed -1": f"argument --seed: {NATURAL}-1",
    f"{TRAIN} --seed -1": f"argument --seed: {NATURAL}-1",
    f"{TRAIN} --seed one": f"argument --seed: {NATURAL}one",
    **{
        f"serving_client mnist --{kind}-port {value}": f"a port from 1 to 65535. Received: {value}"
        for kind in ("rest", "grpc")
        for value in ("0", "65536", "http")
    },
    **{
        f"{BUNDLE} --minutes {value}": f"must be a positive number. Received: {value}"
        for value in ("0", "-1", "nan", "inf", "soon")
    },
    # Names.
    "reproduce_table1": "one of the arguments --quick --paper is required",
    f"{TABLE1} --paper": "not allowed with argument --quick",
    f"{TABLE1} --rows imagenet": "invalid choice: 'imagenet'",
    f"{TABLE1} --engine pbs": "invalid choice: 'pbs'",
    f"{TABLE1} --dtype float16": "invalid choice: 'float16'",
    f"{TABLE1} --colour red": "unrecognized arguments: --colour red",
    "reproduce_table1 --qui": "one of the arguments --quick --paper is required",
    **{
        f"reproduce_figures --quick {number}": f"a number from 1 to 23. Received: {number}"
        for number in ("0", "24", "three")
    },
    "study outputs --quick": "must be one of ['inputs', 'integration_time', ",
    "reproduce_figures --paper --grid 3": "unrecognized arguments: --grid",
    "train --model imagenet --recipe rk4_damped": "invalid choice: 'imagenet'",
    "train --model mnist --recipe fast": "invalid choice: 'fast'",
    "benchmark --cases speed": "invalid choice: 'speed'",
    "benchmark --without tfnode": "invalid choice: 'tfnode'",
    "export_saved_models --models imagenet": "invalid choice: 'imagenet'",
    "export_saved_models --weights mnist_v9": "Received: 'mnist_v9' for [",
    "export_saved_models --weights energy_landscape_rk4_damped_v1": "of the only model in --models",
    "serving_client imagenet": "Received: 'imagenet'. Name a --dataset",
    "serving_client mnist --dataset imagenet": "--dataset must be one of [",
    "verify_zoo mnist_v9": "Received: name='mnist_v9'",
    "write_cards mnist_v9": "Received: name='mnist_v9'",
    "write_golden mnist_v9": "Received: name='mnist_v9'",
    "write_tutorials second_block": "Received: 'second_block'",
    "train_on_gpu --make-bundle b --models imagenet": "invalid choice: 'imagenet'",
    f"{BUNDLE} --wheels latest": "must be a version such as 3.12. Received: 'latest'",
    f"{TABLE1} --slurm partition": "must be NAME=VALUE. Received: partition",
    "is_it_an_ode --quick": "unrecognized arguments: --quick",
    "is_it_an_ode --data mnist": "--data is for a model of your own. Received: no MODEL.keras",
    "is_it_an_ode --class-names a": "--class-names is for a model of your own. Received: no",
    "is_it_an_ode nowhere.keras": "must be a file that is there. Received: 'nowhere.keras'",
    "is_it_an_ode FILE --data mnist": "MODEL must end in .keras. Received: ",
    "is_it_an_ode FILE.keras": "--data is required with a model of your own. Received: none",
    "is_it_an_ode FILE.keras --data imagenet": "or one of [",
    "is_it_an_ode FILE.keras --data nowhere.npz": "must be a file that is there. Received: ",
    "is_my_resnet_an_ode --quick": "unrecognized arguments: --quick",
    # Paths.
    **{
        f"{command} {option} FILE": f"`{option}` {PLACE}"
        for command, options in {
            TABLE1: ("--runs", "--checkpoints", "--out"),
            "reproduce_figures --quick": ("--runs", "--checkpoints", "--out"),
            "compare_policies --quick": ("--runs", "--checkpoints", "--out"),
            "study --quick": ("--runs", "--checkpoints", "--out"),
            TRAIN: ("--checkpoints",),
            "is_it_an_ode": ("--out",),
            "is_my_resnet_an_ode": ("--out",),
            "export_saved_models": ("--out",),
            "train_on_gpu": ("--make-bundle",),
            "train_on_gpu --unpack EMPTY": ("--runs", "--weights", "--checkpoints"),
        }.items()
        for option in options
    },
    "benchmark --out FILE/new.json": f"`--out` {PATH}",
    "benchmark --out EMPTY.json": f"`--out` {PATH}",
    # Where its page would lie.
    "benchmark --out EMPTY_page.json": f"`--out` {PATH}",
    f"benchmark --out {'x' * 256}.json": f"`--out` {PATH}",
    "benchmark --out results": "--out must end in .json. Received: results",
    "benchmark --before nowhere": "must be a directory that is there. Received: 'nowhere'",
    "benchmark --before EMPTY": "must hold the package tfnode. Received: ",
    "train_on_gpu --unpack nowhere": "must be a directory that is there. Received: 'nowhere'",
    "train_on_gpu --bundle nowhere": "must be a directory that is there. Received: 'nowhere'",
    "train_on_gpu --bundle EMPTY": "must be of --make-bundle. Received: ",
    "export_saved_models --weights nowhere.weights.h5": "must be a file that is there. Received: ",
    f"{TABLE1} --finished --runs nowhere": "Received: --runs nowhere",
    # Options that do not go together.
    f"{TABLE1} --address auto": "--address is for --engine ray. Received: --engine local",
    f"{TABLE1} --slurm a=b": "--slurm is for --engine slurm. Received: --engine local",
    "verify_zoo --quick energy_landscape_rk4_damped_v1": "--quick chooses the weights itself",
    "serving_client mnist --label stable --version 1": "not allowed with argument --label",
    f"{BUNDLE} --unpack EMPTY": "not allowed with argument --make-bundle",
    f"{BUNDLE} --iterations 5": "--iterations: for --bundle, which trains",
    "train_on_gpu --unpack EMPTY --wheels 3.12": "--wheels is for --make-bundle",
    "train_on_gpu --unpack EMPTY --models mnist": "--unpack takes all that is there",
}


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


@pytest.mark.parametrize("line", MISUSE)
def test_misuse_is_answered_by_the_rule_and_what_came(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("file", "file.keras"):
        (tmp_path / name).touch()
    for name in ("empty", "empty.json", "empty_page.md"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    places = {"FILE": str(tmp_path / "file"), "EMPTY": str(tmp_path / "empty")}
    name, *arguments = line.split()
    for key, place in places.items():
        arguments = [argument.replace(key, place) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"scripts.{name}").main(arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.err.startswith("usage: ")
    assert MISUSE[line] in said.err
    assert said.out == ""
    # Nothing was begun.
    assert sorted(tmp_path.iterdir()) == before


def test_every_command_is_misused():
    assert {line.split()[0] for line in MISUSE} == set(COMMANDS)


def test_the_names_are_those_of_the_zoo_and_of_the_figures():
    assert list(models.NAMES) == zoo.list_models()
    assert list(reproduce_figures.NUMBERS) == list(FIGURES)


def test_commands_import_nothing_heavy_before_they_know_their_arguments():
    modules = ["zoo.commands.main", *(f"scripts.{name}" for name in COMMANDS)]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    imported = subprocess.run([sys.executable, "-c", code], **options).stdout.split()
    assert not {"keras", "tensorflow", "tfnode", "matplotlib", "joblib"} & set(imported)


# === How a command ends ===
@pytest.fixture(autouse=True)
def _stderr_as_it_is(monkeypatch):
    """That of these tests stays theirs when one of them runs a command."""
    monkeypatch.setattr(greetings, "leave_out", lambda: None)


def ended(main, capsys):
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as stopped:
            command_line.run(main)
    finally:
        signal.signal(signal.SIGINT, handler)
    return stopped.value.code, capsys.readouterr().err


def raising(error):
    def main(arguments):
        raise error

    return main


def test_a_command_ends_with_its_status_or_with_a_line(capsys):
    assert ended(lambda arguments: 3, capsys) == (3, "")
    assert ended(raising(command_line.Stop("No.")), capsys) == (1, "No.\n")
    assert ended(raising(command_line.Stop("No.", status=2)), capsys) == (2, "No.\n")
    assert ended(raising(KeyboardInterrupt), capsys) == (130, "\nInterrupted.\n")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_ctrl_c_while_a_command_starts_is_one_line():
    # The jobs that a shell runs in the background ignore Ctrl-C, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "scripts/verify_zoo.py", "--quick"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        maps = pathlib.Path(f"/proc/{process.pid}/maps")
        while "tensorflow" not in maps.read_text() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
        process.kill()
    # Nor are there TensorFlow's greetings before it.
    assert errors == "\nInterrupted.\n"
    assert process.returncode == 130


GREETINGS = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1.6     1 port.cc:153] oneDNN custom operations are on. You may see slightly different
I0000 00:00:1.7    12 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not
I0000 00:00:1.8    12 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow
E0000 00:00:1.9    12 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)
"""
FAULTS = """\
E0000 00:00:1.9    12 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_NO_DEVICE (100)
W0000 00:00:1.9    12 port.cc:153] oneDNN custom operations are on
F0000 00:00:1.9    12 cudart_stub.cc:31] Check failed
a line with cudart_stub.cc:31] Could not find cuda drivers on your machine
the last line has no end"""


@pytest.mark.skipif(sys.platform == "win32", reason="other descriptors")
def test_greetings_are_left_out_and_nothing_else():
    code = (
        "import os, subprocess, sys\n"
        "from zoo.commands import greetings\n"
        "greetings.leave_out()\n"
        "print('Python', file=sys.stderr)\n"
        f"subprocess.run(['echo', {GREETINGS + 'a child'!r}], stdout=2)\n"
        f"os.write(2, {(GREETINGS + FAULTS).encode()!r})\n"
        "os.abort()\n"
    )
    options = {"cwd": ROOT, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert done.returncode == -signal.SIGABRT
    assert done.stdout == ""
    # What is said in a crash, too.
    assert sorted(done.stderr.splitlines()) == sorted(["Python", "a child", *FAULTS.splitlines()])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_run_alike(name):
    tree = ast.parse((ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8"))
    assert ast.unparse(tree.body[-1]).splitlines()[-1].strip() == "command_line.run(main)"


# === What a command reads ===
@pytest.mark.parametrize("text", ["", '{"accuracy": 0.', "[1, 2]", "null", "[" * 100_000, "\xff"])
def test_json_that_is_not_whole_is_named(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(command_line.Stop, match="must be whole") as error:
        command_line.read_json(path)
    assert f"Received: {str(path)!r} (" in str(error.value)


REPRODUCING = ["reproduce_table1", "compare_policies", "reproduce_figures", "study"]


def reproduce(name, folder, *options):
    """Runs a command in which nothing can be trained."""
    places = [f"--{place}={folder / place}" for place in ("runs", "checkpoints", "out")]
    return importlib.import_module(f"scripts.{name}").main(["--quick", *options, *places])


@pytest.mark.parametrize("name", REPRODUCING[:2])
@pytest.mark.parametrize("options", [[], ["--finished"]])
def test_a_result_that_is_cut_short_is_named_before_the_work(tmp_path, monkeypatch, name, options):
    monkeypatch.setattr(engines, "opened", None)
    path = tmp_path / "runs" / "concentric_spheres_2d" / "euler_adaption_3000_seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"accuracy": ', encoding="utf-8")
    with pytest.raises(command_line.Stop, match="must be whole") as error:
        reproduce(name, tmp_path, *options)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", REPRODUCING)
def test_without_a_finished_run_there_is_nothing_to_report(tmp_path, name):
    (tmp_path / "runs").mkdir()
    with pytest.raises(command_line.Stop, match=r"Received: none of these \d+ below"):
        reproduce(name, tmp_path, "--finished")
