"""`cron`: a number of replicas inside of a window that opens and closes by the clock (KEDA's cron scaler)."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from penstock.contracts.trigger import Opening, Reading
from penstock.kit.errors import InvalidInput

FIELDS = 5
_IN_A_NAME = str.maketrans({" ": "", "*": "x", "/": "Sl", "?": "Qm"})


def open_trigger(opening: Opening) -> CronTrigger:
    """See `contracts/trigger.py`."""
    return CronTrigger(opening)


class CronTrigger:
    """Open where the next closing comes before the next opening, in the wall time of the zone, daylight saving included."""

    target = 1.0

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        zone = opening.need("timezone")
        try:
            self._zone = ZoneInfo(zone)
        except (OSError, ValueError, KeyError):
            raise InvalidInput(
                f"cron: timezone: found {zone!r}, expected a name of the IANA database such as Europe/Berlin"
            ) from None
        self._start, self._end = (_expression(opening, name) for name in ("start", "end"))
        if self._start == self._end:
            raise InvalidInput("cron: start and end are the same")
        self._replicas = opening.number("desiredReplicas")
        names = (zone, *(text.translate(_IN_A_NAME) for text in (self._start, self._end)))
        self.metric = "-".join(("cron", *names))
        self._next(self._start)
        self._next(self._end)

    async def read(self) -> Reading:
        """By the clock."""
        inside = self._next(self._end) <= self._next(self._start)
        value = self._replicas if inside else 0.0
        return self._opening.reading(value, "", active=inside)

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _next(self, expression: str) -> float:
        """The next moment of an expression after now, Unix seconds; an expression that never comes is refused."""
        now = datetime.fromtimestamp(self._opening.now(), UTC).astimezone(self._zone)
        try:
            return next(CronSim(expression, now)).timestamp()
        except StopIteration:
            raise InvalidInput(f"cron: {expression!r} never comes") from None


def _expression(opening: Opening, name: str) -> str:
    text = " ".join(opening.need(name).split())
    try:
        if len(text.split()) != FIELDS:
            raise CronSimError(f"found {len(text.split())} fields, expected {FIELDS}")
        CronSim(text, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise InvalidInput(f"cron: {name}: {text!r} is no cron expression: {error}") from None
    return text
