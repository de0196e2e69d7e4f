"""`fedbench new experiment NAME`: a commented experiment file that runs on the digits as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from fedbench.errors import BadInput, canonical
from fedbench.experiments.schema import names

EXPERIMENT = """\
# {title}: replace this line by what the experiment is to show.
#
#     fedbench reproduce {file} --preset smoke        runs it (in half a minute) and writes reports/{name}
#     fedbench reproduce {file} --no-run              renders what has been run
#     fedbench list experiments --keys                every key that a file can have
#
# Mistakes are answered with their lines, all at once. Runs are stored and never made twice.

title = "{title}"
paper = "Authors, Title, venue year, Table 1"
caption = "What is shown; what is known of the original, what is inferred, and what is unknown."
metric = "pooled"  # accuracy over all test rows; or "client-mean"
tables = ["grid", "measures", "differences"]  # or "communication"
figures = ["visits", "clients"]  # or "megabytes", "seconds", "front", "unseen"
methods = ["fedavg", "pfedhn"]  # rows: names, or files beside this one, such as "own.py"

# Hyperparameters, METHOD.FIELD as `fedbench list methods METHOD` shows them; `all` is every method that has the field.
[settings]
all.local.lr = 0.01

# How long: visits of a run, and seeds. Look at validation every 50 visits (the default) in all presets, so that a long
# run answers for the short ones.
[presets.smoke]
visits = 50
seeds = 2

[presets.laptop]
visits = 1000
seeds = 3

# Columns: one setting each. Also: network, novel_clients, visits, and settings that hold here only.
[[columns]]
name = "digits-10"
label = "Digits, 10 clients"
dataset = "digits"
clients = 10
partition = "classes:per_client=2,spare=1"

[[columns]]
name = "digits-20"
label = "Digits, 20 clients"
dataset = "digits"
clients = 20
partition = "dirichlet:alpha=0.3"

# Published values, in %, with their source and how sure they are: verified, mean-seen or remembered.
[sources.example]
text = "made up, to show the form: put where the values were read here"
certainty = "remembered"

[published.digits-10]
fedavg = {{ mean = 50.0, std = 1.0, source = "example" }}
pfedhn = {{ absent = "not reported" }}

# What the paper claims, and the rule that the results decide, by the paired interval over seeds.
[[claims]]
text = "pFedHN is more accurate than FedAvg."
where = "section 5"
certainty = "remembered"
rule = "pfedhn > fedavg in digits-10"
"""


def new_experiment(name: str, folder: Path = Path()) -> list[Path]:
    """Write NAME.toml into `folder`. Raises BadInput for an unusable name and for a file that is there."""
    stem = canonical(name)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", stem):
        raise BadInput(f"{name!r} is no name for an experiment: use letters, digits, - and _ only")
    if stem in names():
        raise BadInput(f"{stem} is an experiment of the package, with reports of its own: choose another name")
    path = folder / f"{stem}.toml"
    text = EXPERIMENT.format(title=name.strip(), name=stem, file=f"./{path.name}" if folder == Path() else path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise BadInput(f"{path} is there already: choose another name or folder") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
    return [path]
