"""The list of all cards, as a page and as a CSV file."""

import csv
import io
from typing import Any

import zoo
from scripts.publishing import cards, places
from tfnode import files, tables
from zoo import listing, manifest


def write(content: manifest.Manifest) -> None:
    """Writes the page that lists the cards, and the same for programs."""
    files.write_text(places.CARDS / "README.md", page(content))
    files.write_text(places.CARDS / "results.csv", results(content))


def records(content: manifest.Manifest) -> list[dict[str, Any]]:
    """Returns what is known of every weight, as plain values, in the order of the models."""
    found = listing.WeightsTable(content.weights.values(), content.default.values()).records
    models = zoo.list_models()
    return sorted(found, key=lambda record: models.index(record["model"]))


def results(content: manifest.Manifest) -> str:
    """Returns the results of the zoo as a CSV file."""
    text, rows = io.StringIO(), records(content)
    writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def page(content: manifest.Manifest) -> str:
    """Returns the page that lists the cards."""
    header = (
        *("weights", "solver", "steps", "evaluations", "accuracy", "under RK4", "gap"),
        *("whole test set", "verdict", ""),
    )
    whole = cards.whole_test_sets()
    cells = [
        (
            f"[{record['weights']}]({record['weights']}.md)",
            record["solver"],
            record["steps"] or "adaptive",
            record["nfe"] or "",
            f"{100 * record['accuracy']:.1f} %",
            f"{100 * record['accuracy_under_rk4']:.1f} %",
            f"{100 * record['gap']:.1f}",
            f"{100 * whole.get(record['weights'], record)['accuracy']:.1f} %",
            "an ODE" if record["is_ode"] else "not an ODE",
            "`DEFAULT`" if record["default"] else "",
        )
        for record in records(content)
    ]
    intro = (
        "The pretrained weights, accuracies on the test set, and of most that classify images on "
        "the part of it that their cards name, with that of the whole beside it. `cifar10_conv` is "
        "beyond the paper. *Evaluations* are those of the vector field in a forward pass; the "
        "*gap* is the largest difference in accuracy to a better solver that was tried, in points; "
        "that of an ODE is at most 2. The command on its card made each, `scripts/verify_zoo.py` "
        "measures them again, and `scripts/write_cards.py` wrote this."
    )
    return "\n\n".join(["# The zoo", intro, tables.markdown(header, cells)]) + "\n"
