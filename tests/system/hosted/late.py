"""An application that needs a second before it can answer."""

import time

from shop import application

__all__ = ["application"]

time.sleep(1)
