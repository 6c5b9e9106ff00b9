"""Writes the cards of pretrained weights: a page and a validity figure for each, in docs/zoo.

    python scripts/write_cards.py
    python scripts/write_cards.py energy_landscape_rk4_damped_v1

A card says what the manifest, the run of the training and the verdict say that the weight was
published with, and what `scripts/benchmark.py --cases zoo` has measured of its answers;
`scripts/verify_zoo.py` judges it again. Table 1, which cards compare with, is copied into the
package, for `tfnode table1`.
"""

import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.publishing import names


def main(arguments: Sequence[str]) -> int:
    chosen = names.parser(__doc__).parse_args(arguments).names
    from scripts.publishing import card_index, cards, places
    from tfnode import files
    from zoo import manifest

    table1 = places.PACKAGED_TABLE1
    places.check_writable(places.CARDS, places.WHOLE_TEST_SETS, table1)
    content = manifest.read()
    for name in chosen or content.weights:
        print(f"Written: {cards.write(content.weights[name])}")
    card_index.write(content)
    files.write_text(table1, places.TABLE1.with_suffix(".csv").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
