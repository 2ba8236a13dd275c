"""How numbers, moments and names are written on pages."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup, escape

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NONE = Markup("–")


def count(value: float | None) -> str:
    """``1234567`` as ``1,234,567``."""
    return _NONE if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """``1234567`` as ``1.23 M``."""
    if value is None:
        return _NONE
    for size, letter in _SCALES:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def percent(ppm: float | None) -> str:
    """Parts per million as per cent."""
    return _NONE if ppm is None else f"{ppm / 10_000:.3g} %"


def size(value: float) -> str:
    """Bytes, in powers of 1024."""
    number = 0
    while value >= 1024 and number + 1 < len(_SIZES):
        value, number = value / 1024, number + 1
    return f"{value:.0f} {_SIZES[number]}" if number == 0 else f"{value:.1f} {_SIZES[number]}"


def lasting(seconds: float | None) -> str:
    """``3700`` as ``1 h 2 min``."""
    if seconds is None:
        return _NONE
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), round(seconds / 86_400)
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{days} days"


def when(at: float | None) -> Markup:
    """A moment, in UTC; the browser may show it in the reader's own time."""
    if at is None:
        return _NONE
    moment = datetime.fromtimestamp(at, UTC)
    machine, person = moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{} UTC</time>').format(machine, person)


def digest(value: str | bytes | None) -> Markup:
    """A long hexadecimal text: its beginning, the whole of it to be copied."""
    if value is None:
        return _NONE
    text = value.hex() if isinstance(value, bytes) else value
    if len(text) <= 16:
        return Markup("<code>{}</code>").format(text)
    return Markup('<code class="digest" title="{}">{}…</code>').format(text, text[:12])


def state(value: str | None) -> Markup:
    """A state or verdict, with its colour."""
    if not value:
        return _NONE
    return Markup('<span class="state state-{0}">{1}</span>').format(
        escape(value).lower().replace(" ", "-"), value.replace("_", " ")
    )


FILTERS = {
    "count": count,
    "short": short,
    "percent": percent,
    "size": size,
    "lasting": lasting,
    "when": when,
    "digest": digest,
    "state": state,
}
