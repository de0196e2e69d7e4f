"""What `fedbench run` compares: some methods on one data set, at equal effort, over some seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedbench import registry
from fedbench.dataset import data_root
from fedbench.errors import BadInput, canonical, unknown_name
from fedbench.job import Job
from fedbench.models import NETWORKS, network
from fedbench.partition import parse_partition
from fedbench.registry import Plugin
from fedbench.spec import PRESETS, Spec

WIDTH_ON_GPU = 16  # clients trained at once by `vmap` where a device has room for them
ADAPT_VISITS = 20


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The question that a set of runs answers. None stands for the data set's or the preset's own choice."""

    methods: Sequence[str]  # names or files
    seeds: Sequence[int]
    dataset: str = "digits"
    clients: int | None = None
    partition: str | None = None
    visits: int = PRESETS["laptop"].visits
    evaluate_every: int = PRESETS["laptop"].evaluate_every
    novel_clients: int = 0
    adapt_visits: int | None = None
    network: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # "METHOD.FIELD" -> value
    device: str = "auto"
    data_root: Path | None = None
    results: Path = Path("results")
    checkpoint_every: float = 120.0

    def jobs(self) -> list[Job]:
        """The runs, one seed of all methods after the other. Raises BadInput for anything that cannot be run."""
        plugins = [registry.find_method(text) for text in self.methods]
        names = [plugin.name for plugin in plugins]
        if not names:
            raise BadInput("no method was named: give at least one, e.g. pfedhn")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadInput(f"the method {twice[0]} was named twice")
        params = self._params(plugins)
        dataset, device = registry.find_dataset(self.dataset), self._device()
        clients = self.clients or dataset.cls.clients
        root = data_root(self.data_root)
        if clients is None:
            from fedbench.problem import load_data

            clients = dataset.cls().default_clients(load_data(dataset.where, root))
        chosen = canonical(self.network or dataset.cls.network)
        if chosen not in NETWORKS:
            raise unknown_name("network", self.network or chosen, NETWORKS)
        partition = str(parse_partition(self.partition or dataset.cls.partition, dataset.cls))
        if self.adapt_visits is not None and not self.novel_clients:
            raise BadInput("adapt visits are visits to unseen clients: say how many with --novel-clients")
        if self.novel_clients >= clients:
            raise BadInput(f"{self.novel_clients} unseen clients of {clients} leave none to train on: ask for fewer")
        return [
            Job(
                spec=Spec(
                    method=plugin.name,
                    params=params[plugin.name],
                    dataset=dataset.name,
                    network=chosen,
                    partition=partition,
                    clients=clients,
                    novel_clients=self.novel_clients,
                    adapt_visits=(ADAPT_VISITS if self.adapt_visits is None else self.adapt_visits)
                    if self.novel_clients
                    else 0,
                    seed=seed,
                    visits=self.visits,
                    evaluate_every=self.evaluate_every,
                    width=1 if device == "cpu" else WIDTH_ON_GPU,
                    device="cpu" if device == "cpu" else "cuda",
                ),
                method=plugin.where,
                dataset=dataset.where,
                data_root=root,
                results=self.results.resolve(),
                checkpoint_every=self.checkpoint_every,
                device=device,
            )
            for seed in self.seeds
            for plugin in plugins
        ]

    def _params(self, plugins: Sequence[Plugin]) -> dict[str, dict[str, registry.Scalar]]:
        settings: dict[str, dict[str, str]] = {plugin.name: {} for plugin in plugins}
        for key, value in self.settings.items():
            method, _, name = key.partition(".")
            if canonical(method) not in settings:
                raise unknown_name("method in this comparison", method, settings)
            settings[canonical(method)][name] = value
        return {plugin.name: registry.configure(plugin, settings[plugin.name]) for plugin in plugins}

    def _device(self) -> str:
        if self.device not in ("auto", "cpu", "cuda"):
            raise unknown_name("device", self.device, ("auto", "cpu", "cuda"))
        if self.device == "cpu":
            return "cpu"
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if self.device == "cuda":
            raise BadInput("--device cuda: PyTorch finds no CUDA device on this machine; use --device cpu or auto")
        return "cpu"


def check_possible(jobs: Sequence[Job]) -> None:
    """Make every partition and network of `jobs` once, so that an impossible one is refused before anything runs."""
    from fedbench.problem import image_shape, load_data, make_partition

    for spec, job in {(job.spec.partition, job.spec.clients, job.spec.seed): job for job in jobs}.items():
        make_partition(job.dataset, job.data_root, *spec)
        data = load_data(job.dataset, job.data_root)
        network(job.spec.network, image_shape(data), data.classes)


def check_writable(results: Path) -> None:
    """Raise BadInput where results could not be stored."""
    from fedbench.store import WORK, write_bytes

    try:
        write_bytes(results / WORK / "writable", b"")
        (results / WORK / "writable").unlink(missing_ok=True)  # another process may look at the same time
    except OSError as error:
        raise BadInput(f"results cannot be written to {results}: {error.strerror}; choose another --results") from None
