"""Figures as PNG files."""

import io
import pathlib

from matplotlib.figure import Figure
from PIL import Image

from tfnode import files


def write_png(figure: Figure, path: pathlib.Path, dpi: float | str = "figure") -> None:
    """Writes a figure in 256 colours: to the eye the same, in a third of the bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    with files.beside(path) as written, Image.open(drawn) as image:
        image.convert("RGB").quantize(256).save(written, "PNG", optimize=True)
