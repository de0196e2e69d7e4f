"""The table at the end of `fedbench run`: one row a method, mean and standard deviation over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd
from rich.markup import escape
from rich.table import Table

from fedbench.runs.job import Job
from fedbench.runs.state import look
from fedbench.storage import measures


def frame(jobs: Iterable[Job]) -> pd.DataFrame:
    """One row a finished run of `jobs`: title, seed and the measures of the table; accuracies in percent."""
    rows = []
    for job in jobs:
        found = look(job)
        if found.state != "done":  # an outdated result is no result
            continue
        result = found.read(job)
        best, last = result.best, result.last
        rows.append(
            {
                "method": job.spec.method,
                "title": result.title,
                "seed": job.spec.seed,
                "client mean": 100 * best.client_mean,
                "pooled": 100 * best.accuracy,
                "worst tenth": 100 * measures.worst_tenth(best.client_accuracy),
                "unseen": 100 * result.unseen.best.client_mean if result.unseen else None,
                "gradients/visit": measures.gradients_per_visit(last),
                "MB/visit": measures.bytes_per_visit(last) / measures.MEGABYTE,
                "MB": measures.bytes_moved(last) / measures.MEGABYTE,
                "seconds": last.seconds,
                "path": str(found.path),
            }
        )
    return pd.DataFrame(rows)


def spread(values: pd.Series) -> str:
    """`mean ± sd` over seeds with the sample standard deviation, or the one value where there is one seed."""
    if len(values) == 1:
        return f"{values.iloc[0]:.2f}"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"


def size(amount: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def comparison_table(jobs: Sequence[Job]) -> Table:
    """The table for the terminal; methods whose runs are not all there say so in the column `seeds`."""
    runs = frame(jobs)
    unseen = any(job.spec.novel_clients for job in jobs)
    spec = jobs[0].spec
    table = Table(
        title=f"{spec.dataset}, {spec.clients - spec.novel_clients} clients, {spec.visits} client visits",
        caption="test accuracy in %, at the round chosen on validation; mean ± standard deviation over seeds; "
        "grad./visit: gradient evaluations, in batches",
    )
    table.add_column("method", no_wrap=True)
    heads = [
        "client mean",
        "pooled",
        "worst tenth",
        *(["unseen"] if unseen else []),
        "grad./visit",
        "MB/visit",
        "MB",
        "s/run",
        "seeds",
    ]
    for head in heads:
        table.add_column(head, justify="right")
    expected = pd.Series([job.spec.method for job in jobs]).value_counts()
    titles = Counter(runs.groupby("method")["title"].first()) if len(runs) else Counter[str]()
    for method in dict.fromkeys(job.spec.method for job in jobs):
        mine = runs[runs["method"] == method] if len(runs) else runs
        if not len(mine):
            table.add_row(method, *["-"] * (len(heads) - 1), f"0/{expected[method]}")
            continue
        seeds = f"{len(mine)}" if len(mine) == expected[method] else f"{len(mine)}/{expected[method]}"
        cells = [spread(mine[name]) for name in ("client mean", "pooled", "worst tenth")]
        cells += [spread(mine["unseen"])] if unseen else []
        gradients = mine["gradients/visit"].dropna()
        cells += [size(gradients.mean()) if len(gradients) else "-"]
        cells += [size(mine["MB/visit"].mean()), size(mine["MB"].mean()), f"{mine['seconds'].mean():.0f}", seeds]
        title = str(mine["title"].iloc[0])
        table.add_row(escape(f"{title} [{method}]" if titles[title] > 1 else title), *cells)
    return table
