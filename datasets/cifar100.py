"""CIFAR-100: 60,000 colour photographs of 100 kinds of things, 32 x 32; 600 of a kind, 100 of them for testing.

The normalisation, the ten classes per client and the 40,000 / 10,000 / 10,000 images for training / validation / test
are those of the official repository of Shamsian et al. 2021 (github.com/AvivSham/pFedHN). Labels are the fine ones; the
natural group of an image is its coarse class, of which there are 20 with 5 fine classes each.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fedbench.dataset import Data, Dataset, train_and_test

COARSE = {  # as on the home page of the data set; fine classes are numbered in the order of the alphabet
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}


def coarse_of_fine() -> torch.Tensor:
    """The coarse class of every fine class, [100] int64."""
    of_name = {name: group for group, names in enumerate(COARSE.values()) for name in names.split()}
    return torch.tensor([of_name[name] for name in sorted(of_name)])


class CIFAR100(Dataset):
    """CIFAR-100, ten classes per client."""

    title = "CIFAR-100"
    source = "Krizhevsky, Learning multiple layers of features from tiny images, 2009; cs.toronto.edu/~kriz/cifar.html"
    network = "lenet"
    classes_per_client = 10

    def load(self, root: Path) -> Data:
        """`root/cifar100.npz`, images stored as [M, 32, 32, 3]."""
        data = train_and_test(
            root, "cifar100", "CIFAR100", (32, 32, 3), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), classes=100
        )
        return replace(data, group=coarse_of_fine()[data.labels], group_names=tuple(COARSE))
