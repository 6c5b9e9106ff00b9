"""The tutorials and the Python of the guides run as they stand, and show what they say."""

import pathlib
import re
import runpy

import fences
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

import tfnode

DOCS = pathlib.Path(__file__).parents[1] / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a tutorial in an empty directory; returns its names."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    yield lambda name: runpy.run_path(str(DOCS / "tutorials" / f"{name}.py"))
    plt.close("all")


def test_a_first_block(run):
    names = run("first_block")
    assert names["accuracy"] > 0.97
    # The method's order is 4, and the step is an eighth at the end.
    assert names["distance"] < 0.01
    assert names["loaded"].get_layer("flow").num_steps == 8


def test_is_it_an_ode(run):
    names = run("is_it_an_ode")
    assert names["accuracy"] > 0.97
    assert not names["report"].is_ode
    assert names["report"].gap > 0.2
    assert (names["found"].count > 0, names["flow"].count) == (True, 0)
    assert names["valid_report"].is_ode
    assert names["valid_report"].rows[0].accuracy > 0.97


def test_step_adaption(run):
    names = run("step_adaption")
    for adaption in (names["paper_adaption"], names["damped_adaption"]):
        assert len(adaption.history) == 40
    reports = names["reports"]
    assert reports["damped"].is_ode
    assert reports["damped"].gap < reports["paper"].gap


def test_a_time_series(run):
    names = run("time_series")
    np.testing.assert_allclose(names["rates"], names["TRUE_RATES"], atol=0.05)
    assert names["change"] < 0.01


def test_a_normalizing_flow(run):
    names = run("normalizing_flow")
    fine, finest, coarse = names["totals"].values()
    np.testing.assert_allclose([fine, finest], 1, atol=0.01)
    assert abs(coarse - 1) > 0.05
    assert names["history"].history["loss"][-1] < 1.6
    # Where the data are.
    spread = [points.std(axis=0) for points in (names["samples"], names["data"])]
    np.testing.assert_allclose(*spread, rtol=0.2)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_the_page_of_a_tutorial_is_of_its_script(path):
    """All that the script holds is there, and what it printed and drew."""
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    for cell in path.read_text(encoding="utf-8").split("# %%")[1:]:
        kind, _, text = cell.partition("\n")
        if "markdown" in kind:
            text = re.sub("^# ?", "", text, flags=re.MULTILINE)
        assert text.strip() in page, "python scripts/write_tutorials.py"
    # What is different in every run.
    assert " at 0x" not in page
    pictures = re.findall(r"\]\((\w+_files/\S+\.png)\)", page)
    assert all((path.parent / picture).is_file() for picture in pictures)
    written = {str(p.relative_to(path.parent)) for p in path.parent.glob(f"{path.stem}_files/*")}
    assert set(pictures) == written != set()


def test_the_guide_to_the_verdict(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in fences.of("docs/is-it-an-ode.md", "python"):
        exec(code, names)
    report, result = names["report"], names["result"]
    assert report.is_ode
    assert (tmp_path / "report.html").exists()
    assert not result.loss_optimum_at_training_step
    assert names["certificate"].fraction > 0.9
    assert names["found"].count == 20


def test_the_guide_to_several_devices():
    """But for two devices of JAX and its processes, which test_devices.py has."""
    names = {}
    mixed, strategy = fences.of("docs/scaling.md", "python", 0, 1)
    exec(mixed, names)
    assert names["model"].get_layer("ode_block").compute_dtype == "bfloat16"
    exec(f"import keras\n{strategy}", names)
    assert names["model"].compiled


def test_the_guide_to_cheap_fields():
    names = {}
    (code,) = fences.of("docs/cheap-fields.md", "python")
    exec(code, names)
    block, z = names["block"], np.ones((4, 2), "float32")
    block(z, training=True)
    assert len(block.losses) == 1
    # Without training it is the plain block.
    plain = tfnode.ODEBlock(names["field"], block.solver)
    np.testing.assert_array_equal(block(z), plain(z))


def test_every_tutorial_is_run():
    text = pathlib.Path(__file__).read_text(encoding="utf-8")
    assert {path.stem for path in TUTORIALS} == set(re.findall(r'run\("(\w+)"\)', text))
