"""What users may hand over by mistake; each is a factory of data or of a network."""

import numpy as np
import torch
from torch import nn

CLASSES = ["a", "b", "c"]
not_callable = 3


def pair(count, classes=3):
    images = np.random.default_rng(count).integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)
    return images, np.arange(count) % classes


def data(**changes):
    return {"train": pair(24), "validation": pair(12), "test": pair(13), "classes": CLASSES} | changes


def network(outputs=3, channels=3):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))


def five_outputs():
    return network(outputs=5)


def grey_only():
    return network(channels=1)


def damaged_weights():
    module = network()
    with torch.no_grad():
        module[3].weight[2, 1] = float("nan")
    return module


def damaged_statistics():
    module = network()
    module[4].running_var[1] = float("inf")
    return module


class Sorting(nn.Module):
    def forward(self, x):
        return torch.sort(x, dim=1)[0]


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), Sorting())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x):
        return self.head(self.body(x))


def unsupported():
    return Strange()


def no_module():
    return "resnet8"


def no_weights():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def two_answers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            return self.body(x), x

    return Two()


def raises():
    raise ValueError("no such column: 'label'")


def wants(folder):
    return network() if folder else data()


def label_out_of_range():
    images, labels = pair(12)
    return data(validation=(images, labels + 1))


def negative_label():
    images, labels = pair(12)
    return data(test=(images, labels - 1))


def empty_split():
    return data(validation=pair(0))


def nan_image():
    images, labels = pair(24)
    floats = images.astype(np.float32) / 255
    floats[7, 0, 3, 3] = np.nan
    return data(train=(floats, labels), validation=(floats[:12], labels[:12]), test=(floats[:12], labels[:12]))


def nothing():
    return None


def a_list():
    return [pair(24), pair(12), pair(12)]


def no_test():
    return {"train": pair(24), "validation": pair(12)}


def images_alone():
    return data(train=pair(24)[0])


def flat_images():
    return data(train=(pair(24)[0].reshape(24, -1), pair(24)[1]))


def channels_last():
    return data(train=(pair(24)[0].transpose(0, 2, 3, 1), pair(24)[1]))


def fractions_as_labels():
    return data(train=(pair(24)[0], pair(24)[1] / 2))


def too_few_labels():
    return data(train=(pair(24)[0], pair(24)[1][:20]))


def one_class():
    return data(classes=["all"])
