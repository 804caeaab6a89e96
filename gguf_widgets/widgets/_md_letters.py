"""Letters of the fonts of mathematics, for browsers that know them as letters only.

Promises: `styled` gives the letters that Unicode has for a font (bold, script, double-struck ...),
and those it lacks as they are. Leaves to others: everything else of a formula (`_md_formula`).
"""

from __future__ import annotations

import functools
import re
import unicodedata

__all__ = ["styled"]

_NAME = re.compile(r"MATHEMATICAL (.+?) (?:CAPITAL|SMALL|DIGIT|NABLA|PARTIAL|FINAL) ?")
# The fonts as MathML names them -> as Unicode does.
_FONTS = {
    "bold": "BOLD",
    "italic": "ITALIC",
    "bold-italic": "BOLD ITALIC",
    "double-struck": "DOUBLE-STRUCK",
    "script": "SCRIPT",
    "bold-script": "BOLD SCRIPT",
    "fraktur": "FRAKTUR",
    "bold-fraktur": "BOLD FRAKTUR",
    "sans-serif": "SANS-SERIF",
    "bold-sans-serif": "SANS-SERIF BOLD",
    "sans-serif-italic": "SANS-SERIF ITALIC",
    "sans-serif-bold-italic": "SANS-SERIF BOLD ITALIC",
    "monospace": "MONOSPACE",
}
# Those that Unicode had before it had the fonts have names of their own.
_EARLIER = re.compile(r"(DOUBLE-STRUCK|SCRIPT|BLACK-LETTER) (?:CAPITAL|SMALL) [A-Z]")
_PLANCK = "\u210e"  # the italic h


def styled(text: str, font: str) -> str:
    """Return `text` in a font of mathematics, as far as there are letters for it.

    Parameters
    ----------
    text : str
    font : str
        As the attribute ``mathvariant`` of MathML names it; one that is not known changes nothing.
    """
    letters = _letters().get(_FONTS.get(font, ""), {})
    return "".join(letters.get(letter, letter) for letter in text)


@functools.lru_cache(maxsize=1)
def _letters() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for code in range(0x1D400, 0x1D800):
        name = _NAME.match(unicodedata.name(chr(code), ""))
        if name:
            plain = unicodedata.normalize("NFKC", chr(code))
            found.setdefault(name[1], {}).setdefault(plain, chr(code))
    for code in range(0x2100, 0x2150):
        name = _EARLIER.fullmatch(unicodedata.name(chr(code), ""))
        if name:
            font = name[1].replace("BLACK-LETTER", "FRAKTUR")
            found[font].setdefault(unicodedata.normalize("NFKC", chr(code)), chr(code))
    found["ITALIC"]["h"] = _PLANCK
    return found
