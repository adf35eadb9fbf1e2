"""Train the network of genotypes: python experiments/retrain.py [CONFIG] --genotype TASK=PATH..."""

import sys

from manas.cli import main

if __name__ == "__main__":
    main(["retrain", *sys.argv[1:]])
