"""PReNet with its authors' weights (Ren et al., CVPR 2019), to read the scores of the shipped network beside.

    git clone https://github.com/csdwren/PReNet
    python experiments/benchmarks/published.py PReNet PAIRS

PAIRS is a set of pairs, as for `shipped.py`. Each network is for one kind of rain, which it has seen in
training, and all pairs are restored by each. The scores are by the protocol `derain`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import manas
from manas.evaluation.results import Evaluation, score_table

WEIGHTS = {
    "PReNet, Rain100L": "logs/Rain100L/PReNet6/net_latest.pth",
    "PReNet, Rain100H": "logs/Rain100H/PReNet6/net_latest.pth",
}


def evaluation(clone: Path, weights: str, pairs: Path) -> Evaluation:
    """The scores of one network on all scenes."""
    from networks import PReNet  # of the clone

    network = PReNet(6, use_GPU=False).eval()
    network.load_state_dict(torch.load(clone / weights, map_location="cpu", weights_only=True))

    def restore(picture: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            restored = network(image)[0].clamp(0, 1)[0].permute(1, 2, 0)
        return (restored * 255).round().byte().numpy()

    return manas.evaluate(restore, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path)
    parser.add_argument("pairs", type=Path)
    arguments = parser.parse_args()
    sys.path.append(str(arguments.clone))
    for name, weights in WEIGHTS.items():
        scored = evaluation(arguments.clone, weights, arguments.pairs)
        print(f"{name}\n\n{score_table([scored]).to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
