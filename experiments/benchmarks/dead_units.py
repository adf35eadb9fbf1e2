"""The dead ReLUs of trained networks, which are zero at every pixel of every picture.

    python experiments/benchmarks/dead_units.py MODEL.safetensors ... --pictures FOLDER [--most 3]

One row a model: the number of dead units of each ReLU, and of all its units, in the order of the network.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor, nn

from manas import Restorer
from manas.data.images import read_image


def dead_units(model: Path, pictures: list[Path]) -> list[tuple[int, int]]:
    """The numbers (dead, all) of units of each ReLU, in the order in which the network calls them."""
    restorer, largest = Restorer.load(model), defaultdict[str, list[Tensor]](list)

    def watch(name: str):
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if output.device.type != "meta":  # a pass on the meta device only estimates the memory
                largest[name].append(output.amax((0, 2, 3)))

        return hook

    for name, module in restorer.network.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(watch(name))
    for picture in pictures:
        restorer(read_image(picture))
    most = [torch.stack(values).amax(0) for values in largest.values()]
    return [(int((value == 0).sum()), len(value)) for value in most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--most", type=int, default=3, help="of the pictures, in the order of their names")
    arguments = parser.parse_args()
    pictures = sorted(path for path in arguments.pictures.iterdir() if path.is_file())[: arguments.most]
    if not pictures:
        parser.error(f"--pictures: {arguments.pictures} holds no file")
    print("| model | dead units of each ReLU |\n|---|---|")
    for model in arguments.models:
        counts = dead_units(model, pictures)
        print(f"| {model} | {', '.join(f'{dead} of {all_}' for dead, all_ in counts)} |", flush=True)


if __name__ == "__main__":
    main()
