"""`python -m q_align` is `q-align`."""

import sys

from q_align.cli.main import main

sys.exit(main())
