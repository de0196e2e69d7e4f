"""Results as a tidy pandas frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedbench.errors import unknown_name
from fedbench.storage import measures
from fedbench.storage.disk import files, read, read_in_place
from fedbench.storage.given import given_path
from fedbench.storage.schema import Result
from fedbench.storage.spec import Scalar

if TYPE_CHECKING:
    import pandas as pd


Level = Literal["runs", "clients", "history"]
LEVELS: tuple[Level, ...] = ("runs", "clients", "history")


def load_results(path: str | Path = "results", level: Level = "runs") -> pd.DataFrame:
    """Results as a tidy pandas frame.

    `path` is a results folder or one file. A row is a run (`runs`), a client of a run (`clients`: test accuracy at the
    round that validation chose, unseen clients included), or one evaluation on the validation data (`history`).
    Accuracies are 0 .. 1, traffic is in bytes. Every row has the run's identity, method, data set, settings and seed;
    the method's hyperparameters are in columns `param.NAME`. Raises BadInput for a file that is no result, and for
    another level.
    """
    place = given_path(path, "path")
    if level not in LEVELS:
        raise unknown_name("level of rows", str(level), LEVELS)
    return frame(map(read if place.is_file() else read_in_place, files(place)), level)


def frame(results: Iterable[Result], level: Level = "runs") -> pd.DataFrame:
    """The frame of `load_results`, made from results that have been read."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for result in results:
        spec = result.spec.model_dump(exclude={"params"})
        params: dict[str, Scalar] = {f"param.{name}": value for name, value in result.spec.params.items()}
        run = {"identity": result.spec.identity, "title": result.title, **spec}
        if level == "runs":
            rows.append({**run, **_summary(result), **params})
        elif level == "history":
            rows += [{**run, **row.model_dump(), **params} for row in result.history]
        else:
            for seen, best in ((True, result.best), (False, result.unseen and result.unseen.best)):
                first = 0 if seen else result.spec.clients - result.spec.novel_clients
                for place, accuracy in enumerate(best.client_accuracy if best else []):
                    measured = {"accuracy": accuracy, "samples": best.test.total[place] if best else 0}
                    rows.append({**run, "client": first + place, "seen": seen, **measured, **params})
    return pd.DataFrame(rows)


def _summary(result: Result) -> dict[str, Any]:
    best, last = result.best, result.last
    accuracies = best.client_accuracy
    return {
        "accuracy": best.accuracy,
        "client_mean": best.client_mean,
        "worst_tenth": measures.worst_tenth(accuracies),
        "worst_client": measures.worst_client(accuracies),
        "client_std": measures.client_std(accuracies),
        "jain_index": measures.jain_index(accuracies),
        "unseen_accuracy": result.unseen.best.accuracy if result.unseen else None,
        "unseen_client_mean": result.unseen.best.client_mean if result.unseen else None,
        "best_round": best.round,
        "best_visits": best.visits,
        "val_accuracy": best.val_accuracy,
        "bytes_per_visit": measures.bytes_per_visit(last),
        "bytes": measures.bytes_moved(last),
        "steps": last.steps,
        "gradients": last.gradients,
        "personalize_gradients": best.personalize_gradients,
        "seconds": last.seconds,
    }
