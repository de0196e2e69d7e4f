"""Rules of claims: a text, what it compares, and the cells of an experiment that it is about.

    pfedhn-pc > each of local, fedavg in cifar10-50          the accuracy of methods, in a column (default: every one)
    pfedhn < each of fedavg, per-fedavg in gap               another quantity than accuracy
    pfedhn > fedavg by 4 points in lenet-8                   by so much at least
    k=5 > k=1 in pfedhn                                      columns, by their place on the experiment's `axis`
    equal within 1 point: k=5,15,25,35                       every two of them
    falls with: k                                            along the axis (`rises with` likewise), for every method
    purity > purity-permuted in cifar100-coarse              quantities of one cell

What a rule compares are methods, columns or quantities; `in` names the others. Where it names no column it means all of
them (a trend: all that have a place on the axis), no method all of them, no quantity the accuracy. Names are written as
everywhere, in any case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fedbench.errors import BadInput, canonical, unknown_name

if TYPE_CHECKING:
    from fedbench.experiments.parts import Experiment

ACCURACY = "accuracy"  # on test rows, of clients seen in training, in the experiment's metric
QUANTITIES = {  # that every experiment has; those of unseen clients only where there are some
    ACCURACY: "test accuracy in %",
    "unseen": "test accuracy in % of clients held out of training",
    "gap": "accuracy less accuracy of clients held out of training, in points",
    "megabytes-per-visit": "messages and uploads of a visit in MB",
}
EXTRA_QUANTITIES: dict[str, dict[str, str]] = {  # that a part of the report computes
    "extractors": {
        "diagonal": "accuracy in % of a client's head on its own extractor",
        "off-diagonal": "accuracy in % of a client's head on another client's extractor",
    },
    "embeddings": {
        "purity": "share in % of the nearest embeddings that are of the client's own group",
        "purity-permuted": "the same after groups were dealt at random",
        "silhouette": "mean silhouette of the groups, times 100",
        "silhouette-permuted": "the same after groups were dealt at random",
    },
    "linear-theory": {
        "fitted": "loss of the linear hypernetwork, summed over ranks",
        "theorem": "loss of the uncentred truncated SVD, summed over ranks",
        "centred": "loss of the truncated SVD of mean-centred solutions, summed over ranks",
    },
}
EXTRA_AXES = {"distance": "distance"}  # axes that a part of the report measures, by the part's name
ALONE = set(EXTRA_QUANTITIES["linear-theory"])  # quantities of no method and no column
# the same for all seeds, or exact: a spread of nothing is no accident there
EXACT = {"megabytes-per-visit", *ALONE}
NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?"
PLACE = rf"-?{NUMBER}"
FORMS = (
    (
        "compare",
        rf"(?P<left>[^<>:]+?)\s*(?P<sign>[<>])\s*(?:each of\s+)?(?P<right>[^<>:]+?)(?:\s+by\s+(?P<margin>{NUMBER})"
        r"(?:\s+points?)?)?",
    ),
    ("equal", rf"equal\s+within\s+(?P<margin>{NUMBER})(?:\s+points?)?\s*:\s*(?P<left>[^<>:]+?)"),
    ("trend", r"(?P<sign>falls|rises)\s+with\s*:\s*(?P<axis>[a-z0-9-]+)"),
)
USAGE = (
    "write `A > each of B, C in COLUMN` (or <; `by 2 points`), `equal within 1 point: A, B, C`, or `falls with: AXIS` "
    "(or rises)"
)


class CellName(NamedTuple):
    """What a rule speaks of: a quantity of a method in a column."""

    quantity: str
    method: str
    column: str

    def words(self, others: Iterable[CellName]) -> str:
        """What tells the cell from `others`, which have something in common with it."""
        differing = [mine for i, mine in enumerate(self) if len({self[i], *(other[i] for other in others)}) > 1]
        return " ".join(differing) or self.method or self.quantity


@dataclass(frozen=True)
class Rule:
    """A rule as it was written."""

    kind: Literal["greater", "less", "equal", "falls", "rises"]
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    margin: float = 0.0
    axis: str = ""
    places: tuple[str, ...] = ()  # behind `in`


def parse_rule(text: str) -> Rule:
    """The rule that `text` says. Raises BadInput with the forms that there are."""
    for kind, form in FORMS:
        found = re.fullmatch(rf"\s*{form}(?:\s+in\s+(?P<places>[^<>:]+?))?\s*", text, re.IGNORECASE)
        if not found:
            continue
        said = {part: words and words.lower() for part, words in found.groupdict().items()}
        places = _names(said["places"] or "")
        if kind == "trend":
            return Rule("falls" if said["sign"] == "falls" else "rises", axis=said["axis"], places=places)
        left, margin = _names(said["left"]), float(said["margin"] or 0)
        if kind == "equal":
            return Rule("equal", left, margin=margin, places=places)
        right = _names(said["right"])
        if left and right:
            return Rule("greater" if said["sign"] == ">" else "less", left, right, margin, places=places)
    raise BadInput(f"the rule {text!r} cannot be read: {USAGE}")


def _names(text: str) -> tuple[str, ...]:
    """The names of a list, each once; in `k=5,15` the second one stands for k=15."""
    names: list[str] = []
    for part in (re.sub(r"\s*=\s*", "=", part.strip()) for part in text.split(",") if part.strip()):
        axis = names[-1].partition("=") if names else ("", "", "")
        names.append(f"{axis[0]}={part}" if axis[1] and re.fullmatch(PLACE, part) else part)
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Resolved:
    """The cells of a rule: pairs to be compared, or series that should fall or rise."""

    pairs: Sequence[tuple[CellName, CellName]] = ()
    series: Sequence[Sequence[CellName]] = ()

    @property
    def cells(self) -> set[CellName]:
        """The cells of all pairs and series."""
        return {cell for group in (*self.pairs, *self.series) for cell in group}


def quantities(experiment: Experiment) -> dict[str, str]:
    """The quantities that rules of `experiment` may name, and what they are."""
    known = dict(QUANTITIES) if experiment.columns else {}
    for extra in experiment.extras:
        known |= EXTRA_QUANTITIES.get(extra, {})
    if "sizes" in experiment.extras:
        for column in experiment.columns:
            for name in network_names(column.networks or ""):
                known[name] = f"test accuracy in % of the clients with the network {name}"
    return known


def network_names(text: str) -> list[str]:
    """The networks that the text form of several networks names, as results name them: each once, in order."""
    parts = text.strip().removesuffix(":shuffled").split(",") if "*" in text else []
    names = (part.rpartition("*")[0].strip() for part in parts)
    return list(dict.fromkeys(canonical(Path(name).stem if name.endswith(".py") else name) for name in names))


def resolve(rule: Rule, experiment: Experiment) -> Resolved:
    """The cells of `rule`. Raises BadInput where it names something that the experiment does not have."""
    known = {
        "method": experiment.method_names or [""],
        "column": [column.name for column in experiment.columns] or [""],
        "quantity": list(quantities(experiment)),
    }
    chosen: dict[str, list[str]] = {dimension: [] for dimension in known}
    for name in rule.places:
        dimension, found = _find(name, known, experiment)
        chosen[dimension].append(found)
    if rule.axis:
        columns = _along(rule.axis, chosen["column"], experiment)
        return Resolved(
            series=[
                [CellName(quantity, method, column) for column in columns]
                for method in chosen["method"] or known["method"]
                for quantity in chosen["quantity"] or [ACCURACY]
            ]
        )
    left, right = (  # two names may be of one column
        list(dict.fromkeys(_find(name, known, experiment) for name in names)) for names in (rule.left, rule.right)
    )
    dimensions = {dimension for dimension, _ in (*left, *right)}
    if len(dimensions) != 1:
        what = ", ".join(f"{name} is a {dimension}" for dimension, name in (*left, *right))
        raise BadInput(f"a rule compares methods, columns or quantities, and not one with another: {what}")
    subject = dimensions.pop()
    if chosen[subject]:
        raise BadInput(f"the rule compares {subject}s, and names {chosen[subject][0]!r} behind `in`, which is one too")
    if rule.kind == "equal" and len(left) < 2:
        raise BadInput("`equal` needs at least two names")
    if both := set(left) & set(right):
        raise BadInput(f"the rule compares {min(both)[1]!r} with itself: name another {subject}")
    default = {"method": known["method"], "column": known["column"], "quantity": [ACCURACY]}
    contexts = [
        dict(zip((d for d in known if d != subject), values, strict=True))
        for values in product(*(chosen[d] or default[d] for d in known if d != subject))
    ]
    pairs = list(combinations(left, 2)) if rule.kind == "equal" else list(product(left, right))
    cells = [
        (_cell({**context, subject: a}), _cell({**context, subject: b}))
        for context in contexts
        for (_, a), (_, b) in pairs
    ]
    return Resolved(pairs=list(dict.fromkeys(cells)))


def _find(name: str, known: Mapping[str, Sequence[str]], experiment: Experiment) -> tuple[str, str]:
    """Whether a name of a rule is that of a method, a column or a quantity, and which; `known` are those there are.

    Raises BadInput where it is none of them, or of several.
    """
    at: dict[str, list[str]] = {}  # columns by their place on the axis
    for column in experiment.columns:
        if column.x is not None:
            at.setdefault(f"{experiment.axis}={column.x:g}", []).append(column.name)
    axis, equals, value = name.partition("=")
    place = f"{axis}={float(value):g}" if equals and re.fullmatch(PLACE, value) else name
    if place in at:
        if len(at[place]) > 1:
            raise BadInput(f"{name!r} is the place of the columns {', '.join(at[place])}: name one of them")
        return "column", at[place][0]
    found = [(dimension, canonical(name)) for dimension, names in known.items() if canonical(name) in names]
    if len(found) > 1:
        both = " and a ".join(dimension for dimension, _ in found)
        raise BadInput(f"{name!r} is the name of a {both} of this experiment: rename the {found[0][0]}")
    if not found:
        names = filter(None, [*at, *(each for names in known.values() for each in names)])
        raise unknown_name("method, column or quantity of this experiment", name, names)
    return found[0]


def _along(axis: str, chosen: Sequence[str], experiment: Experiment) -> list[str]:
    """The columns that a trend along `axis` runs over: those `chosen`, by default all that have a place on it.

    Raises BadInput where there is no such axis, for a column without a place on it, and for fewer than two columns.
    """
    axes = {EXTRA_AXES[extra] for extra in experiment.extras if extra in EXTRA_AXES}
    if axis == experiment.axis:
        placed, remedy = [column.name for column in experiment.columns if column.x is not None], "give it an x"
    elif axis in axes:
        placed, remedy = [column.name for column in experiment.columns if column.novel_clients], "give it novel_clients"
    else:
        raise unknown_name("axis of this experiment", axis, {*axes, *filter(None, [experiment.axis])})
    for name in chosen:
        if name not in placed:
            raise BadInput(f"the column {name!r} has no place on the axis {axis!r}: {remedy}, or leave it out")
    columns = list(dict.fromkeys(chosen)) or placed
    if len(columns) < 2:
        raise BadInput(f"a trend along {axis!r} needs two columns that have a place there, and has {len(columns)}")
    return columns


def _cell(parts: Mapping[str, str]) -> CellName:
    if parts["quantity"] in ALONE:
        return CellName(parts["quantity"], "", "")
    return CellName(parts["quantity"], parts["method"], parts["column"])
