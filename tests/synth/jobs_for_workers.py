"""Jobs that the tests of the pool send to workers; at the top level of a module, as workers need them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch

from devices.support.errors import UserError
from synth.data.dataset import Split
from synth.prototypes.resnet import ResNet
from synth.training.recipe import Recipe
from synth.training.training import train


def scaled(shared, job):
    time.sleep(0.02 * (job % 3))
    return job, float(shared["numbers"].sum()) * job


def short_training(shared, seed):
    """The weights after two epochs, and what took part in them."""
    torch.manual_seed(seed)
    module = ResNet(1, 3, widths=(4, 6), blocks=1)
    split = Split(shared["images"], shared["labels"])
    train(module, split, Recipe(2, batch=16, average_epochs=1), seed=seed)
    return torch.cat([tensor.flatten().double() for tensor in module.state_dict().values()]), torch.get_num_threads()


def origin(shared, job):
    import devices
    import synth

    return synth.__file__, devices.__file__, torch.__file__, sys.modules["__main__"].__dict__.get("MARK")


def fail(shared, job):
    if job == 2:
        raise UserError("job 2 is no good")
    return job


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail_oddly(shared, job):
    raise Odd("one", "two")


def die(shared, job):
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def wait_long(shared, job):
    time.sleep(60)


def identify(shared, job):
    time.sleep(0.05)
    return os.getpid()


def wait_after_the_first(shared, job):
    time.sleep(60 if job else 0)


def wait_for(shared, file):
    """Whether `file` came within some seconds; None for no file."""
    end = time.monotonic() + 20
    while file is not None and not Path(file).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return file and Path(file).exists()
