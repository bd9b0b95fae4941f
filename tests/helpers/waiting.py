"""What tests of pages and windows share."""

import time


def wait_for(condition, seconds=60):
    """Return the first true answer of a condition, which is asked again and again."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.2)
    return found
