"""The documentation site: it is built without a warning, and opened page by page in a browser."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import browsers
import filelock
import pytest
import test_rooms
import test_types

ROOT = pathlib.Path(__file__).parents[1]
# The packages of which everything that they export is for users.
PUBLIC = ("adaption", "datasets", "export", "solvers", "validity")
needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("material", "mkdocstrings_handlers")),
    reason="mkdocs-material and mkdocstrings are not installed: extra docs",
)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site; of several workers the first one builds it for all."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with filelock.FileLock(f"{place}.lock"):
        if not place.exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", place]
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
            options = {"capture_output": True, "encoding": "utf-8"}
            built = subprocess.run(command, cwd=ROOT, env=environment, **options)
            assert built.returncode == 0, built.stderr
    return place


@pytest.fixture(scope="module")
def browser():
    with browsers.opened() as browser:
        yield browser


# What a page holds: its links, the places that links lead to, and pictures without a text.
CONTENT = """[
    [...document.querySelectorAll("a[href]")].map((a) => a.href),
    [...document.querySelectorAll("[id]")].map((element) => element.id),
    [...document.images].filter((image) => !image.alt.trim()).map((image) => image.src),
]"""


@needs_mkdocs
def test_every_page_opens_without_errors_dead_links_or_network(site, browser):
    links, ids, faults, requests = {}, {}, [], set()
    with browsers.served(site) as address, browser.new_page() as page:
        tell = lambda text: faults.append(f"{page.url}: {text}")
        page.on("console", lambda message: message.type in ("error", "warning") and tell(message))
        page.on("pageerror", tell)
        page.on("response", lambda answer: answer.status < 400 or tell(answer.url))
        page.on("request", lambda request: requests.add(request.url))
        for path in sorted(site.rglob("*.html")):
            name = str(path.relative_to(site))
            page.goto(f"{address}/{name}")
            links[name], ids[name], nameless = page.evaluate(CONTENT)
            faults += [f"{page.url}: no text for {image}" for image in nameless]
    assert len(links) > 50
    assert faults == []
    assert {request for request in requests if not request.startswith(address)} == set()
    assert {
        (name, link)
        for name in links
        for link in links[name]
        if not leads_somewhere(link, address, site, ids)
    } == set()


def leads_somewhere(link, address, site, ids):
    """Whether a link is one to a page or a file of the site and a place in it, or to elsewhere."""
    url, fragment = urllib.parse.urldefrag(link)
    if not url.startswith(f"{address}/"):
        return url.startswith("https://")
    name = urllib.parse.unquote(url.removeprefix(f"{address}/"))
    name += "index.html" if name.endswith("/") or not name else ""
    return (site / name).is_file() and (not fragment or fragment in ids[name])


@needs_mkdocs
def test_the_table_of_the_zoo_sorts(site, browser):
    """By numbers and by text, upwards and downwards, by mouse and by keyboard."""
    with browsers.served(site) as address, browser.new_page() as page:
        page.goto(f"{address}/zoo/index.html")
        table = page.locator("article table").first

        def column(name):
            heads = [text.rstrip(" ↕↑↓") for text in table.locator("th").all_inner_texts()]
            cells = table.locator(f"tbody td:nth-child({heads.index(name) + 1})")
            return cells.all_inner_texts()

        before = column("weights")
        for name in ("accuracy", "evaluations", "gap"):
            numbers = lambda name=name: [float(text.rstrip(" %")) for text in column(name)]
            head = table.locator("th", has_text=name)
            head.get_by_role("button").click()
            assert numbers() == sorted(numbers())
            assert head.get_attribute("aria-sort") == "ascending"
            head.get_by_role("button").press("Enter")
            assert numbers() == sorted(numbers(), reverse=True)
            assert numbers()[0] > numbers()[-1]
            assert table.locator("th[aria-sort]").count() == 1
        table.locator("th", has_text="weights").get_by_role("button").click()
        assert column("weights") == sorted(before) != before


@needs_mkdocs
def test_every_public_name_is_in_the_reference(site):
    pages = "".join(
        path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html")
    )
    public = ("tfnode", "zoo", *(f"tfnode.{name}" for name in PUBLIC))
    names = {name for name in test_types.exported() if name.rpartition(".")[0] in public}
    assert {name for name in names if f'id="{name}"' not in pages} == set()


@needs_mkdocs
def test_docstrings_are_read_in_keras_order():
    from scripts.publishing import docstrings

    text = "A line.\n\n>>> 1 + 1\n2\n\nMore:\n\n>>> 3\n3\n\nCall arguments:\n    x: A."
    assert docstrings.in_googles_style(text) == (
        "A line.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore:\n\n```pycon\n>>> 3\n3\n```\n\n"
        "Other args: Call arguments\n    x: A."
    )


def test_the_page_on_the_design_has_every_room():
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert {room for room in test_rooms.ROOMS if f"`{room}`" not in page} == set()
    for line in page.split("| may import |\n|---|---|---|\n")[1].split("\n\n")[0].splitlines():
        room, _, below = (cell.strip().replace("`", "") for cell in line.strip("|").split("|"))
        assert {name for name in below.split(", ") if name} <= test_rooms.reachable(room), room


def test_where_every_picture_is_made_is_said():
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    _, table = page.split("| what | by |\n|---|---|\n")
    made = [line.split(" | ") for line in table.split("\n\n")[0].splitlines()]
    scripts = {name for _, by in made for name in re.findall(r"`python (\S+)`", by)}
    assert {name for name in scripts if not (ROOT / name).is_file()} == set()
    named = [name for what, _ in made for name in re.findall(r"`(\S+)`", what)]
    places = {path for name in named for path in ROOT.glob(name)}
    pictures = [p for p in ROOT.glob("docs/**/*") if p.suffix in (".png", ".svg", ".jpg", ".gif")]
    assert len(pictures) > 60
    assert [p for p in pictures if places.isdisjoint([p, *p.parents])] == []
