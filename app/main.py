"""``python app/main.py [OPTIONS]`` is ``dfqsam app [OPTIONS]``; the viewer itself is the package ``dfqsam.app``."""

import sys

from dfqsam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "app")
    main()
