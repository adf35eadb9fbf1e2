"""Write the genotype of a run as JSON: python experiments/export.py RUN_OR_CHECKPOINT OUT.json"""

import sys

from manas.commands.main import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
