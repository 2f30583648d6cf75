"""``python -m lossfuzz``."""

import sys

from lossfuzz.cli import main

sys.exit(main())
