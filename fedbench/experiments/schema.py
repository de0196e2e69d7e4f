"""Experiment files: a TOML file for a table or figure of a paper, read and checked, without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.experiments.parts import DRAWN, PARTS, Experiment, Published, Scalar, keys_of
from fedbench.experiments.rules import parse_rule, resolve
from fedbench.storage.given import given_path
from fedbench.storage.schema import TITLE, shown
from fedbench.storage.toml import read_toml

FOLDER = Path(__file__).parent
CAPTION = 4000  # characters of a caption, which is a paragraph
Where = tuple[str | int, ...]  # the place of a key


class Mistake(NamedTuple):
    """Something wrong with a file: where, and a sentence with the remedy."""

    where: Where
    text: str


def names() -> list[str]:
    """The experiments that the package has."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, also: Callable[[Experiment], Sequence[Mistake]] | None = None) -> Experiment:
    """The experiment called `name`, or in the file `name` (which ends in .toml).

    `also` looks for further mistakes, such as names of plug-ins, which need torch. Raises BadInput with all mistakes,
    each with its line and what would be right.
    """
    if name.endswith(".toml"):
        path = given_path(name, "the experiment file")
    elif canonical(name) in names():
        path = FOLDER / f"{canonical(name)}.toml"
    else:
        raise unknown_name("experiment", name, names())
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", canonical(path.stem)):
        raise BadInput(f"the file name {path.name} names the report too: use letters, digits and hyphens only")
    text, document = read_toml(path, "the experiment file")
    experiment, found = _read(document)
    if experiment is not None:
        experiment._path, experiment._text = path, text
        found += _check(experiment)
        found += also(experiment) if also else ()
    # what follows from a mistake is none of its own: a part that cannot be read has been replaced by a sound one
    if found:
        raise mistakes(path, text, found)
    assert experiment is not None
    return _with_sources(experiment)


def mistakes(path: Path, text: str, found: Sequence[Mistake]) -> BadInput:
    """The error for all mistakes of a file, in the order of their lines."""
    lines = sorted({(line_of(text, mistake.where), mistake.text) for mistake in found})
    if len(lines) == 1:
        return BadInput(f"{path}, line {lines[0][0]}: {lines[0][1]}")
    return BadInput("\n".join([f"{path} has {len(lines)} mistakes:", *(f"  line {n}: {what}" for n, what in lines)]))


def _read(document: dict[str, Any]) -> tuple[Experiment | None, list[Mistake]]:
    """The experiment that a TOML document describes, and what is wrong with the form of it.

    Parts that are wrong are replaced, so that the others can be looked at too; None where that is not possible.
    """
    found: list[Mistake] = []
    for _ in range(3):  # what is below a part that was wrong altogether shows in the next pass
        try:
            return Experiment.model_validate(document), found
        except ValidationError as error:
            problems = error.errors()
        for mistake in (_explain(problem) for problem in problems):
            if mistake.where not in {known.where for known in found}:
                found.append(mistake)
        document = _mended(document, [problem["loc"] for problem in problems])
    return None, found


def _explain(problem: Any) -> Mistake:
    where: Where = tuple(problem["loc"])
    if len(where) > 2 and where[-1] == "[key]":  # behind the text of a key that is no name
        where = where[:-1]
    if "settings" in where:
        where = where[: where.index("settings") + 2]  # without the types that were tried
    elif where[0] == "columns" and "network" in where:
        where = where[:3]
    key = ".".join(map(str, where))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(where)
        return Mistake(where, str(unknown_name("key", str(where[-1]), known)) if known else f"there is no key {key}")
    if problem["type"] == "missing":
        return Mistake(where, f"the key {key} is missing")
    if problem["type"] == "value_error":
        return Mistake(where, str(problem["ctx"]["error"]))
    if "settings" in where:
        return Mistake(where, f"{key} = {problem['input']!r}: give a number, a text, true or false")
    if where[0] == "columns" and where[-1] == "network":
        return Mistake(where, f"{key} = {problem['input']!r}: give a text such as lenet, or a list of such texts")
    if problem["type"] == "string_pattern_mismatch":
        hint = f"{key} = {problem['input']!r}: names are lower-case letters, digits and hyphens, such as pfedhn-pc"
        kind = "method" if where[0] == "methods" else "data set" if where[-1] == "dataset" else ""
        return Mistake(where, f"{hint}, or a {kind}'s file beside this one, such as own.py" if kind else hint)
    message = str(problem["msg"])
    return Mistake(where, f"{key} = {problem['input']!r}: {message[0].lower()}{message[1:]}")


UNREAD = "unread"  # the name of a part that cannot be read: nothing is said about what refers to it
SOUND: dict[str, Any] = {  # what stands for a part that cannot be read
    "columns": {"name": "unread", "label": "", "dataset": "digits", "clients": 10},
    "presets": {"seeds": 1},
    "sources": {"text": "", "certainty": "remembered"},
    "published": {"absent": "unread"},
    "claims": {"text": "", "where": "", "certainty": "remembered", "rule": UNREAD},
    "title": "",
    "paper": "",
    "caption": "",
}


def _mended(document: dict[str, Any], places: Sequence[tuple[str | int, ...]]) -> dict[str, Any]:
    """`document` with sound parts in `places`: a column, a preset, a published value, ... as a whole."""
    mended = dict(document)
    for place in places:
        key = str(place[0])
        depth = 3 if key == "published" else 2
        if key not in Experiment.model_fields:
            mended.pop(key, None)
            continue
        inner: Any = mended.get(key)
        if len(place) < depth or not isinstance(inner, (dict, list)) or key not in ("settings", "methods", *SOUND):
            mended.pop(key, None)
            if key in ("title", "paper", "caption"):
                mended[key] = SOUND[key]
            elif key == "presets":
                mended[key] = {UNREAD: SOUND[key]}
            continue
        mended[key] = inner = dict(inner) if isinstance(inner, dict) else list(inner)
        if key == "published":
            if place[2] == "[key]" or not isinstance(inner.get(place[1]), dict):
                inner.pop(place[1], None)
                continue
            inner[place[1]] = inner = dict(inner[place[1]])
        last = place[depth - 1]
        if key == "settings":
            mended[key] = {}
        elif key == "methods":
            inner[last] = UNREAD
        elif key == "columns" and isinstance(inner[last], dict) and isinstance(inner[last].get("name"), str):
            name = inner[last]["name"]
            inner[last] = {**SOUND[key], "name": name if re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) else UNREAD}
        else:
            inner[last] = SOUND[key]
    return mended


def _known_keys(where: Sequence[str | int]) -> list[str]:
    return keys_of(PARTS.get(str(where[0]), Experiment) if len(where) > 1 else Experiment)


def line_of(text: str, where: Sequence[str | int]) -> int:
    """The line of the key `where` in a TOML `text`; of the nearest key around it where it has no line of its own.

    Understands what experiment files are made of: headers `[a.b]` and `[[a]]`, and `key = value` on lines.
    """
    best, line = 0, 1
    # a setting may be written with quotes or without: "fedavg.local.lr" is fedavg.local.lr
    where = [part for key in where for part in (key.split(".") if isinstance(key, str) else [key])]
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
            path = (*table, *entry[1].strip('"').split("."))
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


def _check(experiment: Experiment) -> list[Mistake]:
    """What a schema cannot say: names that other parts of the file must know, and things that belong together."""
    found: list[Mistake] = []
    columns = [column.name for column in experiment.columns]
    methods = experiment.method_names
    for key, given in (("columns", columns), ("methods", methods)):
        for index, name in enumerate(given):
            if name in given[:index] and name != UNREAD:
                found.append(Mistake((key, index), f"{name!r} is there twice among the {key}: remove one"))
    labels = [column.label for column in experiment.columns]
    for index, label in enumerate(labels):
        if label in labels[:index] and label != UNREAD:
            hint = f"{label!r} is the label of two columns, which a table could not tell apart: change one"
            found.append(Mistake(("columns", index, "label"), hint))
    if bool(columns) != bool(methods) or not (columns or DRAWN & {*experiment.extras}):
        missing = "columns" if methods else "methods"
        found.append(Mistake((missing,), f"the key {missing} is missing: an experiment has methods and [[columns]]"))
    texts: list[tuple[tuple[str | int, ...], str]] = [(("title",), experiment.title)]
    texts += [(("columns", index, "label"), column.label) for index, column in enumerate(experiment.columns)]
    for place, text in texts:
        if text != shown(text):
            hint = f"{place[-1]} must be one printable line of at most {TITLE} characters that begins like a word"
            found.append(Mistake(place, hint))
    for key, text in (("caption", experiment.caption), ("paper", experiment.paper)):
        if len(text) > CAPTION or not all(c.isprintable() or c == "\n" for c in text):
            found.append(Mistake((key,), f"{key} must be printable text of at most {CAPTION} characters"))
    if not experiment.presets:
        found.append(Mistake(("presets",), "there is no preset: add [presets.laptop] with visits, seeds, ..."))
    for (where, kind, name), known in _references(experiment, columns, methods):
        if name not in known and UNREAD not in known:
            found.append(Mistake(where, str(unknown_name(kind, name, known))))
    for index, column in enumerate(experiment.columns):
        if column.adapt_visits is not None and not column.novel_clients:
            hint = "adapt_visits are visits to unseen clients: say how many with novel_clients"
            found.append(Mistake(("columns", index, "adapt_visits"), hint))
        if column.novel_clients >= column.clients:
            hint = f"{column.novel_clients} unseen clients of {column.clients} leave none to train on: ask for fewer"
            found.append(Mistake(("columns", index, "novel_clients"), hint))
        if column.x is not None and experiment.axis is None:
            hint = 'x is a place on an axis that has no name: add axis = "NAME" to the experiment'
            found.append(Mistake(("columns", index, "x"), hint))
    for name, cells in experiment.published.items():
        for method, cell in cells.items():
            if hint := _unsound(cell):
                found.append(Mistake(("published", name, method), hint))
    return found + list(_check_claims(experiment, columns, methods))


def _check_claims(experiment: Experiment, columns: list[str], methods: list[str]) -> Iterator[Mistake]:
    """Rules that cannot be read, and names in them that are no cells."""
    for index, claim in enumerate(experiment.claims):
        if claim.rule == UNREAD or UNREAD in (*columns, *methods):
            continue
        try:
            resolve(parse_rule(claim.rule), experiment)
        except BadInput as error:
            yield Mistake(("claims", index, "rule"), str(error))


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
) -> Iterator[tuple[tuple[Where, str, str], Sequence[str]]]:
    """Every name that refers to another part of the file: where it is, what it is, the name, and those known."""
    sources = list(experiment.sources)
    for preset, length in experiment.presets.items():
        for name in length.columns or ():
            yield (("presets", preset, "columns"), "column", name), columns
        for name in length.column_visits:
            chosen = columns if length.columns is None else length.columns
            yield (("presets", preset, "column_visits", name), "column of this preset", name), chosen
        for name in length.methods or ():
            yield (("presets", preset, "methods"), "method of this experiment", name), methods
    for index, column in enumerate(experiment.columns):
        for name in column.not_applicable:
            yield (("columns", index, "not_applicable"), "method of this experiment", name), methods
    for where, key, _ in all_settings(experiment):
        yield (where, "method of this experiment", key.partition(".")[0]), [*methods, "all"]
    if experiment.reference is not None:
        yield (("reference",), "method of this experiment", experiment.reference), methods
    for column_name, cells in experiment.published.items():
        yield (("published", column_name), "column", column_name), columns
        for method, cell in cells.items():
            yield (("published", column_name, method), "method of this experiment", method), methods
            if cell.source is not None:
                yield (("published", column_name, method), "source", cell.source), sources


def all_settings(experiment: Experiment) -> Iterator[tuple[Where, str, Scalar]]:
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
