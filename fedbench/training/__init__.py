"""One run of one method: rounds, evaluation, selection on validation, unseen clients."""

from fedbench.training.adaptation import adapt
from fedbench.training.engine import Engine, Keep, Progress, Schedule
from fedbench.training.federation import Clients, federate
from fedbench.training.scoring import Scores

__all__ = ["Clients", "Engine", "Keep", "Progress", "Schedule", "Scores", "adapt", "federate"]
