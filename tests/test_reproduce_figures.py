"""The command that reproduces the figures: end to end, again without training."""

import json

from scripts import reproduce_figures
from scripts.paper import runner


def test_end_to_end_and_again(tmp_path, capsys, monkeypatch):
    options = ["--seeds", "1", "--iterations", "50", "--jobs", "1"]
    places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert reproduce_figures.main(["--quick", *options, *places, "1", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"Written: {tmp_path / 'out' / 'figure01.png'}" in printed
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "README.md",
        *(f"figure0{i}.{e}" for i in "12" for e in ("json", "pdf", "png")),
    ]
    note = json.loads((tmp_path / "out" / "figure01.json").read_text())
    assert (note["setting"], note["runs"], note["finished"]) == ("quick", 2, 2)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Drawn from 2 of 2 runs in the quick setting, 50 iterations." in page
    assert page.count("`python scripts/reproduce_figures.py --quick --seeds 1 --iterations 50") == 2
    assert "Not drawn yet, as none of their runs is there: 3, 4, 5, " in page
    paths = [
        json.loads(p.read_text())["paths"] for p in sorted((tmp_path / "runs").rglob("*.json"))
    ]
    shapes = [
        (p["num_steps"], len(p["states"]), len(p["states"][0]), len(p["classes"])) for p in paths
    ]
    assert shapes == [(8, 9, 30, 30), (256, 65, 30, 30)]
    # A longer walk is kept every fourth step only; the crossings are those of all of them.
    assert all(p["crossings"] == len(p["points"]) for p in paths)

    monkeypatch.setattr(runner, "run_all", None)
    assert reproduce_figures.main(["--quick", "--finished", *options, *places, "1", "3"]) == 0
    printed = capsys.readouterr().out
    assert "figure01.png" in printed
    assert f"Figure 3 has no finished run below {tmp_path / 'runs'} and is left out." in printed
