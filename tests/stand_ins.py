"""A zoo of untrained weights in a temporary place, for the tests of everything around weights."""

import hashlib
import json

import tfnode
import zoo
import zoo.manifest
import zoo.reports
import zoo.weights

# What the manifest says of a weight, but for its file.
ENTRY = {
    "model": "energy_landscape",
    "parameters": 2603,
    "dataset": "energy_landscape/three_minima",
    "accuracy": {"train_solver": 0.985, "rk4_fine": 0.75},
    "rk4_steps": 256,
    "test_samples": None,
    "is_ode": False,
    "gap": 0.235,
    "solver": {"class_name": "Euler", "config": {"step_size": 0.125}},
    "seed": 0,
    "recipe": {"iterations": 10},
    "versions": {"keras": "3.15.1"},
    "machine": "x86_64, 2 cores",
    "licence": "Apache-2.0",
    "note": "A stand-in.",
}


class StandInZoo:
    """A manifest and its files, which take the places of the package's.

    Args:
        path: `pathlib.Path`, an empty directory.
        monkeypatch: The fixture of pytest.
    """

    def __init__(self, path, monkeypatch):
        self.manifest, self.shipped, self.home = path / "weights.json", path / "in", path / "home"
        self.server = path / "server"
        self.shipped.mkdir()
        self.server.mkdir()
        self.content = {"weights": {}, "default": {}}
        self.write()
        monkeypatch.setattr(zoo.manifest, "PATH", self.manifest)
        monkeypatch.setattr(zoo.weights, "SHIPPED", self.shipped)
        monkeypatch.setattr(zoo.reports, "DIRECTORY", path / "reports")
        monkeypatch.setenv("TFNODE_HOME", str(self.home))
        for name in ("TFNODE_ZOO_URL", "TFNODE_OFFLINE"):
            monkeypatch.delenv(name, raising=False)

    def add(self, model="energy_landscape", solver=None, how="fresh_v1", shipped=True, **changes):
        """Saves fresh weights of a model; returns their name and the model."""
        solver = solver or tfnode.solvers.Euler(1 / 8)
        name = f"{model}_{type(solver).__name__.lower()}_{how}"
        file = (self.shipped if shipped else self.server) / f"{name}.weights.h5"
        built = zoo.get_model(model, solver=solver)
        built.save_weights(file)
        facts = {
            "model": model,
            "parameters": sum(weight.numpy().size for weight in built.trainable_weights),
            "dataset": zoo.get_recipe(model).dataset,
            "solver": tfnode.solvers.serialize(built.get_layer("ode_block").solver),
        }
        self.declare(name, file.read_bytes(), **facts, **changes)
        return name, built

    def declare(self, name, content, **changes):
        """Adds an entry to the manifest, with the hash of a content."""
        self.content["weights"][name] = {
            **ENTRY,
            "file": f"{name}.weights.h5",
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            **changes,
        }
        self.write()

    def change(self, name, /, **changes):
        """Changes an entry of the manifest."""
        self.content["weights"][name] |= changes
        self.write()

    def write(self):
        self.manifest.write_text(json.dumps(self.content))
