"""Search a space for an architecture: python experiments/search.py [CONFIG] [--set KEY=VALUE]... [--resume]"""

import sys

from manas.commands.main import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:]])
