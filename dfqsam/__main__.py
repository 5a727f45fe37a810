"""``python -m dfqsam`` is the command ``dfqsam``."""

from dfqsam.cli import main

if __name__ == "__main__":
    main()
