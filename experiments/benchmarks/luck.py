"""Can a search tell merit from luck? Forks between two copies of one candidate, and forks with a right answer.

    python experiments/benchmarks/luck.py [--series 20] [--repeats 3]

The space is that of `known_answer.py`: three forks, one a colour channel, of 200 steps. *Copies* offers two 3x3
filters at every fork, which differ by their initial weights alone; *right* has one right candidate of five.
Counted are the forks that one search would call preferred by the data (Student's t over its batches), and
those that a series of searches from other weights calls decided by the data; of copies, none should be.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import known_answer
import torch

import manas
from manas.searching.evidence import read_evidence
from manas.searching.reasons import Reason, preference

COPIES = {name: partial(known_answer.Filter, (3, 3)) for name in ("first", "second")}


def series(pairs: Path, run: Path, seed: int, repeats: int) -> tuple[int, int, float]:
    """The forks preferred by single searches and decided by their series, and the largest t of one search."""
    settings = known_answer.gradient_settings("softmax", "first", "argmax") | {"repeats": repeats}
    genotype = manas.search(known_answer.config(pairs, run, seed, **settings))
    preferred, largest = 0, 0.0
    for place in range(repeats):
        for pull in read_evidence(run / f"repeat{place}").values():
            order = sorted(range(len(pull.names)), key=lambda k, pull=pull: pull.data[k])
            best, second = order[-1], order[-2]
            preferred += preference(pull, pull.names[best]) is Reason.DATA
            lead = pull.data[best] - pull.data[second]
            largest = max(largest, lead / pull.errors[best][second])
    decided = sum(reason == Reason.DATA for reason in genotype.provenance["decided_by"].values())
    return preferred, decided, largest


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spaces = {"copies": COPIES, "right": known_answer.CANDIDATES}
    print("| forks | preferred by the data of one search | decided by the data of a series | largest t |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        pairs = known_answer.write_pairs(Path(folder))
        for name, candidates in spaces.items():
            with patch.object(known_answer, "CANDIDATES", candidates):
                found = [
                    series(pairs, Path(folder) / f"{name}{n}", arguments.repeats * n, arguments.repeats)
                    for n in range(arguments.series)
                ]
            forks = 3 * arguments.series
            preferred, decided = sum(each[0] for each in found), sum(each[1] for each in found)
            once = f"{preferred} of {forks * arguments.repeats}"
            largest = max(each[2] for each in found)
            print(f"| {name} | {once} | {decided} of {forks} | {largest:.1f} |", flush=True)


if __name__ == "__main__":
    main()
