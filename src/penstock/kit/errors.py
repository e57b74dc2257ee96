"""The error tree. Every error has a stable code, an HTTP status, a message, and a hint that says what to do next.

    PlatformError
    ├── InvalidInput        400  the request itself is malformed
    ├── Unauthorized        401  no credentials, or unknown ones
    ├── Forbidden           403  known caller, not allowed
    ├── NotFound            404  no such object, model or path
    ├── AlreadyExists       409  a create met an object of that name
    ├── Conflict            409  an optimistic-concurrency check failed: read again, then retry
    ├── Expired             410  a watch position that is no longer kept: list again
    ├── TooLarge            413  a body, header or file beyond its limit
    ├── UnsupportedMedia    415  a content type that this path does not take
    ├── Invalid             422  a well-formed object that breaks a rule; carries every cause
    ├── Exhausted           429  a bounded queue or quota is full; carries retry_after_s
    ├── Internal            500  our own fault
    ├── Unavailable         503  a part that is needed is not ready
    └── DeadlineExceeded    504  a bounded wait ran out

Shells map the tree to a wire format once: Kubernetes `Status` in `host/api`, OpenAI, V1 or V2 bodies in `gateway`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why an object is invalid: the field's path, what was wrong, and a stable reason word."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class PlatformError(Exception):
    """Root of every error that may reach a user. `str(error)` is the message without the hint."""

    status: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after_s: float | None = None,
        about: str = "",
    ) -> None:
        """`code` is snake_case and stable; it defaults to the class's name. `about` names the object that is at fault."""
        super().__init__(message)
        self.message = message
        self.code = code or _snake(type(self).__name__)
        self.hint = hint
        self.causes = causes
        self.retry_after_s = retry_after_s
        self.about = about


class InvalidInput(PlatformError):
    """The request is malformed."""

    status, reason = 400, "BadRequest"


class Unauthorized(PlatformError):
    """No credentials, or unknown ones."""

    status, reason = 401, "Unauthorized"


class Forbidden(PlatformError):
    """A known caller that is not allowed to do this."""

    status, reason = 403, "Forbidden"


class NotFound(PlatformError):
    """No such object, model or path."""

    status, reason = 404, "NotFound"


class AlreadyExists(PlatformError):
    """A create met an object of the same name."""

    status, reason = 409, "AlreadyExists"


class Conflict(PlatformError):
    """The object changed since it was read."""

    status, reason = 409, "Conflict"


class Expired(PlatformError):
    """The watch position is older than the history that is kept."""

    status, reason = 410, "Expired"


class TooLarge(PlatformError):
    """A body, header or file beyond its limit."""

    status, reason = 413, "RequestEntityTooLarge"


class UnsupportedMedia(PlatformError):
    """A content type that this path does not take."""

    status, reason = 415, "UnsupportedMediaType"


class Invalid(PlatformError):
    """A well-formed object that breaks a rule of its kind."""

    status, reason = 422, "Invalid"


class Exhausted(PlatformError):
    """A bounded queue, pool or quota is full."""

    status, reason = 429, "TooManyRequests"


class Internal(PlatformError):
    """Our own fault."""

    status, reason = 500, "InternalError"


class Unavailable(PlatformError):
    """A part that is needed is not ready."""

    status, reason = 503, "ServiceUnavailable"


class DeadlineExceeded(PlatformError):
    """A bounded wait ran out."""

    status, reason = 504, "Timeout"


def kind_of(
    status: int, reason: str = "", default: type[PlatformError] = PlatformError
) -> type[PlatformError]:
    """The error that another process means by an HTTP status, or by Kubernetes' word for it, which says more."""
    known = [kind for kind in PlatformError.__subclasses__() if kind.__module__ == __name__]
    named = [kind for kind in known if kind.reason == reason]
    return (*named, *(kind for kind in known if kind.status == status), default)[0]


def nearest(name: str, known: list[str] | tuple[str, ...], limit: int = 3) -> tuple[str, ...]:
    """The names in `known` that look most like `name`, best first; for "did you mean" hints."""
    folded = {candidate.lower(): candidate for candidate in known}
    return tuple(
        folded[match] for match in get_close_matches(name.lower(), list(folded), n=limit, cutoff=0.5)
    )


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def refuse_unknown(found: Iterable[object], known: list[str] | tuple[str, ...], where: str) -> None:
    """Raises InvalidInput for the first name at `where` that is no field there."""
    for name in found:
        if name not in known:
            close = nearest(str(name), known, 1)
            raise InvalidInput(
                f"{where}: there is no field {name!r}",
                code="unknown_field",
                hint=f"did you mean {close[0]!r}?" if close else f"fields are: {', '.join(known)}",
            )
