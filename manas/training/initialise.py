"""The weights that a training begins with: scaled by its first images, or from model files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import nn

from manas.architecture.space import SearchSpace
from manas.data.dataset.backgrounds import Backgrounds
from manas.errors import ManasError
from manas.restoration.model_file import NAME_IN_A_RUN, load_model
from manas.restoration.network import RestorationNetwork
from manas.restoration.unit_start import unit_start
from manas.training.distributed import Process


def start(network: nn.Module, backgrounds: Backgrounds, process: Process) -> None:
    """Scales the layers that no normalisation follows, by the first batch of the training (`unit_start`).

    The result does not depend on the number of processes, since each sees the whole batch.

    Args:
        network: on its device.
    """
    batches = process.gather(next(backgrounds.batches("kept", workers=0)).degraded)
    unit_start(network, torch.cat(batches).flatten(0, 1).to(process.device))
    # The devices of several processes may round differently, and their weights must begin equal.
    process.broadcast([*network.parameters(), *network.buffers()])


def initialise(
    network: nn.Module, init: str | Mapping[str, str] | None, space: type[SearchSpace] | None = None
) -> None:
    """Loads weights into a network, such as towers that were trained alone before (Misra et al., CVPR 2016).

    Args:
        network: on any device.
        init: a model file of the same network, or its run directory; or one a task, from which the tower of
            that task, or else the only tower, is taken. The other towers, the stitches and the fusion stay as
            they are.
        space: the class of a space that no entry point names.

    Raises:
        ManasError: for a file that cannot be read, a task that a network does not have, or weights that do not
            fit; the message names the first weight that differs, with both shapes.
    """
    if init is None:
        return
    if isinstance(init, str):
        _load(network, load_model(init, space=space)[0], init)
        return
    towers = cast(RestorationNetwork, network).towers
    for task, path in init.items():
        if task not in towers:
            raise ManasError(f"init: the network has no tower for {task!r}; it has {', '.join(towers)}")
        sources = cast(RestorationNetwork, load_model(path, space=space)[0]).towers
        if task not in sources and len(sources) > 1:
            raise ManasError(f"{path}: no tower for {task!r}, but those for {', '.join(sources)}; give another")
        _load(towers[task], sources[task] if task in sources else next(iter(sources.values())), path)


def named(init: str | Mapping[str, str]) -> str:
    """What a training began with, in words: the last parts of the paths, which say nothing of the machine."""
    if isinstance(init, str):
        return _last_part(init)
    return ", ".join(f"{task}: {_last_part(path)}" for task, path in init.items())


def _last_part(path: str) -> str:
    """The name of a run, of a file or of an installed network."""
    return (Path(path).parent if Path(path).name == NAME_IN_A_RUN else Path(path)).name


def _load(network: nn.Module, source: nn.Module, path: str) -> None:
    ours, theirs = network.state_dict(), source.state_dict()
    for name in (*ours, *theirs):
        if name not in theirs or name not in ours:
            where = "the file" if name in theirs else "the network"
            raise ManasError(f"{path}: does not fit the network: {name} is in {where} alone")
        if ours[name].shape != theirs[name].shape:
            shapes = f"{tuple(theirs[name].shape)}, and in the network {tuple(ours[name].shape)}"
            raise ManasError(f"{path}: does not fit the network: {name} has the shape {shapes}")
    network.load_state_dict(theirs)
