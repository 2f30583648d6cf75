"""``python -m lossfuzz``."""

import sys

if not sys.flags.safe_path and sys.path:
    del sys.path[0]  # the current folder, which -m puts first: cli.py says when it is looked in

from lossfuzz.cli import main

sys.exit(main())
