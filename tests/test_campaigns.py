"""The campaigns: what they count, that each would see a fault, and a quick part of each."""

import contextlib
import dataclasses
import functools
import os
import sys
import time
import types

import numpy as np
import pytest

import zoo
import zoo.loading
from scripts import campaign
from scripts.campaigns import (
    accuracy,
    detest,
    long_fit,
    random_methods,
    running,
    servers,
    weight_files,
    workers,
    writers,
)
from tfnode import files
from tfnode.export.repositories import CARD, MODELS_CONFIG

# === Running ===
DRAWN = []


@contextlib.contextmanager
def draws(directory):
    """Draws a number at each try; those below 1/4 break."""
    assert list(directory.iterdir()) == []
    numbers = []
    DRAWN.append(numbers)

    def try_one(rng):
        numbers.append(rng.random())
        assert numbers[-1] >= 0.25, f"{numbers[-1]} is too small"
        return 2

    yield try_one


def test_tries_are_those_of_the_seed():
    DRAWN.clear()
    first = running.run(draws, 3, seconds=60, tries=20)
    longer = running.run(draws, 3, seconds=60, tries=30)
    running.run(draws, 4, seconds=60, tries=20)
    assert DRAWN[0] == DRAWN[1][:20] != DRAWN[2]
    small = [i for i, number in enumerate(DRAWN[0]) if number < 0.25]
    assert (first.held, len(first.broken)) == (2 * (20 - len(small)), len(small))
    assert first.tried == first.held + len(small) > 20
    assert first.broken == longer.broken[: len(small)]
    assert first.broken[0].startswith(f"try {small[0]}: AssertionError: {DRAWN[0][small[0]]} is")


def test_a_campaign_ends_when_its_time_is_up():
    told = []
    assert running.run(draws, 0, seconds=0.05, report=told.append).tried > 0
    assert told == sorted(told) and told[-1] == 1


def test_the_command_tells_what_broke(monkeypatch, capsys):
    fine = contextlib.contextmanager(lambda directory: iter([lambda rng: 1]))
    several = {"fine": fine, "breaks": draws}
    monkeypatch.setattr(campaign, "CAMPAIGNS", tuple(several))
    for name, opened in several.items():
        module = types.SimpleNamespace(campaign=opened)
        monkeypatch.setitem(sys.modules, f"scripts.campaigns.{name}", module)
    run = running.run
    monkeypatch.setattr(running, "run", functools.partial(run, tries=20))
    assert campaign.main(["fine"]) == 0
    assert campaign.main(["--seed", "3"]) == 1
    printed = capsys.readouterr().out
    tally = run(draws, 3, seconds=60, tries=20)
    broken = len(tally.broken)
    assert printed.splitlines()[-1].split() == [
        "breaks",
        *map(str, (tally.tried, tally.held, broken)),
    ]
    assert printed.count("breaks, try ") == broken


# === Random methods, and DETEST ===
def test_random_methods(monkeypatch):
    monkeypatch.setattr(random_methods, "EXAMPLES", 3)
    tally = running.run(random_methods.campaign, 0, seconds=60, tries=1)
    assert (tally.tried, tally.broken) == (3, [])


@dataclasses.dataclass(frozen=True)
class Faulty(random_methods.Case):
    """A method whose block takes another one."""

    def block(self, field, **options):
        other = dataclasses.replace(self, tableau=random_methods.methods.consistent([[]], [1.0]))
        is_other = self.rate > 0 or options.get("gradient") == "backprop"
        case = other if is_other else self
        return random_methods.Case.block(case, field, **options)


@pytest.mark.parametrize("rate", [1.0, -1.0], ids=["another_answer", "another_gradient"])
def test_another_method_is_seen(rate):
    tableau = random_methods.methods.consistent([[], [0.5]], [0.2, 0.8])
    case = Faulty(tableau, t0=0.0, length=1.0, steps=2.0, rate=rate, seed=0)
    with pytest.raises(AssertionError):
        random_methods.agree(case)


def test_an_error_of_a_solution_is_seen(monkeypatch):
    problem = detest.ALL[0]
    accuracy.agrees(problem, *accuracy.PAIRS[1][:2], 1e-3)
    theirs = accuracy.scipys(problem, "RK23", 1e-3)
    for found, evaluations in ((theirs.y[:, -1] + 0.02, 1), (theirs.y[:, -1], 10**6)):
        monkeypatch.setattr(accuracy, "_solve", lambda *_, now=(found, evaluations): lambda _: now)
        with pytest.raises(AssertionError, match=r"A1 by BogackiShampine32 at 0\.001"):
            accuracy.agrees(problem, *accuracy.PAIRS[1][:2], 1e-3)


# === Weight files ===
@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model and a file of weights for it."""
    model = zoo.get_model(weight_files.MODEL, seed=1)
    return model, weight_files.saved(tmp_path_factory.mktemp("weights"))


def test_a_whole_file_is_loaded(weights):
    assert weight_files.loaded(*weights) == weight_files.LOADED


@pytest.mark.parametrize("change", weight_files.CHANGES, ids=lambda change: change.__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numpy.exceptions.ComplexWarning")
def test_changed_weight_files(change, weights, monkeypatch):
    model, original = weights
    monkeypatch.setattr(weight_files, "CHANGES", [change])
    # Of which none goes very deep.
    for seed in (2, 3):
        path, told = weight_files.changed(original, np.random.default_rng(seed))
        answer = weight_files.loaded(model, path)
        assert answer.startswith((weight_files.LOADED, weight_files.REFUSED)), told


def test_a_loader_at_fault_is_seen(weights, monkeypatch):
    def loads(function):
        monkeypatch.setattr(zoo.loading, "load", function)
        return weight_files.loaded(*weights)

    def fails(error, *_):
        raise error

    assert loads(functools.partial(fails, KeyError("x"))) == "KeyError and no ValueError: 'x'"
    assert loads(functools.partial(fails, ValueError("no"))) == "an unclear error: no"
    weights[0].layers[-1].kernel.assign_add(weights[0].layers[-1].kernel + 1)
    assert loads(lambda *_: None) == "loaded, and not as the file says"


# === Processes ===
@pytest.mark.parametrize("does", ["answers", "dies", "hangs"])
def test_a_process(does):
    function, value = {"answers": (abs, -5), "dies": (os._exit, 3), "hangs": (time.sleep, 600)}[
        does
    ]
    with workers.Worker(workers.answering, function) as worker:
        assert worker.answer(60) == "ready"
        worker.send(value)
        if does == "answers":
            assert worker.answer(60) == 5
        elif does == "dies":
            with pytest.raises(workers.Died, match="exit code 3"):
                worker.answer(60)
        else:
            with pytest.raises(TimeoutError, match=r"within 0\.01"):
                worker.answer(0.01)


def version(base, number):
    path = base / "euler" / str(number)
    for name in ("saved_model.pb", CARD):
        files.write_text(path / name, "")
    return str(path)


def test_writers_that_lose_something_are_seen(tmp_path, monkeypatch):
    serve = {"serving_default": lambda state: {"logits": state}}
    loaded = types.SimpleNamespace(signatures=serve)
    monkeypatch.setattr(writers.tf.saved_model, "load", lambda path: loaded)
    paths = [version(tmp_path, 1), version(tmp_path, 2)]
    config = tmp_path / MODELS_CONFIG
    config.write_text('key: "canary" value: 2 key: "canary" value: 2')
    good = [{"paths": [path], "is_whole": True} for path in paths]
    refused = {"error": "ValueError: One at a time. Received: ...", "is_whole": True}
    writers.judge(tmp_path, [*good, refused])
    for answers, message in (
        ([*good, {**refused, "error": "OSError: [Errno 39]"}], "Errno 39"),
        ([good[0], {**good[1], "is_whole": False}], "not whole"),
        (good[:1], "there are"),
        ([*good, good[0]], "there are"),
    ):
        with pytest.raises(AssertionError, match=message):
            writers.judge(tmp_path, answers)
    config.write_text('key: "canary" value: 2 key: "canary" value: 1')
    with pytest.raises(AssertionError, match="canary"):
        writers.judge(tmp_path, good)
    config.write_text('key: "canary" value: 2')
    (tmp_path / ".writing-x").mkdir()
    with pytest.raises(AssertionError, match="left behind"):
        writers.judge(tmp_path, good)


# === A server that misbehaves ===
@pytest.fixture
def server():
    with servers.Server() as server:
        yield server


@pytest.mark.parametrize(
    "answer",
    [
        *(servers.as_it_should_be, servers.nothing_at_all, servers.a_cut_answer),
        *(servers.a_cut_text, servers.another_count_of_rows, servers.a_wrong_length),
        servers.noise,
    ],
    ids=lambda answer: answer.__name__,
)
def test_a_server_that_misbehaves(answer, server):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        server.answer = functools.partial(answer, rng=rng)
        assert servers.fault(server.port, answer.__name__) is None


def test_a_client_at_fault_is_seen(server):
    server.answer = functools.partial(servers.as_it_should_be, rng=None)
    wrong = servers.fault(server.port, "something else")
    assert wrong == "something else: taken for an answer"


# === A long fit ===
class Connection:
    """Takes what is sent, and ends the training after some of it."""

    def __init__(self, most):
        self.seen, self._most = [], most

    def send(self, value):
        self.seen.append(value)
        if len(self.seen) == self._most:
            raise InterruptedError


def test_a_fit_traces_no_more_and_opens_no_more_files():
    connection = Connection(3)
    with pytest.raises(InterruptedError):
        # XLA would compile for longer than the training takes.
        long_fit.train(connection, 20, jit_compile=False)
    assert [now["iteration"] for now in connection.seen] == [20, 40, 60]
    assert len({(now["traces"], now["files"]) for now in connection.seen}) == 1


def watched(**changes):
    steady = {"iteration": 0, "memory": 500.0, "traces": 7, "files": 9}
    return [
        {**steady, "iteration": 1000 * i, **{k: v[i - 1] for k, v in changes.items()}}
        for i in range(1, 6)
    ]


def test_what_grows_is_seen():
    # What the first thousand iterations take is not counted.
    long_fit.judge(watched(memory=[300, 500, 500.5, 501, 501.5], traces=[5, 7, 7, 7, 7]))
    for changes, message in (
        ({"memory": [500, 501.5, 503, 504.5, 506]}, "grows by 1.50 MB"),
        ({"traces": [7, 7, 7, 8, 8]}, "traces change"),
        ({"files": [9, 10, 11, 12, 13]}, "files change"),
    ):
        with pytest.raises(AssertionError, match=message):
            long_fit.judge(watched(**changes))
