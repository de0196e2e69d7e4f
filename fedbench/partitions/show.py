"""Looking at a partition: a frame, a few lines to print, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.dataset import Data
from fedbench.errors import BadInput
from fedbench.partitions.deal import SPLITS, Partition

if TYPE_CHECKING:
    import pandas as pd


def table(partition: Partition, data: Data) -> pd.DataFrame:
    """One row a client: how many training, validation and test rows, and how many training rows of every class."""
    import pandas as pd

    sizes = {name: [len(rows) for rows in getattr(partition, name)] for name in SPLITS}
    counts = partition.histogram(data.labels, data.classes).numpy()
    frame = pd.DataFrame(sizes | {f"class {c}": counts[:, c] for c in range(data.classes)})
    return frame.rename_axis("client")


def summary(partition: Partition, data: Data) -> str:
    """A few lines to print: the share of the data that is used; min, mean and max over clients and over classes."""
    counts = partition.histogram(data.labels, data.classes).numpy()
    lines = {f"{name} rows of a client": [len(rows) for rows in getattr(partition, name)] for name in SPLITS}
    lines |= {"classes of a client": (counts > 0).sum(axis=1), "clients of a class": (counts > 0).sum(axis=0)}
    lines |= {"train rows of a class": counts.sum(axis=0)}
    head = f"{partition.clients} clients hold {partition.used:.1%} of {partition.samples} samples"
    body = [f"{name:<25} {min(v):>7} {np.mean(v):>9.1f} {max(v):>7}" for name, v in lines.items()]
    columns = f"{'':<25} {'min':>7} {'mean':>9} {'max':>7}"
    return "\n".join([head, columns, *body, f"checksum {partition.checksum()}"])


WIDTH = 3.25  # inches: a column of print, as all figures of a report
STAMPS = {"pdf": "CreationDate", "svg": "Date", "png": "Software", "ps": "CreationDate", "eps": "CreationDate"}


def picture(partition: Partition, data: Data, path: Path) -> None:
    """Save a picture of who holds what: clients across, classes upwards, the number of training rows as colour.

    The file's suffix names the format (.png, .pdf, .svg), and the same partition gives the same bytes every time.
    Raises BadInput for a suffix that matplotlib cannot write.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts = partition.histogram(data.labels, data.classes).numpy().T
    # no date, no version, no random name goes into the file; letters are 7 and 8 points high
    look = {"svg.hashsalt": "fedbench", "pdf.fonttype": 42, "font.size": 8, "xtick.labelsize": 7, "ytick.labelsize": 7}
    with mpl.rc_context(look):  # type: ignore[arg-type]
        figure = Figure(figsize=(WIDTH, min(3.2, max(1.9, 0.9 + 0.14 * data.classes))), layout="constrained")
        kind = path.suffix.removeprefix(".").lower()
        formats = figure.canvas.get_supported_filetypes()
        if kind not in formats:
            raise BadInput(f"{path} cannot be written: its suffix must be one of {', '.join(sorted(formats))}")
        axes = figure.add_subplot()
        shown = np.ma.masked_equal(counts, 0)
        edges = [np.arange(size + 1) - 0.5 for size in reversed(counts.shape)]
        few = max(counts.shape) <= 50
        colors = "white" if few else "none"
        mesh = axes.pcolormesh(*edges, shown, cmap="YlGnBu", vmin=0, edgecolors=colors, linewidth=0.4)
        for axis, name in ((axes.xaxis, "client"), (axes.yaxis, "class")):
            axis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
            axis.set_label_text(name)
        axes.set_title(f"{partition.clients} clients hold {partition.used:.1%} of the samples", fontsize=8)
        figure.colorbar(mesh, ax=axes, label="training rows (white: none)", pad=0.02)
        try:
            figure.savefig(path, dpi=200, metadata={STAMPS[kind]: None} if kind in STAMPS else None)
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from None
