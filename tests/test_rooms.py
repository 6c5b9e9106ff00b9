"""The rooms of the project and the arrows between them, read from the source without importing."""

import ast
import configparser
import os
import pathlib
import subprocess
import sys
import types

import pytest

import tfnode
import zoo

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE_NAMES = ("tfnode", "zoo", "scripts")

# room of tfnode: rooms that it may import, and so may import what these may import
ROOMS = {
    "arguments": set(),
    "typing": set(),
    "files": set(),
    "tables": set(),
    "versions": set(),
    "parts": set(),
    "keras_internals": set(),
    "plots": {"arguments"},
    "markup": set(),
    "charts": {"markup"},
    "tableaus": {"arguments"},
    "solvers": {"tableaus"},
    "integrate": {"solvers"},
    "layers": {"integrate", "keras_internals", "parts", "typing"},
    "initial_values": {"layers"},
    "models": {"layers"},
    "adaption": {"solvers"},
    "batches": {"arguments"},
    "validity": {"batches", "charts", "files", "models", "plots", "versions"},
    "export": {"files", "tables", "validity", "versions"},
    "callbacks": {"adaption", "export", "files", "parts"},
    "datasets": {"files", "integrate", "parts", "typing"},
}
# What a room may import from elsewhere, at the top and in functions; else keras and numpy.
PACKAGES = {
    "typing": {"keras"},
    "files": {"filelock"},
    "tables": set(),
    "versions": set(),
    "parts": set(),
    "keras_internals": {"keras"},
    "tableaus": {"numpy"},
    "solvers": set(),
    "adaption": {"numpy"},
    "plots": {"matplotlib", "numpy"},
    "markup": set(),
    "charts": {"matplotlib", "numpy"},
    "datasets": {"numpy"},
}
# Where a backend is the point it is imported in a function, so that the others work without.
IN_FUNCTIONS = {
    "integrate": {"jax", "tensorflow"},
    "layers": {"torch"},
    "models": {"jax", "tensorflow", "torch"},
    "export": {"google", "tensorflow", "tensorflow_serving"},
    "callbacks": {"jax", "tensorflow"},
    "datasets": {"tensorflow", "tensorflow_datasets"},
}
# Files for one backend, which are themselves imported in functions: what each has of its own.
OF_ONE_BACKEND = {
    "integrate/loops/tensorflow.py": {"tensorflow"},
    "integrate/loops/jax.py": {"jax"},
    "integrate/loops/torch.py": {"torch"},
    "integrate/tfp/__init__.py": {"tensorflow", "tensorflow_probability"},
    "integrate/tfp/guard.py": {"tensorflow"},
    "datasets/concentric_spheres.py": {"tensorflow_datasets"},
    "datasets/energy_landscape.py": {"tensorflow_datasets"},
}
# The zoo's files: those that each imports, and the packages beside keras and tfnode.
ZOO = {
    "weights": set(),
    "hub": {"weights"},
    "facts": set(),
    "manifest": {"facts"},
    "loading": set(),
    "archives": {"loading"},
    "listing": {"manifest"},
    "recipes": set(),
    "layers": set(),
    **{
        name: {"layers", "recipes"}
        for name in ("concentric_spheres", "energy_landscape", "mnist", "cifar10", "cifar10_conv")
    },
    "registry": {
        *("concentric_spheres", "energy_landscape", "mnist", "cifar10", "cifar10_conv"),
        *("archives", "hub", "layers", "listing", "loading", "manifest", "recipes", "reports"),
        "weights",
    },
    "reports": {"manifest"},
    "verification": {"manifest", "registry"},
    "sharing": {"archives", "hub", "loading", "registry"},
    # Its names are imported where they are asked for.
    "__init__": set(),
}
ZOO_PACKAGES = {
    "weights": {"filelock", "pooch"},
    "hub": {"huggingface_hub"},
    "loading": {"h5py", "numpy"},
    "archives": {"h5py"},
}
# A package of the scripts: those that it may import beside what all share; a command, all of them.
SHARED = ("command_line", "machine", "models")
SCRIPTS = {
    **{f"{name}.py": set() for name in SHARED},
    "paper": set(),
    "publishing": {"paper"},
    "serving": {"paper", "publishing"},
    "gpu": {"paper", "publishing"},
    "benchmarks": {"paper"},
    "campaigns": {"paper", "serving"},
}


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def imports(source):
    """Pairs of an imported dotted name and whether it is imported at the top.

    What is imported for annotations alone, under `if TYPE_CHECKING:`, is never run: no arrow.
    """
    found = []

    def visit(node, top):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            found.extend((f"{node.module}.{alias.name}", top) for alias in node.names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, top and not inside)

    visit(ast.parse(source), True)
    return found


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


def room_of(path):
    relative = path.relative_to(ROOT / "tfnode")
    return relative.parts[0].removesuffix(".py")


def reachable(room):
    below = set()
    for other in ROOMS[room]:
        below |= {other} | reachable(other)
    return below


def outside(source):
    """Imports that are neither the standard library's nor this project's."""
    packages = [(name.split(".")[0], top) for name, top in imports(source)]
    ours = {"tfnode", "zoo"}
    return {(p, top) for p, top in packages if p not in sys.stdlib_module_names and p not in ours}


def test_the_scanner_sees_every_import():
    source = (
        "import a.b, c\n"
        "from d import e, f as g\n"
        "class C:\n    import h\n"
        "if c:\n    import i\n"
        "if TYPE_CHECKING:\n    import p\n"
        "def j():\n    import k\n    def l():\n        from m.n import o\n"
    )
    top = ["a.b", "c", "d.e", "d.f", "h", "i"]
    assert imports(source) == [(n, True) for n in top] + [("k", False), ("m.n.o", False)]
    assert reachable("layers") == {
        *("arguments", "integrate", "keras_internals", "parts", "solvers", "tableaus", "typing")
    }


def test_every_room_is_on_the_map():
    assert {room_of(path) for path in files("tfnode")} == {*ROOMS, "__init__"}


tfnode_files = pytest.mark.parametrize(
    "path", files("tfnode"), ids=lambda path: str(path.relative_to(ROOT))
)


@tfnode_files
def test_arrows_point_down(path):
    room = room_of(path)
    imported = [name.split(".") for name, _ in imports(path.read_text(encoding="utf-8"))]
    assert "zoo" not in [name[0] for name in imported]
    rooms = {name[1] for name in imported if name[0] == "tfnode"}
    if room == "__init__":
        assert rooms <= set(ROOMS)
    else:
        assert rooms - {room} <= reachable(room)


@tfnode_files
def test_packages_of_the_rooms(path):
    room = room_of(path)
    found = outside(path.read_text(encoding="utf-8"))
    at_top = {package for package, top in found if top}
    in_functions = {package for package, top in found if not top}
    allowed = set() if room == "__init__" else PACKAGES.get(room, {"keras", "numpy"})
    own = OF_ONE_BACKEND.get(str(path.relative_to(ROOT / "tfnode")), set())
    assert at_top <= allowed | own
    assert in_functions <= allowed | own | IN_FUNCTIONS.get(room, set())


@tfnode_files
def test_what_is_for_one_backend_is_imported_where_it_is_needed(path):
    if str(path.relative_to(ROOT / "tfnode")) in OF_ONE_BACKEND:
        return
    modules = tuple(
        f"tfnode/{name}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in OF_ONE_BACKEND
    )
    at_top = [name for name, top in imports(path.read_text(encoding="utf-8")) if top]
    assert not [name for name in at_top if name.startswith(modules)]


def test_adapting_stands_beside_validity_and_export():
    """Only callbacks that report import them."""
    found = {
        path.name
        for path in files("tfnode/callbacks")
        for name, _ in imports(path.read_text(encoding="utf-8"))
        if name.split(".")[1:2] in (["validity"], ["export"])
    }
    assert found == {"reports.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "zoo").glob("*.py")), ids=lambda path: path.name)
def test_arrows_of_the_zoo(path):
    source, room = path.read_text(encoding="utf-8"), path.stem
    imported = [name.split(".") for name, _ in imports(source)]
    assert {name[1] for name in imported if name[0] == "zoo"} == ZOO[room]
    packages = {package for package, _ in outside(source)}
    assert packages <= {"keras"} | ZOO_PACKAGES.get(room, set())


@pytest.mark.parametrize("package", ["tfnode", "zoo"])
def test_what_is_no_module_is_packaged_by_its_name(package):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"][package].split()
    paths = [p.relative_to(ROOT / package) for p in (ROOT / package).rglob("*") if p.is_file()]
    made = (".py", ".pyc", ".lock")
    others = [p for p in paths if p.suffix not in made and not p.name.startswith(".")]
    assert len(others) >= 2
    assert [str(p) for p in others if not any(p.match(pattern) for pattern in patterns)] == []


def test_what_fetches_weights_stands_alone():
    # So that processes that only fetch are light.
    imported = {
        name.split(".")[0]
        for name, _ in imports((ROOT / "zoo/weights.py").read_text(encoding="utf-8"))
    }
    assert not imported & {"keras", "numpy", "tfnode", "zoo"}
    assert {"filelock", "pooch"} <= imported


def private_names(source):
    """Names with a leading underscore that are taken from something else than `self`."""
    found = [name for name, _ in imports(source) if "._" in name and "__future__" not in name]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            dunder = node.attr.endswith("__")
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os")
            if not dunder and not own:
                found.append(node.attr)
    return found


@pytest.mark.parametrize(
    "path",
    [*files("zoo"), *files("scripts")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_zoo_and_the_scripts_use_public_names(path):
    assert private_names(path.read_text(encoding="utf-8")) == []


def in_the_encoding_of_the_locale(source):
    """Calls that read or write text without saying in which encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        modes = [a.value for a in [*node.args, *keywords.values()] if isinstance(a, ast.Constant)]
        of = ast.unparse(node.func).rpartition(".")[0]
        is_text = name in ("read_text", "write_text") and of not in ("", "files")
        is_file = name == "open" and of not in ("os", "opener", "Image")
        is_file = is_file and not any("b" in str(mode) for mode in modes[-1:])
        if (is_text or is_file or "text" in keywords) and "encoding" not in keywords:
            found.append(ast.unparse(node))
    return found


def test_the_scanner_sees_text_without_an_encoding():
    bad = ["open(p)", "p.open('w')", "p.read_text()", "p.write_text(t)", "run(c, text=True)"]
    good = [
        "open(p, 'rb')",
        "p.open('xb')",
        "files.write_text(p, t)",
        "os.open(p, 0)",
        "Image.open(p)",
    ]
    good += ["p.read_text(encoding='utf-8')", "run(c, encoding='utf-8')"]
    assert in_the_encoding_of_the_locale("\n".join(bad)) == bad
    assert in_the_encoding_of_the_locale("\n".join(good)) == []


@pytest.mark.parametrize(
    "path",
    [path for package in PACKAGE_NAMES for path in files(package)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_text_is_utf_8_whatever_the_locale(path):
    assert in_the_encoding_of_the_locale(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", files("zoo/commands"), ids=lambda path: path.name)
def test_the_installed_command_is_light(path):
    """It imports what takes seconds in functions, and for annotations."""
    found = imports(path.read_text(encoding="utf-8"))
    found = [(n, top) for n, top in found if n.split(".")[0] not in sys.stdlib_module_names]
    assert not [name for name, top in found if top and not name.startswith("zoo.commands.")]
    assert {name.split(".")[0] for name, _ in found} <= {"tfnode", "zoo", "numpy"}


def test_nothing_imports_the_scripts():
    for path in [*files("tfnode"), *files("zoo")]:
        imported = imports(path.read_text(encoding="utf-8"))
        assert "scripts" not in {name.split(".")[0] for name, _ in imported}


# === The scripts ===
COMMANDS = [path for path in files("scripts") if path.parent.name == "scripts"]
COMMANDS = [path for path in COMMANDS if path.stem not in ("__init__", *SHARED)]
commands = pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
scripts_files = pytest.mark.parametrize(
    "path", files("scripts"), ids=lambda path: str(path.relative_to(ROOT / "scripts"))
)


@scripts_files
def test_arrows_of_the_scripts(path):
    room = path.relative_to(ROOT / "scripts").parts[0]
    imported = [name.split(".") for name, _ in imports(path.read_text(encoding="utf-8"))]
    rooms = {name[1] for name in imported if name[0] == "scripts"}
    assert rooms <= SCRIPTS.get(room, set(SCRIPTS)) | {room, *SHARED}


# Where the tfnode of another checkout is measured.
OTHER_CHECKOUT = {
    "benchmarks/worker.py": [
        "if (before := os.environ.get(BEFORE)):\n    sys.path.insert(0, before)"
    ]
}


@scripts_files
def test_no_script_puts_generic_names_on_the_path(path):
    names = {other.stem for other in files("scripts")} - {"__init__"}
    assert not names & {name.split(".")[0] for name, _ in imports(path.read_text(encoding="utf-8"))}
    changes = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.If) and "sys.path" in ast.unparse(node)
    ]
    depth = len(path.relative_to(ROOT).parts) - 1
    line = f"sys.path[0] = str(pathlib.Path(__file__).parents[{depth}])"
    is_run = '__name__ == "__main__"' in path.read_text(encoding="utf-8")
    # An import, as that of these tests, leaves the path alone.
    expected = [f"if not __package__:\n    {line}"] if is_run else []
    assert changes == expected + OTHER_CHECKOUT.get(str(path.relative_to(ROOT / "scripts")), [])
    assert path.read_text(encoding="utf-8").count("sys.path") == len(changes)


@commands
def test_the_docstring_of_a_command_is_its_help(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert f"\n\n    python scripts/{path.name}" in ast.get_docstring(tree, clean=False)
    (parser,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".parser")
    ]
    assert ast.unparse(parser.args[0]) == "__doc__"


def test_a_command_runs_from_any_directory(tmp_path):
    path = ROOT / "scripts" / "serving_client.py"
    (tmp_path / "scripts.py").write_text("raise ImportError")
    command = [sys.executable, str(path), "--help"]
    # Found by its own place alone.
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": variables, "capture_output": True, "text": True}
    printed = subprocess.run(command, **options).stdout
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) in printed


@pytest.mark.parametrize(
    "package, exported",
    [
        (
            tfnode,
            "Augment ODEBlock StepAdaption ToleranceAdaption datasets export odeint solvers "
            "tableaus validity with_solver",
        ),
        (zoo, "Recipe WeightsEntry get_model get_recipe get_report get_weights list_models push"),
    ],
)
def test_exported_names(package, exported):
    assert set(exported.split()) <= set(package.__all__)
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
    # Nothing else that is no module lies in the open.
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public <= set(package.__all__)


def test_it_is_adaption_everywhere():
    word = b"adapt" + b"ation"
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listing.returncode:
        pytest.skip("not a git checkout, so nothing is tracked")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    offenders = [p.name for p in paths if p.is_file() and word in p.read_bytes().lower()]
    assert len(paths) > 30
    assert offenders == []
