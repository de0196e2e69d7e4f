"""Experiments as data: a TOML file for a table or figure of a paper, read and checked, without torch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.storage.spec import Name

FOLDER = Path(__file__).parent
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
        flat.update(inner if isinstance(inner, dict) else {f"{prefix}{key}": inner})
    return flat


Percent = Annotated[float, Field(ge=0, le=100)]
Scalar = bool | int | float | str
Settings = Annotated[dict[str, Scalar], BeforeValidator(_flat)]  # "method.field" -> value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(_Part):
    """Where published values were found, and how sure they are."""

    text: str
    certainty: Certainty


class Published(_Part):
    """A published cell in percent: a mean from a source, or the reason why there is none."""

    mean: Percent | None = None
    std: Percent | None = None
    source: str | None = None
    absent: str = ""
    certainty: Certainty = "remembered"  # of the source; filled in when the file has been read
    origin: str = ""  # the source's text; filled in likewise


class Column(_Part):
    """One setting: a column of the table."""

    name: Name
    label: str
    dataset: Name
    clients: Annotated[int, Field(ge=1)]
    partition: str | None = None
    network: str | None = None
    novel_clients: Annotated[int, Field(ge=0)] = 0
    adapt_visits: Annotated[int, Field(ge=0)] | None = None
    settings: Settings = {}  # in this column only; over the experiment's
    not_applicable: dict[str, str] = {}  # method -> why there is no such cell


class Length(_Part):
    """A preset: how long the runs are, and which columns are run."""

    visits: Annotated[int, Field(ge=1)]
    seeds: Annotated[int, Field(ge=1, le=100)]
    evaluate_every: Annotated[int, Field(ge=1)]
    columns: list[Name] | None = None


Show = Literal["grid", "measures", "differences", "communication"]
Draw = Literal["visits", "megabytes", "seconds", "front", "clients", "unseen"]
Method = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]*|(\./)?[A-Za-z0-9_-]+\.py)$", max_length=80)]


class Experiment(_Part):
    """What an experiment file says."""

    title: str
    paper: str
    caption: str
    metric: Literal["pooled", "client-mean"]
    tables: Annotated[list[Show], Field(min_length=1)]
    figures: list[Draw] = []
    target: Percent | None = None  # accuracy whose price in bytes the communication table gives
    reference: Name | None = None  # the method that the others are compared with; None: the best
    methods: Annotated[list[Method], Field(min_length=1)]
    columns: Annotated[list[Column], Field(min_length=1)]
    presets: dict[Name, Length]
    settings: Settings = {}
    sources: dict[Name, Source] = {}
    published: dict[Name, dict[Name, Published]] = {}  # column -> method -> value

    _path: Path = PrivateAttr(default=Path())
    _text: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The file's stem; also the folder of the report."""
        return canonical(self._path.stem)

    @property
    def method_names(self) -> list[str]:
        """Methods by name; one that is a file is named by its stem."""
        return [canonical(Path(method).stem) if method.endswith(".py") else method for method in self.methods]

    def length(self, preset: str) -> Length:
        """One preset. Raises BadInput for an unknown one."""
        if preset not in self.presets:
            raise unknown_name(f"preset of the experiment {self.name}", preset, self.presets)
        return self.presets[preset]

    def chosen(self, preset: str) -> list[Column]:
        """The columns of a preset."""
        names = self.length(preset).columns
        return [column for column in self.columns if names is None or column.name in names]

    def mistake(self, where: Sequence[str | int], message: str) -> BadInput:
        """The error for a mistake at the key `where`."""
        return BadInput(f"{self._path}, line {line_of(self._text, where)}: {message}")


# ---------------------------------------------------------------- reading


def names() -> list[str]:
    """The experiments that the package has."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Experiment:
    """The experiment called `name`, or in the file `name` (which ends in .toml).

    Raises BadInput with the line of a mistake and what would be right.
    """
    if name.endswith(".toml"):
        path = Path(name).expanduser()
    elif canonical(name) in names():
        path = FOLDER / f"{canonical(name)}.toml"
    else:
        raise unknown_name("experiment", name, names())
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"the experiment file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"the experiment file {path} is not UTF-8 text") from None
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", canonical(path.stem)):
        raise BadInput(f"the file name {path.name} names the report too: use letters, digits and hyphens only")
    try:
        experiment = Experiment.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        raise BadInput(f"{path}, line {number}: this is not TOML: {error}") from None
    except ValidationError as error:
        raise BadInput(_explain(path, text, error)) from None
    experiment._path, experiment._text = path, text
    _check(experiment)
    return _with_sources(experiment)


def _explain(path: Path, text: str, error: ValidationError) -> str:
    # a key that is not known is the likelier cause where another one is missing
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = problem["loc"]
    key = ".".join(map(str, where))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(where)
        hint = str(unknown_name("key", str(where[-1]), known)) if known else f"there is no key {key}"
    elif problem["type"] == "missing":
        hint = f"the key {key} is missing"
    elif "settings" in where:
        where = where[: where.index("settings") + 2]  # without the types that were tried
        hint = f"{'.'.join(map(str, where))} = {problem['input']!r}: give a number, a text, true or false"
    elif problem["type"] == "string_pattern_mismatch":
        hint = f"{key} = {problem['input']!r}: names are lower-case letters, digits and hyphens, such as pfedhn-pc"
        hint += ", or a method's file beside this one, such as own.py" if where[0] == "methods" else ""
    else:
        hint = f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
    return f"{path}, line {line_of(text, where)}: {hint}"


def _known_keys(where: Sequence[str | int]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "columns": Column,
        "presets": Length,
        "sources": Source,
        "published": Published,
    }
    model = parts.get(str(where[0]), Experiment) if len(where) > 1 else Experiment
    return [key for key in model.model_fields if key not in ("certainty", "origin") or model is not Published]


def line_of(text: str, where: Sequence[str | int]) -> int:
    """The line of the key `where` in a TOML `text`; of the nearest key around it where it has no line of its own.

    Understands what experiment files are made of: headers `[a.b]` and `[[a]]`, and `key = value` on lines.
    """
    best, line = 0, 1
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    # text of several lines holds no keys
    text = re.sub(r'"""[\s\S]*?"""', lambda found: "\n" * found[0].count("\n"), text)
    for number, content in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", content)
        entry = re.match(r"\s*(\"[^\"]+\"|[A-Za-z0-9_.-]+)\s*=", content)
        if header:
            table = tuple(part.strip().strip('"') for part in header[2].split("."))
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            path = table
        elif entry:
            key = entry[1]
            path = (*table, key.strip('"')) if key.startswith('"') else (*table, *key.split("."))
        else:
            continue
        common = 0
        for have, want in zip(path, where, strict=False):
            if have != want:
                break
            common += 1
        if common > best and common == min(len(path), len(where)):
            best, line = common, number
    return line


def _check(experiment: Experiment) -> None:
    """What a schema cannot say: names that other parts of the file must know, and things that belong together."""
    columns = [column.name for column in experiment.columns]
    methods = experiment.method_names
    for key, given in (("columns", columns), ("methods", methods)):
        for index, name in enumerate(given):
            if name in given[:index]:
                raise experiment.mistake((key, index), f"{name!r} is there twice among the {key}: remove one")
    if not experiment.presets:
        raise experiment.mistake(("presets",), "there is no preset: add [presets.laptop] with visits, seeds, ...")
    for (where, kind, name), known in _references(experiment, columns, methods):
        if name not in known:
            raise experiment.mistake(where, str(unknown_name(kind, name, known)))
    for index, column in enumerate(experiment.columns):
        if column.adapt_visits is not None and not column.novel_clients:
            hint = "adapt_visits are visits to unseen clients: say how many with novel_clients"
            raise experiment.mistake(("columns", index, "adapt_visits"), hint)
        if column.novel_clients >= column.clients:
            hint = f"{column.novel_clients} unseen clients of {column.clients} leave none to train on: ask for fewer"
            raise experiment.mistake(("columns", index, "novel_clients"), hint)
    for name, cells in experiment.published.items():
        for method, cell in cells.items():
            if hint := _unsound(cell):
                raise experiment.mistake(("published", name, method), hint)


def _unsound(cell: Published) -> str:
    """What is wrong with a published cell; empty where nothing is."""
    if (cell.mean is None) != bool(cell.absent):
        return 'give either a mean with its source, or absent = "the reason"'
    if cell.mean is not None and cell.source is None:
        return f"the value {cell.mean} has no source: add source = NAME, and [sources.NAME]"
    if {"certainty", "origin"} & cell.model_fields_set:
        return "certainty belongs to the source: say it in [sources.NAME]"
    return ""


def _references(
    experiment: Experiment, columns: list[str], methods: list[str]
) -> Iterator[tuple[tuple[tuple[str | int, ...], str, str], Sequence[str]]]:
    """Every name that refers to another part of the file: where it is, what it is, the name, and those known."""
    sources = list(experiment.sources)
    for preset, length in experiment.presets.items():
        for name in length.columns or ():
            yield (("presets", preset, "columns"), "column", name), columns
    for index, column in enumerate(experiment.columns):
        for name in column.not_applicable:
            yield (("columns", index, "not_applicable"), "method of this experiment", name), methods
    for where, key, _ in all_settings(experiment):
        yield (where, "method of this experiment", key.partition(".")[0]), methods
    if experiment.reference is not None:
        yield (("reference",), "method of this experiment", experiment.reference), methods
    for column_name, cells in experiment.published.items():
        yield (("published", column_name), "column", column_name), columns
        for method, cell in cells.items():
            yield (("published", column_name, method), "method of this experiment", method), methods
            if cell.source is not None:
                yield (("published", column_name, method), "source", cell.source), sources


def all_settings(experiment: Experiment) -> Iterator[tuple[tuple[str | int, ...], str, Scalar]]:
    """Every setting of a hyperparameter: where it is, "method.field", and the value."""
    for key, value in experiment.settings.items():
        yield ("settings", key), key, value
    for index, column in enumerate(experiment.columns):
        for key, value in column.settings.items():
            yield ("columns", index, "settings", key), key, value


def _with_sources(experiment: Experiment) -> Experiment:
    published = {
        column: {
            method: cell
            if cell.source is None
            else cell.model_copy(
                update={
                    "certainty": experiment.sources[cell.source].certainty,
                    "origin": experiment.sources[cell.source].text,
                }
            )
            for method, cell in cells.items()
        }
        for column, cells in experiment.published.items()
    }
    return experiment.model_copy(update={"published": published})
