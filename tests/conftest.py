"""One torch thread in every test, as in every run: the numbers are the same, and small operations are faster."""

import torch

torch.set_num_threads(1)
