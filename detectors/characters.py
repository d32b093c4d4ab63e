"""Letters by which a text's language can be told without reading the text: those of other scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from detectors.language_names import language_code
from detectors.language_profile import English, build_profile
from detectors.language_table import LANGUAGES
from detectors.options import Options
from detectors.scripts import script_class


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptCharacters:
    """Letters that a text in one language does and does not have, judged one by one.

    This is less than a detector knows: where English is neutral, all Latin letters may be English, and a language in
    Latin letters shares them with every other one. So these letters are never told apart here.
    """

    own: re.Pattern[str]
    """Matches one letter of the language's scripts."""
    foreign: re.Pattern[str]
    """Matches one letter that no text in the language has."""

    def foreign_but(self, script: str) -> re.Pattern[str]:
        """Return the pattern of foreign letters outside a script.

        Args:
            script: name of the script as `detectors.scripts.script_of` returns it; empty for none.
        """
        return re.compile(f"(?![{script_class(script)}]){self.foreign.pattern}") if script else self.foreign


@cache
def script_characters(language: str, english: English = "neutral") -> ScriptCharacters:
    """Return the letters of a language under an English setting.

    Args:
        language: any name of a language.
        english: "neutral" leaves all Latin letters alone; "confusion" makes them foreign to other scripts.

    Raises:
        UnknownLanguageError: the language has no detector.
    """
    code = language_code(language)
    row = LANGUAGES[code]
    own = "".join(script_class(script) for script in row.scripts)
    foreign = build_profile(code, english, Options()).foreign_letters.pattern
    if row.is_latin or english == "neutral":
        foreign = f"(?![{script_class('Latin')}]){foreign}"
    return ScriptCharacters(own=re.compile(f"[{own}]"), foreign=re.compile(foreign))
