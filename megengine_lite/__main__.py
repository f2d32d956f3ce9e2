"""``python -m megengine_lite``."""

import sys

from megengine_lite.cli import main

sys.exit(main())
