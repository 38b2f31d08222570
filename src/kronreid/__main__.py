"""``python -m kronreid``: the command line without the installed script."""

import sys

from kronreid.cli import main

sys.exit(main())
