"""Times beside each other."""

import numpy as np

from shared.timing import ratio, turns


class Clock:
    """A clock that functions put forward by hand."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def __call__(self):
        return self.now

    def function(self, name, *seconds):
        """Return a function that takes so long, call by call; the first call is the warm-up."""
        left = iter(seconds)

        def run():
            self.order.append(name)
            self.now += next(left)

        return run


def test_turns_alternate_and_leave_the_warm_up_out():
    clock = Clock()
    functions = [clock.function("a", 100, 2, 4, 6), clock.function("b", 100, 1, 8, 3)]
    seconds = turns(functions, 3, clock)
    np.testing.assert_array_equal(seconds, [[2, 1], [4, 8], [6, 3]])
    assert "".join(clock.order) == "ab" + "ab" + "ba" + "ab"


def test_ratio_is_the_median_of_the_turns_not_the_ratio_of_medians():
    seconds = np.array([[2.0, 1.0], [90.0, 30.0], [9.0, 9.0]])
    assert ratio(seconds, 0, 1) == 2
    assert ratio(seconds, 1, 0) == 0.5
