"""Who holds which rows: the kinds of partition, dealing, and pictures of the outcome."""

from fedbench.partition import Kind, apportion
from fedbench.partitions.classes import Classes
from fedbench.partitions.coarse import Coarse
from fedbench.partitions.deal import SPLITS, Partition, split
from fedbench.partitions.dirichlet import Dirichlet
from fedbench.partitions.group import Group
from fedbench.partitions.iid import IID
from fedbench.partitions.show import picture, summary, table

KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Classes, Coarse, Dirichlet, Group, IID)}

__all__ = [
    "IID",
    "KINDS",
    "SPLITS",
    "Classes",
    "Coarse",
    "Dirichlet",
    "Group",
    "Kind",
    "Partition",
    "apportion",
    "picture",
    "split",
    "summary",
    "table",
]
