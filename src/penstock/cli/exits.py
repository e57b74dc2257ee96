"""What a command's exit code means to a script."""

from __future__ import annotations

from penstock.kit.errors import (
    DeadlineExceeded,
    Exhausted,
    Forbidden,
    Invalid,
    InvalidInput,
    NotFound,
    PlatformError,
    Unauthorized,
    Unavailable,
)

OK, ERROR, USAGE, NOT_FOUND, UNREACHABLE, INVALID, FORBIDDEN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


def exit_code(error: PlatformError) -> int:
    """3 not found, 4 not reachable or timed out, 5 refused as invalid, 6 not allowed, 1 anything else."""
    table: tuple[tuple[tuple[type[PlatformError], ...], int], ...] = (
        ((NotFound,), NOT_FOUND),
        ((Unavailable, DeadlineExceeded, Exhausted), UNREACHABLE),
        ((Invalid, InvalidInput), INVALID),
        ((Forbidden, Unauthorized), FORBIDDEN),
    )
    return next((code for kinds, code in table if isinstance(error, kinds)), ERROR)
