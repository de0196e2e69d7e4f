"""What an experiment file says, as data; `fedbench list experiments --keys` prints what is said here of each key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from fedbench.errors import canonical, unknown_name
from fedbench.experiments.rules import Rule, parse_rule
from fedbench.storage.spec import Name

Certainty = Literal["verified", "mean-seen", "remembered"]
CERTAINTY: dict[Certainty, tuple[str, str]] = {  # the mark of a published value, and what it means
    "verified": ("", "seen in a public source"),
    "mean-seen": ("~", "mean seen in a public source, its spread and its row remembered"),
    "remembered": ("?", "remembered and unverified"),
}


def _flat(settings: object, prefix: str = "") -> object:
    """Nested tables, which is what TOML makes of `fedavg.local.lr = 0.01`, as one with dotted keys."""
    if not isinstance(settings, dict):
        return settings
    flat: dict[str, object] = {}
    for key, value in settings.items():
        inner = _flat(value, f"{prefix}{key}.")
        inner = inner if isinstance(inner, dict) else {f"{prefix}{key}": inner}
        if twice := min(flat.keys() & inner.keys(), default=""):
            raise ValueError(f"{twice} is set twice, with quotes and without: say it once")
        flat |= inner
    return flat


Percent = Annotated[float, Field(ge=0, le=100)]
Scalar = bool | int | float | str
Settings = Annotated[dict[str, Scalar], BeforeValidator(_flat)]  # "method.field" -> value
# a plug-in by name, or its file, which lies beside the experiment's
Plugin = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]*|(\./)?[A-Za-z0-9_-]+\.py)$", max_length=80)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Part):
    """Where published values were found, and how sure they are."""

    text: Annotated[str, Field(description="where, so that a reader can look it up")]
    certainty: Annotated[Certainty, Field(description="how sure the values are")]


class Published(_Part):
    """A published cell in percent: a mean from a source, or the reason why there is none."""

    mean: Annotated[Percent | None, Field(description="the published mean in %")] = None
    std: Annotated[Percent | None, Field(description="the published standard deviation over seeds")] = None
    source: Annotated[str | None, Field(description="the name of a [sources.NAME]")] = None
    absent: Annotated[str, Field(description="why there is no value; instead of a mean")] = ""
    certainty: Certainty = "remembered"  # of the source; filled in when the file has been read
    origin: str = ""  # the source's text; filled in likewise


class Claim(_Part):
    """What the paper says of the experiment, and a rule that the results decide."""

    text: Annotated[str, Field(description="the claim in one sentence, in your own words")]
    where: Annotated[str, Field(description="where the paper says it")]
    certainty: Annotated[Certainty, Field(description="how sure it is that the paper says it")]
    rule: Annotated[str, Field(description="what must be true of the cells; see RULES")]

    @property
    def parsed(self) -> Rule:
        """The rule as data."""
        return parse_rule(self.rule)


class Column(_Part):
    """One setting: a column of the table."""

    name: Annotated[Name, Field(description="lower-case letters, digits and hyphens; rules and presets call it so")]
    label: Annotated[str, Field(description="what readers see")]
    dataset: Annotated[Plugin, Field(description="a name, or a file beside this one")]
    clients: Annotated[int, Field(ge=1, description="all clients, those unseen in training among them")]
    partition: Annotated[
        str | None, Field(description="who holds what, as in `fedbench run`; default: the data set's own")
    ] = None
    network: Annotated[
        str | list[str] | None,
        Field(description='one network, "lenet-8*25,lenet*25" or a list of such parts; default: the data set\'s own'),
    ] = None
    visits: Annotated[
        int | None, Field(ge=1, description="client visits of a run in all presets; a longer run answers it")
    ] = None
    novel_clients: Annotated[int, Field(ge=0, description="the last ones, held out of training; they join then")] = 0
    adapt_visits: Annotated[
        int | None, Field(ge=0, description="visits to each client that was held out; default 20")
    ] = None
    x: Annotated[
        float | None,
        Field(
            description="where the column stands on the axis that `axis` names, in sweeps and rules",
            allow_inf_nan=False,
        ),
    ] = None
    settings: Annotated[Settings, Field(description="hyperparameters in this column only; over the experiment's")] = {}
    not_applicable: Annotated[dict[str, str], Field(description="method -> why it has no cell here")] = {}

    @property
    def networks(self) -> str | None:
        """The networks as one text."""
        return ",".join(self.network) if isinstance(self.network, list) else self.network


class Length(_Part):
    """A preset: how long the runs are, and which columns and methods are run."""

    visits: Annotated[int, Field(ge=1, description="client visits of a run")] = 1000
    column_visits: Annotated[
        dict[Name, Annotated[int, Field(ge=1)]],
        Field(description="client visits of a run in single columns, instead: { COLUMN = 2000 }"),
    ] = {}
    seeds: Annotated[int, Field(ge=1, le=100, description="the first so many seeds")]
    evaluate_every: Annotated[
        int,
        Field(ge=1, description="visits between two evaluations; keep one grid, so that long runs answer for short"),
    ] = 50
    columns: Annotated[list[Name] | None, Field(description="those of this preset; default: all")] = None
    methods: Annotated[list[Name] | None, Field(description="those of this preset; default: all")] = None


Show = Literal["grid", "measures", "differences", "communication"]
Draw = Literal["visits", "megabytes", "seconds", "front", "clients", "unseen"]
Extra = Literal[
    "sweep", "sizes", "distance", "extractors", "embeddings", "local-steps", "linear-theory"
]  # parts of a report that one experiment of the paper has: fedbench/reporting/paper
DRAWN = {"linear-theory"}  # those that draw their problems, and need no runs


class Experiment(_Part):
    """What an experiment file says."""

    title: Annotated[str, Field(description="a few words")]
    paper: Annotated[str, Field(description="the paper, and its table or figure")]
    caption: Annotated[str, Field(description="what is shown; what is known, inferred and unknown of the original")]
    metric: Annotated[
        Literal["pooled", "client-mean"], Field(description="accuracy over all samples, or the mean over clients")
    ]
    tables: Annotated[list[Show], Field(description="the common tables")] = []
    figures: Annotated[list[Draw], Field(description="the common figures")] = []
    extras: Annotated[list[Extra], Field(description="tables and figures of the paper that need more than scores")] = []
    axis: Annotated[Name | None, Field(description="what the columns' `x` is, e.g. k; rules then know k=5")] = None
    keep_models: Annotated[bool, Field(description="runs store the personal models of the chosen round")] = False
    target: Annotated[
        Percent | None, Field(description="accuracy in % whose price in bytes the communication table gives")
    ] = None
    reference: Annotated[
        Name | None, Field(description="the method that others are compared with; default: the best")
    ] = None
    methods: Annotated[list[Plugin], Field(description="rows: names, or files beside this one")] = []
    columns: Annotated[list[Column], Field(description="settings: [[columns]]")] = []
    presets: Annotated[dict[Name, Length], Field(description="how long: [presets.smoke], [presets.laptop], ...")]
    settings: Annotated[Settings, Field(description="hyperparameters, as in fedavg.local.lr = 0.01")] = {}
    settings_file: Annotated[
        str | None,
        Field(
            description="hyperparameters that `fedbench tune` wrote, at or below this file; `settings` go before",
            pattern=r"^([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+\.toml$",
        ),
    ] = None
    sources: Annotated[dict[Name, Source], Field(description="of published values: [sources.NAME]")] = {}
    published: Annotated[
        dict[Name, dict[Name, Published]], Field(description="published values: [published.COLUMN] METHOD = { ... }")
    ] = {}
    claims: Annotated[list[Claim], Field(description="what the paper says of it: [[claims]]")] = []

    _path: Path = PrivateAttr(default=Path())
    _text: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The file's stem; also the folder of the report."""
        return canonical(self._path.stem)

    @property
    def folder(self) -> Path:
        """Where plug-in files that the experiment names lie."""
        return self._path.resolve().parent

    @property
    def method_names(self) -> list[str]:
        """Methods by name; one that is a file is named by its stem."""
        return [plugin_name(method) for method in self.methods]

    def length(self, preset: str) -> Length:
        """One preset. Raises BadInput for an unknown one."""
        if preset not in self.presets:
            raise unknown_name(f"preset of the experiment {self.name}", preset, self.presets)
        return self.presets[preset]

    def chosen(self, preset: str) -> list[Column]:
        """The columns of a preset."""
        names = self.length(preset).columns
        return [column for column in self.columns if names is None or column.name in names]

    def chosen_methods(self, preset: str) -> list[str]:
        """The names of the methods of a preset."""
        names = self.length(preset).methods
        return [name for name in self.method_names if names is None or name in names]

    def visits(self, column: Column, preset: str) -> int:
        """The client visits of a run in `column`."""
        length = self.length(preset)
        return length.column_visits.get(column.name) or column.visits or length.visits


def plugin_name(text: str) -> str:
    """The name of the plug-in that `text` names or is the file of."""
    return canonical(Path(text).stem) if text.endswith(".py") else text


PARTS: dict[str, type[BaseModel]] = {
    "columns": Column,
    "presets": Length,
    "sources": Source,
    "published": Published,
    "claims": Claim,
}


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that a part of a file may have."""
    return [key for key in model.model_fields if key not in ("certainty", "origin") or model is not Published]
