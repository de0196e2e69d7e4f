"""Pictures of who holds which classes. They need the data and torch, which other parts of a report do without."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fedbench.errors import BadInput
from fedbench.reporting.figures import Picture
from fedbench.reporting.settings import SettingResults


def pictures(
    by_setting: Sequence[SettingResults], data_root: Path | None = None, download: bool = True
) -> tuple[list[Picture], list[str]]:
    """A picture of each setting's partition, under the first seed; a sentence for each that could not be made.

    Without `download`, a data set that is not there is not fetched.
    """
    from fedbench import plugins
    from fedbench.dataset import data_root as find_root
    from fedbench.partitions import picture
    from fedbench.runs.prepare import load_data, make_partition

    made: list[Picture] = []
    missing: list[str] = []
    for setting in by_setting:
        if not setting.runs:
            continue
        run = setting.runs[0]
        spec = run.spec
        root = find_root(data_root)
        file = root / f"{spec.dataset}.npz"
        try:
            if plugins.find_dataset(spec.dataset).cls.cached and not download and not file.exists():
                raise BadInput(f"{file} is not there")
            partition = make_partition(spec.dataset, root, spec.partition, spec.clients, spec.seed)
            data = load_data(spec.dataset, root)
        except BadInput as error:
            missing.append(f"no picture of the partition of {setting.label}: {error}")
            continue
        if partition.checksum() != run.partition:
            missing.append(
                f"no picture of the partition of {setting.label}: these data give another one than the runs had"
            )
            continue
        files = {}
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("png", "pdf"):
                path = Path(folder) / f"partition.{kind}"
                picture(partition, data, path)
                files[kind] = path.read_bytes()
        title = f"Who holds what: {setting.label}"
        caption = f"Training rows of each client and class, seed {spec.seed}, partition {spec.partition}."
        made.append(Picture(f"{setting.name}-partition", title, caption, files))
    return made, missing
