"""Logs of pools and rigs alike: one event, one line, at levels that may change at any time.

structlog's own filter settles the level when a logger is first used. Here every logger asks its
sink, which knows the level of its name now: one comparison, before anything is built.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from stratum.logtext import escaped, failure_text, plain_facts

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Sink:
    """Where the events of one logger's name go, and from which level on."""

    __slots__ = ("_lock", "_stream", "level", "name")

    def __init__(self, name: str, level: int, stream: TextIO, lock: threading.Lock) -> None:
        self.name = name
        self.level = level
        self._stream = stream
        self._lock = lock

    def msg(self, line: str) -> None:
        """Write a line. A log that cannot be written is nobody's failure."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


class Sinks:
    """All sinks of a process: structlog's logger factory, and the levels in force.

    A name stands for the loggers of that name and of those below it: ``pool`` for ``pool.http``
    too. The longest name that fits counts.
    """

    def __init__(self, level: str, stream: TextIO) -> None:
        self._levels: dict[str, int] = {"": LEVELS[level]}  # {name, "" for all: level}
        self._stream = stream
        self._lock = threading.Lock()
        self._sinks: dict[str, Sink] = {}

    def __call__(self, name: str = "") -> Sink:
        """The sink of a logger's name."""
        sink = self._sinks.get(name)
        if sink is None:
            sink = Sink(name, self._level_of(name), self._stream, self._lock)
            self._sinks[name] = sink
        return sink

    def set_levels(self, levels: Mapping[str, str]) -> None:
        """From now on these ``{name: level}`` hold, and ``levels[""]`` for all other names."""
        self._levels = {name: LEVELS[level] for name, level in levels.items()}
        for name, sink in list(self._sinks.items()):
            sink.level = self._level_of(name)

    def _level_of(self, name: str) -> int:
        while name not in self._levels:
            name = name.rpartition(".")[0]
        return self._levels[name]


class Logger(structlog.BoundLoggerBase):
    """A bound logger whose methods ask the sink's level first."""

    _logger: Sink

    def is_enabled_for(self, level: int) -> bool:
        """Whether events of ``level`` are written now: for what is dear to gather."""
        return self._logger.level <= level

    def debug(self, event: str, **facts: Any) -> None:
        """Tell what helps to follow one thing through the house."""
        if self._logger.level <= logging.DEBUG:
            self._proxy_to_logger("debug", event, **facts)

    def info(self, event: str, **facts: Any) -> None:
        """Tell what an operator may want to know."""
        if self._logger.level <= logging.INFO:
            self._proxy_to_logger("info", event, **facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Tell what an operator should look at."""
        if self._logger.level <= logging.WARNING:
            self._proxy_to_logger("warning", event, **facts)

    def error(self, event: str, **facts: Any) -> None:
        """Tell what went wrong."""
        if self._logger.level <= logging.ERROR:
            self._proxy_to_logger("error", event, **facts)

    def critical(self, event: str, **facts: Any) -> None:
        """Tell what ends the process."""
        self._proxy_to_logger("critical", event, **facts)

    def exception(self, event: str, **facts: Any) -> None:
        """Tell of the exception that is being handled."""
        if self._logger.level <= logging.ERROR:
            self._proxy_to_logger("error", event, **{"exc_info": True, **facts})

    def log(self, level: int, event: str, **facts: Any) -> None:
        """Tell at a level of the standard library's."""
        if self._logger.level <= level:
            name = logging.getLevelName(level).lower()
            self._proxy_to_logger(name if name in LEVELS else "critical", event, **facts)


def configure(
    level: str,
    stream: TextIO,
    *,
    terminal: bool,
    failure_words: bool = False,
    lasting: bool = True,
) -> Sinks:
    """Set structlog up for this process; returns what changes its levels.

    ``terminal``: lines for a person, JSON otherwise. ``failure_words``: what exceptions say is
    written too. ``lasting``: loggers keep what they find now.
    """
    sinks = Sinks(level, stream)

    def presentable(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
        info = event.pop("exc_info", None)
        error = info if isinstance(info, BaseException) else sys.exc_info()[1] if info else None
        if error is not None:
            event["raised"] = failure_text(error, words=failure_words)
        if name := getattr(logger, "name", ""):
            event["logger"] = name
        return plain_facts(event)

    def one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {
            name: escaped(fact if isinstance(fact, str) else repr(fact))
            for name, fact in event.items()
        }

    ending: list[Processor] = [structlog.processors.JSONRenderer()]
    if terminal:
        ending = [one_line, structlog.dev.ConsoleRenderer()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            presentable,
            *ending,
        ],
        wrapper_class=Logger,
        logger_factory=sinks,
        cache_logger_on_first_use=lasting,
    )
    return sinks


def adopt_process() -> None:
    """What libraries say at a warning and above, and what nobody caught, becomes events too."""
    if not any(isinstance(handler, _Libraries) for handler in logging.root.handlers):
        logging.root.addHandler(_Libraries(logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _not_caught
    sys.unraisablehook = _not_raised


class _Libraries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger("libraries")
        log.log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info)


def _not_caught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger("process").critical("ended by a failure", exc_info=error)


def _not_raised(failure: sys.UnraisableHookArgs) -> None:
    structlog.get_logger("process").error("a failure was ignored", exc_info=failure.exc_value)
