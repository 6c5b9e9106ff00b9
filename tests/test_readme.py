"""The Python of the README runs as it stands, from top to bottom."""

import pathlib
import re

import numpy as np

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names, printed = {}, []
    for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(code, names)
        printed.append(capsys.readouterr().out.splitlines())
    assert names["step_adaption"].history[-1]["iteration"] == 800
    # The first model is an ODE, as the README says.
    first, _ = printed[0]
    assert first.startswith("an ODE: True, accuracy 9")
    # The constants of the time series are found.
    rates = [float(rate) for rate in printed[1][-1].strip("[]").split()]
    np.testing.assert_allclose(rates, [1.5, 1.0, 0.8, 1.2], atol=2e-3)
    # The pretrained model's verdict.
    assert printed[2][-1].split()[0] == str(names["report"].is_ode) == "True"
