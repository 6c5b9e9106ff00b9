"""The Python of the README runs as it stands, from top to bottom."""

import pathlib
import re

README = pathlib.Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        exec(code, names)
    assert names["step_adaption"].history[-1]["iteration"] == 750
    # Accuracies under both solvers, and the verdict in the last line.
    accuracies, verdict = capsys.readouterr().out.splitlines()[-2:]
    assert accuracies.startswith("[")
    assert verdict.split()[0] == str(names["report"].is_ode)
