"""`python -m jaxgan.doctor [--json]`."""

import sys

from jaxgan.doctor.page import main

sys.exit(main("--json" in sys.argv[1:]))
