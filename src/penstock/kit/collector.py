"""Python's garbage collector, for a process that lives long and whose answers somebody waits for."""

import gc

YOUNG = 7000
"""New objects after which the youngest are looked at: ten times the default. A decision among a thousand nodes makes some thousand, nearly
all of which go by themselves; with the default one in fifty waited 0.7 ms longer for nothing."""


def settle() -> None:
    """What is there now stays: no collection looks at it again, which holds up everything for tens of milliseconds. Younger things wait longer."""
    gc.freeze()
    gc.set_threshold(YOUNG)
