"""Let ``python -m dockerlab`` be the command ``dockerlab``."""

from dockerlab.cli import main

if __name__ == "__main__":
    main(prog_name="dockerlab")
