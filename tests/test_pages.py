"""The report as a page, read as text and opened in a browser."""

import collections
import contextlib
import dataclasses
import html.parser
import math

import browsers
import numpy as np
import pytest
from linear_models import X, Y, linear

from scripts import command_line, is_it_an_ode
from tfnode import charts, markup, validity
from tfnode.solvers import RK4, Euler

# A name that would be a script, an image, an end of every element, and the other direction.
HOSTILE = (
    """</title></style></svg><script>hacked = 1</script>"><img src=x onerror='hacked=1'>\u202e"""
)
CLASSES = [HOSTILE, "&lt;b&gt; " + "long" * 100]


@pytest.fixture(scope="module")
def report():
    checked = validity.check(linear(Euler(1 / 2)), (X, Y), reference_steps=16, verbose=0)
    return dataclasses.replace(
        checked, details=dataclasses.replace(checked.details, model=HOSTILE + "\ud800")
    )


@pytest.fixture(scope="module")
def ode():
    return validity.check(linear(RK4(1 / 4)), (X, Y), reference_steps=8, verbose=0)


class Reader(html.parser.HTMLParser):
    """The elements of a page, their attributes and their text."""

    is_style = False

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = collections.Counter(), set(), []
        self.feed(page)
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attributes}
        self.is_style = tag == "style"

    def handle_data(self, data):
        if not self.is_style:
            self.text.append(data)


def page_of(report, path, *names, **options):
    report.to_html(path, *names, **options)
    return Reader(path.read_text(encoding="utf-8"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "report.html"


# === As text ===
def test_names_are_text_wherever_they_stand(report, path):
    page = page_of(report, path, CLASSES, title=HOSTILE)
    plain = page_of(report, path, ["a", "b"], title="c")
    assert page.tags == plain.tags
    assert page.attributes == plain.attributes
    assert not page.tags.keys() & {"script", "img", "iframe"}
    assert not [name for name in page.attributes if name.startswith("on") or name == "src"]
    # In the title, the heading, and the names of the classes.
    assert page.words.count("<script>hacked = 1</script>") >= 4
    assert "&lt;b&gt; longlong" in page.words


def test_the_verdict_is_in_words(report, ode, path):
    words = page_of(report, path).words
    assert (
        "No, it is bound to its solver. Under 13 other solvers of equal or smaller error" in words
    )
    assert "by up to 20.0 points from that under the solver of its training, Euler, 2" in words
    assert "With the solver of its training alone, if at all" in words
    assert "4 lost" in words
    words = page_of(ode, path).words
    assert "Yes, it is an ODE." in words
    assert "No answer changes under any better solver that was tried." in words
    assert "“functional" in words


def test_the_cheapest_solver_within_the_threshold_is_the_one_to_serve(ode, path):
    words = page_of(ode, path).words
    within = [row for row in ode.rows if row.gap <= ode.threshold]
    best = min(within, key=lambda row: row.nfe)
    assert not best.is_training
    assert f"With RK4, {best.num_steps} steps: {best.nfe} evaluations an answer" in words
    assert f"RK4, {best.num_steps} steps serve {best.nfe} " in words


def test_solvers_of_one_number_of_steps_are_told_apart(report, path):
    words = page_of(report, path).words
    assert "Euler, 2 steps of 0.5 " in words
    assert "Euler, 2 steps of 0.75 " in words
    assert "Euler, 4 steps " in words


def test_every_row_is_a_mark_that_says_its_values(report, path):
    page = page_of(report, path)
    with_error = [row for row in report.rows if row.error > 0]
    assert page.tags["svg"] == 2 + 2 * 3  # Each legend has three swatches.
    assert page.words.count("evaluations, ") >= len(report.rows) + len(with_error)
    assert "Euler, 4 steps: 4 evaluations, 90.0 %" in page.words


def test_reports_of_other_kinds(report, ode, path):
    tolerances = {1.0: 1e-3, 0.5: 1e-4, 2.0: 1e-2, None: None}
    rows = tuple(
        dataclasses.replace(
            row,
            solver="DormandPrince" if row.factor else "RK4",
            tolerance=tolerances[row.factor],
            **(dict.fromkeys(("step_size", "num_steps", "nfe")) if row.factor else {}),
        )
        for row in ode.rows
        if row.factor in tolerances
    )
    adaptive = dataclasses.replace(ode, rows=rows, details=None)
    words = page_of(adaptive, path).words
    assert "With DormandPrince, tolerance 0.01: the loosest tolerance of all" in words
    regression = dataclasses.replace(
        report,
        task="regression",
        measure="outputs",
        class_gaps=None,
        changed=None,
        gap=math.inf,
        details=None,
        rows=tuple(
            dataclasses.replace(row, gap=math.inf, accuracy=None, changed=None, error=math.inf)
            for row in report.rows
        ),
    )
    page = page_of(regression, path)
    assert "its outputs change by up to not finite from those" in page.words
    assert "Which classes change" not in page.words
    assert page.tags["svg"] == 0


def test_a_doubtful_reference_is_said(ode, path):
    doubtful = dataclasses.replace(ode, reference_error=ode.rows[0].error)
    assert "The verdict is doubtful" in page_of(doubtful, path).words
    assert "The verdict is doubtful" not in page_of(ode, path).words


@pytest.mark.parametrize("names", [[], ["one"], [1, 2]])
def test_every_class_has_a_name(report, path, names):
    with pytest.raises(ValueError, match=r"name for each class up to 1|must be a string"):
        report.to_html(path, names)
    assert not path.parent.exists()


def test_a_place_that_cannot_be_written_to_is_refused(report, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "report.html", tmp_path, tmp_path / ("x" * 256)):
        with pytest.raises(ValueError, match=r"`path` must be a file .* Received: path="):
            report.to_html(place)


def test_children_come_in_their_order():
    made = markup.element("p", "a", ["b", None, markup.element("i"), ("c", "d")], data_x=1)
    assert markup.written(made) == '<p data-x="1">ab<i></i>cd</p>'


@pytest.mark.parametrize(
    ("axis", "values", "span"),
    [
        (charts.Axis("", str), [2.0, 2.0], (1.5, 2.5)),
        (charts.Axis("", str, least=0.2, limits=(0, 1)), [0.99, 1.0], (0.8, 1.0)),
        (charts.Axis("", str, base=2), [2, 8], (0.6, 3.4)),
    ],
)
def test_axes_hold_their_values(axis, values, span):
    assert axis.span(values) == pytest.approx(span)
    assert all(span[0] <= axis.place(tick) <= span[1] for tick in axis.ticks(axis.span(values)))


# === Of other verdicts ===
@pytest.fixture(scope="module")
def resnet(report):
    """Two runs of layers with names that are hostile, and a distance that is not finite."""
    changes = (0.5, 0.25)
    stages = [
        validity.ResNetStage(name, HOSTILE, 3, changes, changes, 1.125, 1.5, (0.1, 0.2, distance))
        for name, distance in ((HOSTILE, 0.3), ("plain", math.inf))
    ]
    return validity.ResNetReport(False, report.gap, report.threshold, tuple(stages), report)


@pytest.fixture(scope="module")
def series():
    """A field that has learned its solver: its Euler steps fit the data, with times left out."""
    times = np.arange(9) / 4
    rate = 2 * (math.exp(-1 / 2) - 1)
    data = np.ones((1, 1)), np.exp(-times)[None, :, None]
    options = {"every": 2, "trained_until": 1.0, "factors": [2], "reference_steps": 8}
    return validity.check_series(
        lambda t, z: rate * z, data, times, Euler(1 / 2), verbose=0, **options
    )


def test_a_resnet_has_a_page(resnet, path):
    page = page_of(resnet, path)
    # In the title and in the heading.
    assert page.words.count("Are the residual layers of “</title>") == 2
    assert page.words.count("steps of an ODE?") == 2
    assert "No, they are layers on their own. With the ODE between its layers, solved" in page.words
    assert "its accuracy changes by up to 20.0 points from that of the model as" in page.words
    assert "accuracy as it is" in page.words
    assert "3 1.12 1.5 0.3 " in page.words
    assert "3 1.12 1.5 not finite" in page.words
    # Each change is a mark that says its value, and each row a mark and a row of the table.
    assert page.words.count("weights, layer 1: 0.5") == 2 * 2
    assert page.tags["svg"] == 2 + 3 + 2
    assert page.tags["tr"] == 2 + len(resnet.stages) + len(resnet.verdict.rows)
    assert "made with python " in page.words


def test_a_series_has_a_page(series, path):
    page = page_of(series, path)
    assert "No, it is bound to the times of its training. Asked at nearer times" in page.words
    assert f"its error rises by up to {series.rise:.3g} of the spread" in page.words
    assert "the mark of a model that has learned its solver" in page.words
    between = series.rows[-1].error_between
    assert f"at 0.5 times its distance: between them {between:.3g} " in page.words
    assert page.tags["tr"] == 1 + len(series.rows) + 1
    assert page.tags["svg"] == 1 + 3
    assert "made with python " in page.words


def test_a_report_with_a_series_shows_both(series, report, path):
    alone, with_series = (
        page_of(dataclasses.replace(report, series=found), path) for found in (None, series)
    )
    assert "Is it a flow at other times than those of its training?" in with_series.words
    assert "No, it is bound to the times of its training. Asked at nearer" in with_series.words
    assert with_series.tags["tr"] == alone.tags["tr"] + 1 + len(series.rows) + 1
    assert "at other times" not in alone.words


def test_pages_of_what_is_not_finite_or_was_written_before(series, resnet, path):
    row = dataclasses.replace(series.flow, error=math.inf, error_between=None, error_beyond=None)
    rows = tuple(dataclasses.replace(row, factor=factor) for factor in (2.0, 1.0, 0.5))
    lost = dataclasses.replace(series, rows=rows, flow=row, rise=math.inf, versions=None)
    page = page_of(lost, path)
    assert "rises by up to not finite of" in page.words
    assert (page.tags["svg"], "made with" in page.words) == (0, False)
    verdict = dataclasses.replace(resnet.verdict, details=None)
    words = page_of(dataclasses.replace(resnet, verdict=verdict), path).words
    assert "Are the residual layers of this model steps of an ODE?" in words
    fine = dataclasses.replace(resnet, is_ode=True)
    assert "Yes, they are steps of an ODE." in page_of(fine, path).words
    flow = dataclasses.replace(series, is_flow=True, has_kink=False)
    words = page_of(flow, path).words
    assert "Yes, it is a flow." in words
    assert "learned its solver" not in words


@pytest.mark.parametrize("kind", ["resnet", "series"])
def test_every_page_keeps_names_as_text_and_refuses_the_same(kind, path, request):
    report = request.getfixturevalue(kind)
    page, plain = page_of(report, path, title=HOSTILE), page_of(report, path, title="c")
    assert (page.tags, page.attributes) == (plain.tags, plain.attributes)
    assert not page.tags.keys() & {"script", "img", "iframe"}
    assert not [name for name in page.attributes if name.startswith("on") or name == "src"]
    # In the title and the heading, and the others in the table and the figure.
    assert page.words.count("<script>hacked = 1</script>") == plain.words.count("<script>") + 2
    assert "c" in Reader(report._repr_html_()).words
    with pytest.raises(ValueError, match="Received: path="):
        report.to_html(path.parent)
    with pytest.raises(ValueError, match="Received: title=1"):
        report.to_html(path, title=1)


# === In a browser ===
@pytest.fixture(scope="module")
def browser():
    with browsers.opened() as browser:
        yield browser


@contextlib.contextmanager
def opened(browser, path, **options):
    """A page in a window; nothing may go wrong in it, and nothing be asked of a network."""
    wrong = []
    with contextlib.closing(browser.new_context(**options)) as context:
        page = context.new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url))
        page.goto(path.as_uri())
        yield page
    assert wrong == [path.as_uri()]


PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["report", "resnet", "series"])
def test_the_page_fits_a_phone_and_the_light(browser, kind, path, scheme, request):
    names = {"class_names": CLASSES} if kind == "report" else {"title": HOSTILE}
    request.getfixturevalue(kind).to_html(path, **names)
    with opened(browser, path, viewport=PHONE, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        colors = "getComputedStyle(document.querySelector('.tfnode-report'))"
        paper, ink = (
            sum(map(int, page.evaluate(f"{colors}.{name}").strip("rgb()").split(",")))
            for name in ("backgroundColor", "color")
        )
        assert (paper < ink) == (scheme == "dark")
        assert page.evaluate("typeof hacked") == "undefined"
        assert "<script>hacked = 1</script>" in page.inner_text("h1")


def test_values_are_had_by_pointer_and_by_keyboard(browser, ode, path):
    ode.to_html(path)
    with opened(browser, path, viewport=PHONE) as page:
        said = page.locator(".chart").first.locator(".said")
        shown = "nodes => nodes.filter(n => getComputedStyle(n).visibility != 'hidden').length"
        assert said.evaluate_all(shown) == 0
        page.keyboard.press("Tab")
        assert said.evaluate_all(shown) == 1
        assert said.first.is_visible()
        assert said.first.text_content().startswith("RK4, 4 steps: 16 evaluations, ")
        page.locator(".chart").first.locator(".shape").nth(2).hover()
        assert said.evaluate_all(shown) == 1
        assert not said.first.is_visible()


def test_a_notebook_keeps_its_own_looks(browser, report, path):
    outside = "<p id=own>own</p><h1 id=other>other</h1>"
    path.parent.mkdir()
    looks = []
    for fragment in ("", report._repr_html_()):
        page = f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{outside}{fragment}"
        path.write_text(page, encoding="utf-8")
        with opened(browser, path) as window:
            style = (
                "node => { const s = getComputedStyle(node); return [s.color, s.font, s.margin] }"
            )
            looks.append(
                [window.locator(name).evaluate(style) for name in ("#own", "#other", "body")]
            )
    assert looks[0] == looks[1]


# === The command ===
def test_the_command_writes_the_page_of_a_model_of_ones_own(tmp_path, capsys):
    linear(Euler(1 / 2)).save(tmp_path / "mine.keras")
    np.savez(tmp_path / "test.npz", x=X, y=Y)
    line = [str(tmp_path / "mine.keras"), "--data", str(tmp_path / "test.npz")]
    line += ["--class-names", "low", "high", "--out", str(tmp_path / "out")]
    assert is_it_an_ode.main(line) == 0
    assert "mine: not an ODE (gap 0.2, threshold 0.02)\nWritten: " in capsys.readouterr().out
    assert "high" in Reader((tmp_path / "out/mine.html").read_text(encoding="utf-8")).words
    text = (tmp_path / "out/mine.json").read_text(encoding="utf-8")
    assert validity.ValidityReport.from_json(text).gap == 0.2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"arrays `x` and `y`"),
        ({"x": X, "y": np.array([None] * 20)}, r"of numbers alone"),
        ({"x": X, "y": Y + 6}, r"classes from 0 to 1"),
        (None, r"must be an .npz file"),
    ],
)
def test_data_that_cannot_be_judged_is_answered_in_a_line(tmp_path, arrays, message):
    linear(Euler(1 / 2)).save(tmp_path / "mine.keras")
    data = tmp_path / "test.npz"
    data.write_bytes(b"") if arrays is None else np.savez(data, **arrays)
    line = [str(tmp_path / "mine.keras"), "--data", str(data), "--out", str(tmp_path / "out")]
    with pytest.raises(command_line.Stop, match=message):
        is_it_an_ode.main(line)


@pytest.mark.parametrize("name", ["mine.html", "mine.json"])
def test_a_directory_where_the_page_should_be_is_refused_before_the_work(tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "mine.keras").write_bytes(b"never read")
    np.savez(tmp_path / "test.npz", x=X, y=Y)
    line = [str(tmp_path / "mine.keras"), "--data", str(tmp_path / "test.npz")]
    with pytest.raises(command_line.Stop, match=rf"must be a file .*{name}' \(Is a directory\)"):
        is_it_an_ode.main([*line, "--out", str(tmp_path / "out")])


def test_a_model_that_keras_cannot_load_is_named(tmp_path):
    np.savez(tmp_path / "test.npz", x=X, y=Y)
    (tmp_path / "mine.keras").write_bytes(b"PK")
    line = [str(tmp_path / "mine.keras"), "--data", str(tmp_path / "test.npz")]
    with pytest.raises(command_line.Stop, match=r"loaded from a whole .*Received: '.*mine.keras"):
        is_it_an_ode.main([*line, "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("outputs", [1, 2])
def test_names_for_other_classes_are_refused_before_the_check(tmp_path, monkeypatch, outputs):
    linear(Euler(0.25), outputs=outputs).save(tmp_path / "mine.keras")
    np.savez(tmp_path / "test.npz", x=X, y=Y)
    monkeypatch.setattr(validity, "check", pytest.fail)
    line = [str(tmp_path / "mine.keras"), "--data", str(tmp_path / "test.npz")]
    line += ["--out", str(tmp_path / "out"), "--class-names", "left", "middle", "right"]
    with pytest.raises(command_line.Stop, match="each of the 2 classes of the model") as stopped:
        is_it_an_ode.main(line)
    assert "Received: class_names=['left', 'middle', 'right']. Leave" in str(stopped.value)
