"""Log lines: JSON where programs read them, one plain line where a person does; secrets are taken out of both."""

from __future__ import annotations

import logging
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

import msgspec

from penstock.kit.redact import redact, redact_text
from penstock.kit.timestamps import rfc3339_micro

MAX_FILE_BYTES = 10 << 20
KEPT_FILES = 5
MAX_MESSAGE_CHARS = 16_384
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, *, stream: TextIO | None = None, file: Path | None = None) -> None:
    """Send every log line of `level` ("debug" … "error") and above to `stream` (stderr) and, if given, to `file`.

    A terminal gets plain lines, any other stream JSON lines, the file JSON lines. The file (0600) is rotated at 10 MiB,
    five are kept. Calling it again replaces what an earlier call set up.
    """
    stream = sys.stderr if stream is None else stream
    handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
    handlers[0].setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    if file is not None:
        handlers.append(_rotating(file))
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message; the fields of `extra=`; the traceback as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": rfc3339_micro(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **redact({key: value for key, value in vars(record).items() if key not in _STANDARD}),
        }
        if record.exc_info:
            line["error"] = redact_text(self.formatException(record.exc_info))[-MAX_MESSAGE_CHARS:]
        return msgspec.json.encode(line, enc_hook=str).decode()


class PlainFormatter(logging.Formatter):
    """`12:00:01 warning placement: message`, and a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a person reads it."""
        moment = self.formatTime(record, "%H:%M:%S")
        line = f"{moment} {record.levelname.lower():7} {record.name.rpartition('.')[2]}: {_printable(_message(record))}"
        return f"{line}\n{redact_text(self.formatException(record.exc_info))}" if record.exc_info else line


def _message(record: logging.LogRecord) -> str:
    message = redact_text(record.getMessage())
    return message if len(message) <= MAX_MESSAGE_CHARS else f"{message[:MAX_MESSAGE_CHARS]}… (cut)"


def _printable(text: str) -> str:
    """Control characters shown, not obeyed: a logged name must not steer the terminal or forge a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _PrivateFile(RotatingFileHandler):
    """A rotated file that only its owner reads, whichever of its generations it is."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=0o600)
        return super()._open()


def _rotating(file: Path) -> logging.Handler:
    handler = _PrivateFile(file, maxBytes=MAX_FILE_BYTES, backupCount=KEPT_FILES - 1, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    return handler
