"""Train the network of genotypes: python experiments/retrain.py [CONFIG] --genotype TASK=PATH..."""

import sys

from manas.commands.main import main

if __name__ == "__main__":
    main(["retrain", *sys.argv[1:]])
