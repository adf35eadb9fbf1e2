"""Do budgets hold? Short searches under three budgets, and what their derived networks cost, counted by thop.

    python experiments/benchmarks/budgets.py [--space manas_tiny] [--steps 20]

The budgets divide the range from the cheapest to the dearest architecture of the space. thop counts the network
that the genotype builds, independent of the cost table of the search.
"""

import argparse
import tempfile
from pathlib import Path

import torch

import manas
from manas.cost.counting import cost_table, thop_macs

SHARES = (0.25, 0.5, 0.75)


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="manas_tiny")
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = (3, arguments.patch, arguments.patch)
    table = cost_table(manas.load_space(arguments.space), "macs", shape)
    low, high = table.cheapest(), table.dearest()
    size = f"{arguments.patch}x{arguments.patch}"
    print(f"{arguments.space} at {size}: {low / 1e6:.2f} to {high / 1e6:.2f} M MACs\n")
    print("| budget | derived network | share |\n|---|---|---|")
    for share in SHARES:
        limit = low + share * (high - low)
        settings = {
            "device": "cpu",
            "method": "gradient",
            "space": arguments.space,
            "data": {"patch": arguments.patch, "validation_patch": arguments.patch, "workers": 0},
            "budget": {"macs": limit},
            "epochs": 2,
            "steps": arguments.steps,
            "eigenvalue_every": 0,
        }
        with tempfile.TemporaryDirectory() as folder:
            genotype = manas.search({**settings, "run": str(Path(folder) / "run")})
        macs = thop_macs(genotype.network(), shape)
        print(f"| {limit / 1e6:.2f} M | {macs / 1e6:.2f} M | {macs / limit:.1%} |", flush=True)


if __name__ == "__main__":
    main()
