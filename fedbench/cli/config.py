"""A file of options for `fedbench run`: TOML, with the names of the options as keys.

Options that are given beside it go before.

methods = ["pfedhn", "fedavg"]
seeds = [42, 27]
evaluate-every = 50
set = { "pfedhn.local.lr" = 0.05 }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedbench.errors import BadInput, unknown_name
from fedbench.storage.toml import as_toml, read_toml

if TYPE_CHECKING:
    from fedbench.runs.comparison import Comparison

IN_FILE = "fedbench.in_file"  # under which the context keeps what the file says, by the parameter's name
NOT_IN_FILES = ("config", "write-config", "dry-run", "help")  # what is said of a call, and not of its runs


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """The callback of `--config`: make what `file` says the defaults of the command's other options."""
    if file is None:
        return None
    _, found = read_toml(file.expanduser(), "--config")
    known = _options(context)
    defaults: dict[str, Any] = {}
    for key, value in found.items():
        option = key.replace("_", "-")
        if option not in known:
            raise unknown_name(f"option in {file}", key, known)
        name = str(known[option].name)
        if name in defaults:
            raise BadInput(f"{file} has {option} twice, with - and with _: remove one")
        switch = getattr(known[option], "is_flag", False)
        if switch != isinstance(value, bool):
            kind = "a switch: write true or false" if switch else "no switch: true and false are none of its values"
            raise BadInput(f"{file}: {key} = {value!r:.100}: {option} is {kind}")
        defaults[name] = _as_option(f"{file}: {key}", option, value)
    context.meta[IN_FILE] = defaults
    context.default_map = {**(context.default_map or {}), **defaults}
    return file


def check_replaceable(context: typer.Context, file: Path) -> None:
    """Raise BadInput where `--write-config` would overwrite what is no file of options."""
    try:
        if not file.is_file() or not file.stat().st_size:
            return
        _, found = read_toml(file, "--write-config")
        strange = [key for key in found if key.replace("_", "-") not in _options(context)]
        if not strange:
            return
        reason = f"{file} has {strange[0]!r}, which is no option"
    except (BadInput, OSError) as error:
        reason = str(error)
    raise BadInput(f"{reason}; it is not overwritten: remove it, or choose another --write-config")


def _options(context: typer.Context) -> dict[str, Any]:
    """What may stand in a file, by the option's name."""
    named = {option.removeprefix("--"): p for p in context.command.params for option in p.opts}
    return {option: p for option, p in named.items() if option not in NOT_IN_FILES}


def _as_option(where: str, option: str, value: object) -> object:
    """A value as the command line would give it: lists with commas, tables as NAME=VALUE, several times."""
    if option == "set":
        if not isinstance(value, dict):
            raise BadInput(f'{where} must be a table, e.g. set = {{ "pfedhn.local.lr" = 0.05 }}')
        return [f"{name}={_text(each)}" for name, each in _flat(value)]
    if option == "seeds" and isinstance(value, int):
        raise BadInput(f"{where} = {value}: write a list, seeds = [{value}], or a count, seed-count = {value}")
    if isinstance(value, list) and all(isinstance(each, str | int) and not isinstance(each, bool) for each in value):
        whole = [each for each in map(str, value) if "," in each]
        if whole:
            raise BadInput(f"{where}: {whole[0]!r} has a comma: give each name alone, and rename a file that has one")
        return ",".join(map(str, value))
    if isinstance(value, str | int | float):
        return value if isinstance(value, bool | str) else str(value)
    raise BadInput(
        f"{where} = {value!r} is no option's value: give a number, a text, true or false, or a list of these"
    )


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(table: Mapping[str, object], before: str = "") -> Iterable[tuple[str, object]]:
    """`pfedhn.local.lr = 1` is nested tables to TOML."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _with_files(networks: str, files: Mapping[str, str]) -> str:
    """The text of `networks` in a spec, with the paths of those that are files."""
    body, colon, order = networks.partition(":")
    items = [item.partition("*") for item in body.split(",")]
    return ",".join(f"{files.get(name, name)}{star}{count}" for name, star, count in items) + colon + order


def written(comparison: Comparison, jobs: int | None, jobs_per_gpu: int = 1, scheduler: str | None = None) -> str:
    """The config file that asks for the runs of `comparison` again, with every default spelt out."""
    planned = comparison.jobs()
    spec = planned[0].spec
    methods = list(dict.fromkeys(job.method for job in planned))
    options: dict[str, object] = {
        "methods": methods[0] if len(methods) == 1 else methods,  # one may be a file with a comma in its path
        "dataset": planned[0].dataset,
        "clients": spec.clients,
        "partition": planned[0].partition or spec.partition,
        "network": _with_files(spec.network, dict(planned[0].networks)),
        "seeds": list(dict.fromkeys(job.spec.seed for job in planned)),
        "visits": spec.visits,
        "evaluate-every": spec.evaluate_every,
        "novel-clients": spec.novel_clients,
        **({"adapt-visits": spec.adapt_visits} if spec.novel_clients else {}),
        "keep-models": comparison.keep_models,
        "keep-state": comparison.keep_state,
        "device": comparison.device,
        "results": str(comparison.results),
        "checkpoint-every": comparison.checkpoint_every,
        **({"data-root": str(comparison.data_root)} if comparison.data_root else {}),
        **({"settings": str(comparison.settings_file.expanduser().absolute())} if comparison.settings_file else {}),
        **({"jobs": jobs} if jobs else {}),
        "jobs-per-gpu": jobs_per_gpu,
        **({"scheduler": scheduler} if scheduler else {}),
    }
    lines = [f"{name} = {as_toml(value)}" for name, value in options.items()]
    lines += ["", "[set]", *(f"{as_toml(key)} = {as_toml(value)}" for key, value in comparison.settings.items())]
    return "\n".join(["# for `fedbench run --config`", *lines, ""])
