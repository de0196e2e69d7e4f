"""What is kept on disk: the spec of a run, its result, the files, and data frames made from them."""

from fedbench.storage.disk import (
    TRIALS,
    WORK,
    files,
    find_result,
    has_result_since,
    read,
    read_bytes,
    read_failure,
    read_in_place,
    replacing,
    result_path,
    work_path,
    write,
    write_bytes,
    write_failure,
)
from fedbench.storage.frame import load_results
from fedbench.storage.index import Facts, Head, Index, heads
from fedbench.storage.models import models_path, read_models, write_models
from fedbench.storage.schema import Best, Failure, HistoryRow, Models, Result, Row, TestScores, Unseen, digest, shown
from fedbench.storage.spec import SEEDS, Scalar, Spec, seed_list

__all__ = [
    "SEEDS",
    "TRIALS",
    "WORK",
    "Best",
    "Facts",
    "Failure",
    "Head",
    "HistoryRow",
    "Index",
    "Models",
    "Result",
    "Row",
    "Scalar",
    "Spec",
    "TestScores",
    "Unseen",
    "digest",
    "files",
    "find_result",
    "has_result_since",
    "heads",
    "load_results",
    "models_path",
    "read",
    "read_bytes",
    "read_failure",
    "read_in_place",
    "read_models",
    "replacing",
    "result_path",
    "seed_list",
    "shown",
    "work_path",
    "write",
    "write_bytes",
    "write_failure",
    "write_models",
]
