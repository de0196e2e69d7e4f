"""Looking at a partition: a frame, a few lines to print, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedbench.dataset import Data
from fedbench.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

from fedbench.partitions.deal import SPLITS, Partition


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


def picture(partition: Partition, data: Data, path: Path) -> None:
    """Saves a picture of who holds what: clients across, classes upwards, the number of training rows as colour.

    The file's suffix names the format (.png, .pdf, .svg). Raises BadInput for a suffix that matplotlib cannot write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts = partition.histogram(data.labels, data.classes).numpy().T
    width = min(10.0, max(4.5, 1.5 + 0.3 * partition.clients))
    height = min(6.0, max(3.0, 1.0 + 0.3 * data.classes))
    figure = Figure(figsize=(width + 1, height), layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in formats:
        raise BadInput(f"{path} cannot be written: its suffix must be one of {', '.join(sorted(formats))}")
    axes = figure.add_subplot()
    shown = np.ma.masked_equal(counts, 0)
    edges = [np.arange(size + 1) - 0.5 for size in reversed(counts.shape)]
    few = max(counts.shape) <= 50
    mesh = axes.pcolormesh(*edges, shown, cmap="YlGnBu", vmin=0, edgecolors="white" if few else "none", linewidth=0.8)
    for axis, name in ((axes.xaxis, "client"), (axes.yaxis, "class")):
        axis.set_major_locator(MaxNLocator(nbins=12, integer=True, steps=[1, 2, 5, 10]))
        axis.set_label_text(name)
    axes.set_title(f"{partition.clients} clients hold {partition.used:.1%} of the samples", fontsize="medium")
    figure.colorbar(mesh, ax=axes, label="training rows (white: none)", pad=0.02)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
