"""What fedbench is measured against: pFedHN on one machine, written with nn.Module, DataLoader and torch.optim.

It does what the authors' released code does (AvivSham/pFedHN): images are PIL images that torchvision transforms in
every step, NCHW, one DataLoader a client, weights generated again for every batch of an evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CLIENTS = 10
TRANSFORM = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


class Images(Dataset[Any]):
    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels, self.labels = pixels, labels.ravel().tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return TRANSFORM(Image.fromarray(self.pixels[index])), self.labels[index]


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 16, 5), nn.Conv2d(16, 32, 5), nn.MaxPool2d(2, 2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(32 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x))).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Hypernetwork(nn.Module):
    def __init__(self, target: nn.Module) -> None:
        super().__init__()
        k = int(1 + CLIENTS / 4)
        self.embedding = nn.Embedding(CLIENTS, k)
        layers: list[nn.Module] = [nn.Linear(k, 100)]
        for _ in range(3):
            layers += [nn.ReLU(), nn.Linear(100, 100)]
        self.trunk = nn.Sequential(*layers)
        self.shapes = {name: value.shape for name, value in target.state_dict().items()}
        self.heads = nn.ModuleList(nn.Linear(100, shape.numel()) for shape in self.shapes.values())

    def forward(self, client: Tensor) -> dict[str, Tensor]:
        x = self.trunk(self.embedding(client))
        return {name: head(x).view(shape) for head, (name, shape) in zip(self.heads, self.shapes.items(), strict=True)}


def measurements(root: Path, steps: int) -> dict[str, Callable[[], float]]:
    """Functions that each do one thing and return the CPU seconds of one: a step, a server step, an evaluation."""
    with np.load(root / "cifar10.npz") as data:
        pixels, labels = data["x_train"], data["y_train"]
    own = len(pixels) // CLIENTS
    train, held_out = (Images(pixels[part], labels[part]) for part in (slice(own), slice(own, own + 2000)))
    loader = DataLoader(train, batch_size=64, shuffle=True)
    ready = torch.stack([train[i][0] for i in range(64 * steps)]).split(64)
    ready_labels = torch.tensor(train.labels[: 64 * steps]).split(64)
    net = LeNet()
    hypernetwork = Hypernetwork(net)
    server = torch.optim.SGD(hypernetwork.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-3)
    client = torch.tensor([0])
    change = {name: torch.randn(shape) for name, shape in hypernetwork.shapes.items()}

    def visit(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        with torch.no_grad():
            net.load_state_dict(hypernetwork(client))
        optimizer = torch.optim.SGD(net.parameters(), lr=5e-3, momentum=0.9, weight_decay=5e-5)
        began = time.process_time()
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 50)
            optimizer.step()
        return (time.process_time() - began) / steps

    def server_step() -> float:
        began = time.process_time()
        weights = hypernetwork(client)
        server.zero_grad()
        grads = torch.autograd.grad(
            list(weights.values()), list(hypernetwork.parameters()), grad_outputs=list(change.values())
        )
        for parameter, grad in zip(hypernetwork.parameters(), grads, strict=True):
            parameter.grad = grad
        torch.nn.utils.clip_grad_norm_(hypernetwork.parameters(), 50)
        server.step()
        return time.process_time() - began

    @torch.no_grad()
    def evaluation() -> float:
        """One client's 2,000 images, times the number of clients."""
        began = time.process_time()
        correct = 0
        for x, y in DataLoader(held_out, batch_size=64):
            net.load_state_dict(hypernetwork(client))
            correct += int((net(x).argmax(1) == y).sum())
        return (time.process_time() - began) * CLIENTS

    return {
        "step": lambda: visit(next(iter(loader)) for _ in range(steps)),  # a fresh shuffle for every step
        "step on ready tensors": lambda: visit(list(zip(ready, ready_labels, strict=True))),
        "server step": server_step,
        "evaluation": evaluation,
    }
