"""The Python of the README and of the site's first pages runs as it stands, from top to bottom."""

import pathlib

import fences
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def test_the_readme_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names, printed = {}, []
    for code in fences.of("README.md", "python"):
        exec(code, names)
        printed.append(capsys.readouterr().out.splitlines())
    assert names["step_adaption"].history[-1]["iteration"] == 800
    # What the pages show below the program; test_guides.py has the answer of JAX.
    shown, _ = fences.of("README.md", "text")
    words, numbers = fences.words_and_numbers("\n".join(printed[0]) + "\n")
    shown_words, shown_numbers = fences.words_and_numbers(shown)
    assert words == shown_words
    # A training takes the rounding of the processor along.
    assert numbers == pytest.approx(shown_numbers, abs=1.5)
    assert fences.of("docs/start.md", "text") == [shown]
    # The constants of the time series are found.
    rates = [float(rate) for rate in printed[1][-1].strip("[]").split()]
    np.testing.assert_allclose(rates, [1.5, 1.0, 0.8, 1.2], atol=2e-3)
    # The pretrained model's verdict.
    assert printed[2][-1].split()[0] == str(names["report"].is_ode) == "True"


def test_the_first_pages_run(monkeypatch, tmp_path, capsys):
    """On what the README has built, which the page of the first five minutes shows."""
    monkeypatch.chdir(tmp_path)
    start = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    assert '--8<-- "README.md:first-model"' in start
    names = {}
    (first,) = fences.of("README.md", "python", 0)
    # Few epochs: the same code, trained to the end, is above.
    exec(first.replace("epochs=40", "epochs=2"), names)
    verdict, kept = fences.of("docs/start.md", "python")
    exec(verdict, names)
    exec(kept, names)
    with np.load(tmp_path / "test.npz") as arrays:
        assert arrays["x"].shape == (1000, 2)
    assert (tmp_path / "mine.keras").is_file()
    assert (tmp_path / "verdict.png").stat().st_size > 5000
    assert "RK4" in capsys.readouterr().out
    (overview,) = fences.of("docs/index.md", "python")
    exec(overview, names)
    assert names["report"].rows[0].accuracy > 0.4
