"""What of a method may be searched, and which points of it are tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedbench import plugins
from fedbench.errors import BadInput
from fedbench.plugins.space import at_the_edge, changed, points, search_space
from fedbench.search import PERSONAL_RATES, RATES, Grid, LogRange

METHOD = """
from dataclasses import dataclass
from typing import Annotated
from pydantic import Field
from fedbench.local import SGD
from fedbench.method import Method
from fedbench.search import Grid, LogRange

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    title = "Mine"
    paper = "-"
    local: Annotated[SGD, Field(description="a"), Grid(of="lr"), LogRange(1e-6, 1e-2, of="weight_decay")] = SGD()
    tuning: Annotated[SGD, Field(description="b")] = SGD(lr=1e-2)
    mix: Annotated[str, Field(description="c"), Grid("x", "y")] = "y"
    plain: Annotated[float, Field(description="d")] = 1.0
    def server_init(self, rng): return {}
    def server_send(self, server, cohort): return {}
    def server_receive(self, server, cohort, upload): return server
    def client_train(self, message, state, batches): return {}, state
"""


@pytest.fixture
def mine(tmp_path: Path) -> plugins.Plugin:
    (tmp_path / "mine.py").write_text(METHOD)
    return plugins.find_method(str(tmp_path / "mine.py"))


def test_the_space_is_what_annotations_say(mine: plugins.Plugin) -> None:
    """A group's note goes before that of its field, and an empty grid takes the field out."""
    space = search_space(mine.cls)
    assert space == {
        "local.weight_decay": LogRange(1e-6, 1e-2, of="weight_decay"),
        "tuning.lr": Grid(*RATES),
        "mix": Grid("x", "y"),
    }


def test_every_built_in_method_can_be_searched_and_its_defaults_lie_on_the_grid() -> None:
    """The rates of the paper's grids: a method without any would be tuned with no effort at all."""
    for name in plugins.names("method"):
        plugin = plugins.find_method(name)
        space, params = search_space(plugin.cls), plugins.configure(plugin, {})
        assert space, name
        for field, grid in space.items():
            assert isinstance(grid, Grid)
            assert grid.values in (RATES, PERSONAL_RATES), (name, field)
            assert params[field] in grid.values, (name, field)


def test_a_small_grid_is_taken_whole_and_a_large_one_sampled_with_the_defaults_first() -> None:
    plugin = plugins.find_method("per-fedavg")
    space = search_space(plugin.cls)
    whole = points(plugin, space, 100, 1)
    assert len(whole) == len({tuple(point.items()) for point in whole}) == 16
    some = points(plugin, space, 5, 1)
    assert len(some) == len({tuple(point.items()) for point in some}) == 5
    assert all(point in whole for point in some)
    assert some[0] == whole[0] == {"local.lr": 5e-3, "alpha": 1e-2}
    assert points(plugin, space, 5, 1) == some != points(plugin, space, 5, 2)


def test_a_range_is_drawn_in_its_logarithm(mine: plugins.Plugin) -> None:
    """Of 400 draws from 1e-6 .. 1e-2 about half lie below the geometric middle, 1e-4, and all inside."""
    drawn = points(mine, search_space(mine.cls), 401, 3)[1:]
    values = [float(point["local.weight_decay"] or 0) for point in drawn]
    assert all(1e-6 <= value <= 1e-2 for value in values)
    assert 150 < sum(value < 1e-4 for value in values) < 250


def test_the_user_narrows_and_widens(mine: plugins.Plugin) -> None:
    assert changed(mine, {"plain": "1, 2.5", "local.lr": "1e-4..1e-1"}) == {
        "plain": Grid(1.0, 2.5),
        "local.lr": LogRange(1e-4, 1e-1),
    }
    without_default = points(mine, changed(mine, {"plain": "2,3"}), 9, 1)
    assert without_default == [{"plain": 2.0}, {"plain": 3.0}]


def test_a_methods_own_grid_does_not_leave_out_its_defaults(tmp_path: Path) -> None:
    """Grid("x", "y") with "z" as the default, and no range beside it."""
    source = METHOD.replace('"x", "y")] = "y"', '"x", "y")] = "z"').replace(
        ', LogRange(1e-6, 1e-2, of="weight_decay")', ""
    )
    (tmp_path / "own.py").write_text(source)
    own = plugins.find_method(str(tmp_path / "own.py"))
    space = search_space(own.cls)
    assert all(isinstance(dimension, Grid) for dimension in space.values())
    default = {"tuning.lr": 1e-2, "mix": "z"}
    whole = points(own, space, 100, 1)
    assert whole[0] == default
    assert len(whole) == 1 + 4 * 2
    assert points(own, space, 3, 1)[0] == default
    narrowed = points(own, changed(own, {"mix": "x,w"}), 9, 1)
    assert narrowed == [{"mix": "x"}, {"mix": "w"}], "the user's grid may"


def test_a_range_of_the_user_leaves_out_defaults_beyond_it(mine: plugins.Plugin) -> None:
    inside = points(mine, changed(mine, {"plain": "0.1..10"}), 9, 1)
    assert inside[0] == {"plain": 1.0}
    beyond = points(mine, changed(mine, {"plain": "2..3"}), 9, 1)
    assert all(2 <= float(point["plain"] or 0) <= 3 for point in beyond)


def test_no_point_of_a_narrow_range_is_tried_twice(mine: plugins.Plugin) -> None:
    """Rounded to three digits, 2 .. 2.02 has three values."""
    found = points(mine, changed(mine, {"plain": "2..2.02"}), 9, 1)
    assert sorted(float(point["plain"] or 0) for point in found) == [2.0, 2.01, 2.02]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"local.steps": "1..50"},
            "local.steps=1..50: a range draws fractions, and local.steps is none: name its values",
        ),
        ({"plan": "1,2"}, "there is no hyperparameter of mine called 'plan'. Did you mean 'plain'"),
        ({"plain": ""}, "name the values that are tried"),
        ({"plain": " , "}, "name the values that are tried"),
        ({"plain": "1,1.0"}, "a value is there twice"),
        ({"plain": "1,x"}, "mine.plain=x"),
        ({"local.lr": "0.1,-1"}, "greater than 0"),
        ({"local.lr": "0..1"}, "write LOW..HIGH with two numbers, 0 < LOW < HIGH"),
        ({"local.lr": "1..0.1"}, "write LOW..HIGH with two numbers, 0 < LOW < HIGH"),
        ({"local.lr": "a..b"}, "write LOW..HIGH with two numbers, 0 < LOW < HIGH"),
        ({"local.momentum": "0.5..2"}, "less than 1"),
    ],
)
def test_a_search_that_cannot_be_is_refused(mine: plugins.Plugin, changes: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        changed(mine, changes)
    assert message in str(caught.value)


def test_the_edge_of_a_grid_of_numbers() -> None:
    space: dict[str, Grid | LogRange] = {
        "a": Grid(0.1, 0.5, 0.2),
        "b": Grid("x", "y"),
        "c": Grid(1.0),
        "d": LogRange(1e-3, 1e-1),
    }
    assert at_the_edge(space, {"a": 0.5, "b": "x", "c": 1.0, "d": 1e-2}) == {"a": "greatest"}
    assert at_the_edge(space, {"a": 0.1, "b": "y", "c": 1.0, "d": 1e-3}) == {"a": "least", "d": "least"}
    assert at_the_edge(space, {"a": 0.2, "b": "y", "c": 1.0, "d": 1e-2}) == {}
