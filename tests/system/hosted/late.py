"""An application that needs three seconds before it can answer."""

import time

from shop import application

__all__ = ["application"]

time.sleep(3)
