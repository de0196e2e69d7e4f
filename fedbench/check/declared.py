"""What a method declares."""

from __future__ import annotations

import dataclasses

from fedbench import plugins
from fedbench.check.sentence import check, require
from fedbench.check.subject import SIZES, Subject
from fedbench.storage.spec import Spec


@check("title and paper are given", "two texts that are not empty", needs=())
def _title(subject: Subject) -> str:
    for name in ("title", "paper"):
        value = getattr(subject.plugin.cls, name, None)
        require(isinstance(value, str) and bool(value.strip()), f"{name} is {value!r}")
    return f"{subject.plugin.cls.title}; {subject.plugin.cls.paper}"


@check(
    "hyperparameters have defaults and a meaning", "a default and a description for every field but `task`", needs=()
)
def _hyperparameters(subject: Subject) -> str:
    for field in dataclasses.fields(subject.plugin.cls):
        given = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        require(field.name == "task" or given, f"{field.name} has no default")
    found = plugins.hyperparameters(subject.plugin.cls)
    for parameter in found:
        require(bool(parameter.meaning), f"{parameter.name} has no description")
    plugins.configure(subject.plugin, {})
    return f"{len(found)} hyperparameters"


@check("the spec round-trips", "the same identity and the same method after a way through JSON", needs=())
def _spec(subject: Subject) -> str:
    spec = Spec(
        method=subject.plugin.name,
        params=subject.params(short=False),
        dataset="synthetic",
        network="synthetic",
        partition="synthetic",
        clients=len(SIZES),
        seed=0,
        visits=1,
        evaluate_every=1,
    )
    again = Spec.model_validate_json(spec.model_dump_json())
    require(again == spec and again.identity == spec.identity, f"{again.params} instead of {spec.params}")
    task = subject.engine().method.task
    built, default = plugins.build(subject.plugin, task, again.params), subject.plugin.cls(task=task)
    for field in dataclasses.fields(subject.plugin.cls):
        values = [getattr(method, field.name) for method in (built, default)]
        require(field.name == "task" or values[0] == values[1], f"{field.name} is {values[0]} instead of {values[1]}")
    return f"identity {spec.identity}"
