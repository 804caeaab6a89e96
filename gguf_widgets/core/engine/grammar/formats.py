r"""The formats that are kept to, as patterns.

Promises: a text that fits a pattern here is right by the format's own standard (RFC 3339 for times,
with days that exist; RFC 4122, 5322, 1123, 3986, ...). Some formats allow more than the pattern: an
e-mail address or an address on the web is written in its usual form only. A format without a
pattern is only a remark, as JSON Schema has it. Leaves to others: cutting them to a length.
"""

from __future__ import annotations

from functools import lru_cache

from gguf_widgets.core.engine.grammar import pattern, pattern_language
from gguf_widgets.core.engine.grammar.automaton import Automaton, build
from gguf_widgets.core.engine.grammar.expression import Expressions

__all__ = ["INTEGER_RANGES", "REFUSED", "automaton_of"]

INTEGER_RANGES = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
"""OpenAPI's formats of whole numbers."""

REFUSED = {"regex": "there is no way to write only texts that are regular expressions"}

_THIRTY_ONE = r"(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])"
_THIRTY = r"(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
_FEBRUARY = r"02-(?:0[1-9]|1\d|2[0-8])"
_FOURTH = r"(?:0[48]|[2468][048]|[13579][26])"
_DATE = (
    rf"(?:(?!0000)\d{{4}}-(?:{_THIRTY_ONE}|{_THIRTY}|{_FEBRUARY})"
    rf"|(?:\d\d{_FOURTH}|{_FOURTH}00)-02-29)"
)
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_TIME = rf"{_CLOCK}:[0-5]\d(?:\.\d{{1,6}})?(?:Z|[+-]{_CLOCK})"
_HEX = "[0-9A-Fa-f]"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
# Names of hosts have up to 4 labels of up to 29 characters; DNS would allow 253 in all, in labels
# of up to 63. With what follows they stay below any length that is asked for in practice.
_LABEL = r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,14}"
_LAST_LABEL = r"[A-Za-z](?:-?[A-Za-z0-9]){0,14}"
_HOST = rf"(?:{_LABEL}\.){{0,3}}{_LAST_LABEL}"
_IN_PATH = r"[A-Za-z0-9._~!$&'()*+,;=:@\/-]"
_IN_QUERY = r"[A-Za-z0-9._~!$&'()*+,;=:@\/?-]"
_URI = (
    rf"https?:\/\/{_HOST}(?::[1-9]\d{{0,3}})?(?:\/{_IN_PATH}{{0,120}})?"
    rf"(?:\?{_IN_QUERY}{{0,80}})?(?:#{_IN_QUERY}{{0,30}})?"
)
_LOCAL = r"[A-Za-z0-9](?:[._+-]?[A-Za-z0-9]){0,30}"
_EMAIL = rf"{_LOCAL}@(?:{_LABEL}\.){{1,3}}[A-Za-z]{{2,12}}"
_IN_POINTER = r"(?:\/(?:[^~\/]|~[01])*)*"
_COUNT = r"\d{1,4}"
_DURATION_DATE = rf"(?:{_COUNT}Y(?:{_COUNT}M(?:{_COUNT}D)?)?|{_COUNT}M(?:{_COUNT}D)?|{_COUNT}D)"
_DURATION_TIME = rf"T(?:{_COUNT}H(?:{_COUNT}M(?:{_COUNT}S)?)?|{_COUNT}M(?:{_COUNT}S)?|{_COUNT}S)"


def _ipv6() -> str:
    group = rf"{_HEX}{{1,4}}"
    ways = [rf"(?:{group}:){{7}}{group}"]
    for before in range(7):
        after = 6 - before
        left = rf"{group}(?::{group}){{{before - 1}}}" if before else ""
        right = rf"(?:{group}(?::{group}){{0,{after - 1}}})?" if after else ""
        ways.append(f"{left}::{right}")
    return "|".join(ways)


_PATTERNS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": rf"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|{_COUNT}W)",
    "uuid": rf"{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}",
    **{
        f"uuid{version}": rf"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}"
        rf"-[89ABab]{_HEX}{{3}}-{_HEX}{{12}}"
        for version in range(1, 9)
    },
    "ipv4": rf"(?:{_OCTET}\.){{3}}{_OCTET}",
    "ipv6": _ipv6(),
    "ipvanyaddress": rf"(?:{_OCTET}\.){{3}}{_OCTET}",
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "email": _EMAIL,
    "idn-email": _EMAIL,
    **dict.fromkeys(("uri", "uri-reference", "iri", "iri-reference", "uri-template"), _URI),
    "json-pointer": _IN_POINTER,
    "relative-json-pointer": rf"\d(?:#|{_IN_POINTER})",
    **dict.fromkeys(
        ("byte", "base64"),
        r"(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=)?",
    ),
}


# The same without counts, for a maximum of their own: counting a second time would multiply.
_UNCOUNTED = {"{0,14}": "*", "{0,30}": "*", "{0,80}": "*", "{0,120}": "*", "{0,3}": "*"}


@lru_cache(maxsize=32)
def automaton_of(name: str, *, counted: bool = True) -> Automaton | None:
    """Return the texts of a format, or None if it is only a remark.

    Parameters
    ----------
    name : str
    counted : bool
        Whether the parts of addresses on the web are counted, so that there is a longest one. A
        program that asks for a maximum below that has it counted as a whole instead.
    """
    found = _PATTERNS.get(name)
    if found is None:
        return None
    if not counted and found in (_HOST, _URI, _EMAIL):
        for count, loop in _UNCOUNTED.items():
            found = found.replace(count, loop)
    make = Expressions()
    return build(make, pattern_language.matching(make, pattern.parse(f"^(?:{found})$")))
