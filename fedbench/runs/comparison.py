"""What `fedbench run` compares: some methods on one data set, at equal effort, over some seeds."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedbench import plugins
from fedbench.dataset import data_root
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.plugins import Plugin
from fedbench.plugins.given import text_of
from fedbench.runs.arguments import checked
from fedbench.runs.job import Job
from fedbench.runs.prepare import load_data, make_partition, refresh, try_out
from fedbench.runs.presets import PRESETS
from fedbench.runs.settings_file import NOT_TUNED, Settings, read_settings, unfit
from fedbench.storage import WORK, result_path, work_path, write_bytes
from fedbench.storage.given import given_path
from fedbench.storage.schema import check_plain
from fedbench.storage.spec import Spec, seed_list

WIDTH_ON_GPU = 16  # clients trained at once by `vmap` where a device has room for them
ADAPT_VISITS = 20
MOST_SEEDS = 1000
MOST_VISITS = 10**8
SEEDS_TRIED = 100  # of each setting, before anything runs

# the fields that may be given wrongly; what else there is, is a path, or made here
CHECKED = (
    *("methods", "dataset", "seeds", "preset", "clients", "partition", "visits", "evaluate_every", "novel_clients"),
    *("adapt_visits", "network", "settings", "device", "checkpoint_every", "keep_models", "keep_state"),
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The question that a set of runs answers. None stands for the data set's or the preset's own choice."""

    # names, files or classes; a text has commas between them, and "all" is every method that has a name
    methods: str | Path | type[Any] | Sequence[str | Path | type[Any]] = "all"
    dataset: str | Path | type[Any] = "digits"
    seeds: int | Sequence[int] | None = None  # a count or a list
    preset: str = "laptop"
    clients: int | None = None
    partition: str | None = None
    visits: int | None = None
    evaluate_every: int | None = None
    novel_clients: int = 0
    adapt_visits: int | None = None
    network: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)  # "METHOD.FIELD" -> value
    settings_file: Path | None = None  # as `fedbench tune` writes it; `settings` go before it
    device: str = "auto"
    data_root: Path | None = None
    results: Path = Path("results")
    checkpoint_every: float = 120.0
    remote: bool = False  # the runs are made on other machines, whose devices cannot be looked for here
    keep_models: bool = False
    keep_state: bool = False

    def __post_init__(self) -> None:
        """Raises BadInput for an argument of another type, or out of its range."""
        for name in CHECKED:
            object.__setattr__(self, name, checked(name, getattr(self, name)))

    def jobs(self) -> list[Job]:
        """The runs, one seed of all methods after the other. Raises BadInput for anything that cannot be run."""
        if canonical(self.preset) not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        refresh()
        preset = PRESETS[canonical(self.preset)]
        found = self.found()
        params = self.params(found)
        dataset, device = plugins.find_dataset(text_of("dataset", self.dataset)), self._device()
        clients = self.clients or plugins.stated_clients(dataset)
        root = data_root(None if self.data_root is None else given_path(self.data_root, "--data-root")).absolute()
        if clients is None:
            clients = plugins.default_clients(dataset, load_data(dataset.where, root))
        networks = plugins.parse_networks(dataset.cls.network if self.network is None else self.network, clients)
        partition = str(plugins.parse_partition(self.partition, dataset.cls))
        if self.adapt_visits is not None and not self.novel_clients:
            raise BadInput("adapt visits are visits to unseen clients: say how many with --novel-clients")
        plugins.sane("--visits", self.visits, MOST_VISITS)
        plugins.sane("--adapt-visits", self.adapt_visits, MOST_VISITS)
        if math.isnan(self.checkpoint_every):
            raise BadInput("--checkpoint-every nan: give a number of seconds of at least 0")
        if self.novel_clients >= clients:
            raise BadInput(f"{self.novel_clients} unseen clients of {clients} leave none to train on: ask for fewer")
        results = given_path(self.results, "--results").resolve()
        made = [
            Job(
                spec=Spec(
                    method=plugin.name,
                    params=params[plugin.name],
                    dataset=dataset.name,
                    network=str(networks),
                    partition=partition,
                    clients=clients,
                    novel_clients=self.novel_clients,
                    adapt_visits=(ADAPT_VISITS if self.adapt_visits is None else self.adapt_visits)
                    if self.novel_clients
                    else 0,
                    seed=seed,
                    visits=preset.visits if self.visits is None else self.visits,
                    evaluate_every=preset.evaluate_every if self.evaluate_every is None else self.evaluate_every,
                    width=1 if device == "cpu" else WIDTH_ON_GPU,
                    device="cpu" if device == "cpu" else "cuda",
                ),
                method=plugin.where,
                dataset=dataset.where,
                data_root=root,
                results=results,
                checkpoint_every=self.checkpoint_every,
                device=device,
                partition=plugins.partition_file(self.partition, dataset.cls),
                networks=tuple((p.name, p.where) for p in networks.distinct if p.where.endswith(".py")),
                keep_models=self.keep_models,
                keep_state=self.keep_state,
            )
            for seed in self._seeds()
            for plugin in found
        ]
        for job in made[: len(found)]:  # of each method one: seeds are all within bounds
            try:
                check_plain(job.spec.model_dump(), f"the spec of {job.spec.method}")
            except ValueError as error:
                raise BadInput(f"{error}: no result could be stored; say it otherwise") from None
        return made

    def found(self) -> list[Plugin]:
        """The methods. Raises BadInput for one that there is not, and where there is none or one twice."""
        methods = plugins.listed(self.methods) if isinstance(self.methods, str) else self.methods
        methods = [methods] if isinstance(methods, type | Path) else methods
        texts = [text_of("method", method).strip() for method in methods]
        texts = [text for text in texts if text]
        named = [plugins.find_method(text) for text in texts if text.lower() != "all"]
        names = [plugin.name for plugin in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadInput(f"the method {twice[0]} was named twice")
        everything = plugins.names("method") if len(named) < len(texts) else []
        made = [plugins.find_method(name) for name in everything if name not in names] + named
        if not made:
            raise BadInput("no method was named: give at least one, e.g. pfedhn")
        return made

    def _seeds(self) -> list[int]:
        if self.seeds is None:
            return seed_list(PRESETS[canonical(self.preset)].seeds)
        if isinstance(self.seeds, int):
            if not 1 <= self.seeds <= MOST_SEEDS:
                raise BadInput(f"{self.seeds} seeds: a count of seeds is 1 to {MOST_SEEDS}; one seed is a list: [42]")
            return seed_list(self.seeds)
        seeds = list(self.seeds)
        if not seeds or min(seeds) < 0 or max(seeds) >= 2**63 or len(set(seeds)) < len(seeds):
            given = ",".join(map(str, seeds))
            right = "at least one, different numbers of at least 0 and below 2^63, such as 42,27,13"
            raise BadInput(f"seeds {given!r:.100}: give {right}")
        return seeds

    def params(self, found: Sequence[Plugin]) -> dict[str, dict[str, plugins.Scalar]]:
        """All hyperparameters of each method. Raises BadInput for a setting that cannot be."""
        settings: dict[str, dict[str, object]] = {plugin.name: {} for plugin in found}
        seen: set[str] = set()
        for key, value in self.settings.items():
            method, _, name = key.partition(".")
            one = f"{canonical(method)}.{name}"
            if one in seen:
                raise BadInput(f"{one} is set twice, in two spellings: remove one")
            seen.add(one)
            if method == "all":
                having = [p.name for p in found if name in {h.name for h in plugins.hyperparameters(p.cls)}]
                if not having:
                    raise BadInput(f"all.{name}: none of the methods {', '.join(settings)} has a field {name}")
            elif canonical(method) not in settings:
                raise unknown_name("method in this comparison", method, [*settings, "all"])
            else:
                having = [canonical(method)]
            for each in having:
                if method != "all" or name not in settings[each]:  # what is said of one method goes before
                    settings[each][name] = value
        for plugin in found:
            for name, value in self._tuned.get(plugin.name, NOT_TUNED).settings.items():
                settings[plugin.name].setdefault(name, value)
        return {plugin.name: plugins.configure(plugin, settings[plugin.name]) for plugin in found}

    @property
    def _tuned(self) -> Mapping[str, Settings]:
        return {} if self.settings_file is None else read_settings(self.settings_file)

    @property
    def efforts(self) -> dict[str, str]:
        """For each method how its settings were found, for tables: `tuned, 16 trials, 9,600 visits`, or `defaults`."""
        named = {(canonical(method), name) for method, _, name in (key.partition(".") for key in self.settings)}
        words = {}
        for plugin in self.found():
            having = [each.name for each in plugins.hyperparameters(plugin.cls)]
            own = named & {(owner, name) for owner in (plugin.name, "all") for name in having}
            words[plugin.name] = self._tuned.get(plugin.name, NOT_TUNED).words + (
                ", settings of your own" if own else ""
            )
        return words

    @property
    def warnings(self) -> list[str]:
        """What a user should know of the settings file before anything runs."""
        if self.settings_file is None:
            return []
        return unfit(self.settings_file, self._tuned, self.found())

    def _device(self) -> str:
        if self.device not in ("auto", "cpu", "cuda"):
            raise unknown_name("device", self.device, ("auto", "cpu", "cuda"))
        if self.device == "cpu" or (self.remote and self.device == "auto"):
            return "cpu"
        if self.remote:
            return "cuda"
        if torch.cuda.is_available():
            return "cuda"
        if self.device == "cuda":
            raise BadInput("--device cuda: PyTorch finds no CUDA device on this machine; use --device cpu or auto")
        return "cpu"


def check_possible(jobs: Sequence[Job]) -> None:
    """Make every partition, network and method of `jobs` once: what is impossible is refused before anything runs.

    Give it the jobs that are to be done. Of a setting with very many seeds the first are tried: it is the setting that
    is impossible, hardly ever the seed, and a run for which it is fails alone.
    """
    settings: dict[tuple[object, ...], dict[int, Job]] = {}
    for job in jobs:
        setting = (job.dataset, job.data_root, job.partition or job.spec.partition, job.spec.clients)
        settings.setdefault(setting, {}).setdefault(job.spec.seed, job)
    for by_seed in settings.values():
        for job in list(by_seed.values())[:SEEDS_TRIED]:
            spec = job.spec
            make_partition(job.dataset, job.data_root, job.partition or spec.partition, spec.clients, spec.seed)
    each = {(job.dataset, job.spec.network, job.method, tuple(job.spec.params.items())): job for job in jobs}
    for job in each.values():
        networks = plugins.parse_networks(job.spec.network, job.spec.clients, dict(job.networks))
        try_out(job.spec, plugins.find_method(job.method), networks, load_data(job.dataset, job.data_root))


PROBE = 2**20  # bytes: more than a disk gives that is full, where an empty file still finds a place


def check_writable(results: Path, jobs: Sequence[Job] = ()) -> None:
    """Raise BadInput where the results, of `jobs` in particular, could not be stored, before any of them has run."""
    name = f"{'writable':_<40}"  # as long as the names of what is stored
    for folder in dict.fromkeys([results / WORK, *(result_path(results, job.spec).parent for job in jobs)]):
        try:
            write_bytes(folder / name, bytes(PROBE if folder.name == WORK else 0))
            (folder / name).unlink(missing_ok=True)  # another process may look at the same time
        except OSError as error:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
            reason = error.strerror
            raise BadInput(f"results cannot be written to {folder}: {reason}; choose another --results") from None
    for job in jobs:
        for path in (result_path(results, job.spec), work_path(results, job.spec, "lock")):
            if path.exists() and not path.is_file():
                raise BadInput(f"{path} is in the way: it is no file, and a run needs that place; remove it")
        lock = work_path(results, job.spec, "lock")
        if lock.exists() and not os.access(lock, os.W_OK):
            raise BadInput(
                f"{lock} may not be written to: it was left by another user's run; remove it, or have it removed"
            )
