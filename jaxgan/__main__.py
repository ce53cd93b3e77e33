"""`python -m jaxgan`."""

import sys

from jaxgan.command import main

sys.exit(main())
