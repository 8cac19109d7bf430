"""`python -m skrr_engine`."""

import sys

from .command.cli import main

# A plan's name may hold letters that this terminal cannot show.
sys.stdout.reconfigure(errors="replace")
sys.exit(main())
