"""What is no confusion although its letters are foreign: code, mathematics, addresses, units (Appendix F)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from detectors.lexicon import ENGLISH_WITH_ACCENT, NAME_PARTICLES, foreign_words
from detectors.profile import Profile
from detectors.readings import PHONETIC, is_reading
from detectors.runs import Run
from detectors.scripts import as_class

# Scripts of signs and names: a word of these may be exempt.
WORD_SCRIPTS = ("Latin", "Greek")

_UNITS = (
    "kcal|cal|kJ|mAh|Ah|kWh|Wh|kW|MW|rpm|mph|kph|km|cm|mm|nm|μm|µm|um|dm|m|kg|mg|μg|µg|mcg|g|lbs|lb|oz|ml|mL|cl|dl|L|l|"
    "ms|ns|sec|s|min|mins|hrs|hr|h|in|ft|yd|mi|ha|a|px|pt|em|rem|dpi|fps|bps|kbps|hz|kb|mb|gb|tb|ppm|ppb|mol|mmol|"
    "dB|atm|bar|psi|eV|rad|am|pm|x|th|st|nd|rd|°C|°F"
)
_STOPS = r"\s<>\"'`、。，；！？：（）「」『』【】《》〈〉〔〕؟،؛"
_PATH = rf"(?:[/?#][^{_STOPS}]*)?"
_DOMAIN_ENDS = (
    "com|org|net|edu|gov|mil|int|info|io|ai|app|dev|co|biz|me|tv|kr|jp|cn|tw|hk|de|fr|uk|us|eu|ru|ae|sa|eg|"
    "py|js|ts|java|cpp|json|csv|tsv|txt|md|html|htm|css|xml|yaml|yml|toml|sql|sh|pdf|docx|xlsx|png|jpg|jpeg|gif|svg|mp3|"
    "mp4|zip|exe"
)
_ARGUMENT = r"(?:(?![A-Za-z]\ [A-Za-z])[\x20-\x27\x2a-\x7e]){0,60}"
_ARGUMENTS = rf"{_ARGUMENT}(?:\({_ARGUMENT}\){_ARGUMENT}){{0,2}}"
_NAME = r"(?<![A-Za-z0-9_.])[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,4}"
_FORMULA = 240
"""Longest formula between single dollar signs."""
_CALL = 400
"""Longest call with its arguments."""
_TOKEN = 1024
"""Longest address, number or word that may still be one."""

# A span ends only where the text says so: what follows a match never undoes it (`unsettled_from` names the rest).
_SPANS = {
    "url": rf"(?:https?|ftp)://(?:[!-.0-;=?-~]+|[^/{_STOPS}]+){_PATH}"
    rf"| (?<![A-Za-z0-9_.@-])(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}(?:{_DOMAIN_ENDS})(?![A-Za-z0-9_-]){_PATH}",
    "email": r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    "fence": r"```",
    "code": r"(?P<tick>`+)[^\n]*?(?:(?P=tick)|$)",
    "dollars": r"\$\$",
    "round": r"\\\(",
    "square": r"\\\[",
    "math": rf"\$(?=\S)(?:[^$\nFOREIGN]{{1,3}}|(?=[^$\n]*[\\^_=+*<>{{}}])[^$\nFOREIGN]{{1,{_FORMULA}}})(?<=\S)\$",
    "command": r"\\(?:begin|end)\{[a-z*]* | \\[A-Za-z]+",
    "tag": r"</?[A-Za-z][^<>\n]*",
    "call": rf"{_NAME}\((?:\s*"
    rf"| [A-Za-z](?:,\ ?[A-Za-z])*"
    rf"| (?=[^)\n]{{0,60}}[0-9_='\"\[\]{{}}*+<>%(]){_ARGUMENTS})\)",
    "unit": rf"[0-9]\s?(?:{_UNITS})(?:[/·](?:{_UNITS}))*(?![A-Za-z])",
    "shrug": r"¯\\{0,2}_\(ツ",
}
# These run over lines: the pattern above finds where they open, these where they close.
_CLOSERS = {
    "fence": re.compile("```"),
    "dollars": re.compile(r"\$\$|\n\n"),
    "round": re.compile(r"\\\)|\n\n"),
    "square": re.compile(r"\\\]|\n\n"),
}
_CLOSER_LENGTH = 3
_IN_ANY_SCRIPT = ("url", "shrug")
_OPEN_CALL = re.compile(rf"{_NAME}\({_ARGUMENTS}(?:\({_ARGUMENT})?\Z")
_UNFINISHED = re.compile(r"[A-Za-z0-9._%+@:/~#?&='’‐‑`$\\<{(¯-]")
_NUMBER_BEFORE = re.compile(r"[0-9]\s\Z")

_LIST_MARK = re.compile(r"(?:x{0,3}(?:ix|iv|v?i{1,3}|v)|x{1,3})(?=[).])")
_ARTICLE_BEFORE = re.compile(r"[A-Za-z]{2} ")
_ARTICLE_AFTER = re.compile(r" [A-Za-z]{2}")
_ARTICLE_LOOKAHEAD = 3
_NAME_BEFORE = re.compile(r"\b[A-Z][\w’'-]* \Z")
_NAME_AFTER = re.compile(r" (?:(?:la|le|las|los|den|der|des|dem) )?[A-Z]")
_NAME_LOOKAHEAD = 6
_LONGEST_NAME = 30


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place to go on from: nothing before `position` is looked at again."""

    position: int = 0
    inside: str | None = None
    """The kind of span over several lines that is open there."""

    def shifted(self, by: int) -> Cursor:
        """The same place after `-by` characters at the start of the text are gone."""
        return Cursor(max(self.position + by, 0), self.inside)


class ExemptSpans:
    """Exempt spans of one text, found as far as they are asked for; ask from left to right."""

    def __init__(self, text: str, profile: Profile, cursor: Cursor) -> None:
        self.text = text
        self.profile = profile
        self._pattern = _pattern(profile)
        self._start = self._opened = self._end = cursor.position
        self._kind = cursor.inside
        self._is_resumed = cursor.inside is not None
        if cursor.inside is not None:
            self._close(cursor.position)

    def cover(self, run: Run) -> bool:
        """Whether the run begins in an exempt span; letters of other scripts than Latin and Greek only in addresses."""
        # The end of a run may be asked about again, from within the span that is open there.
        start = max(run.start, self._start) if self._is_resumed and run.end > self._start else run.start
        return self._covers(start) and (run.script in WORD_SCRIPTS or self._kind in _IN_ANY_SCRIPT)

    def cursor_at(self, position: int) -> Cursor:
        """Where to go on later so as to find the same spans, also when the text has grown."""
        if not self._covers(position):
            return Cursor(position)
        if self._kind not in _CLOSERS:
            return Cursor(self._start)
        position = min(position, len(self.text) - _CLOSER_LENGTH + 1)  # a closing mark may be half there
        if position < self._opened:
            return Cursor(self._start, self._kind if self._is_resumed else None)
        return Cursor(position, self._kind)

    def _covers(self, position: int) -> bool:
        # A span that ends where the text ends may go on when that does.
        while self._end <= position and self._end < len(self.text):
            match = self._pattern.search(self.text, self._end)
            if match is None:
                self._start = self._end = len(self.text)
                self._is_resumed = False
                return False
            self._start, self._end, self._kind = match.start(), match.end(), match.lastgroup
            self._opened, self._is_resumed = match.end(), False
            if self._kind in _CLOSERS:
                self._close(self._end)
        return self._start <= position

    def _close(self, position: int) -> None:
        assert self._kind is not None
        closed = _CLOSERS[self._kind].search(self.text, position)
        self._end = len(self.text) + 1 if closed is None else closed.end()


@cache
def _pattern(profile: Profile) -> re.Pattern[str]:
    off = {"fence", "code"} if profile.options.code == "judge" else set()
    off |= {"tag"} if profile.options.markup == "judge" else set()
    kinds = "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _SPANS.items() if kind not in off)
    # A formula with a confusion in it is none: or the text before that would be judged otherwise than the whole.
    kinds = kinds.replace("FOREIGN", as_class(profile.foreign_to_formulas))
    # `lastgroup` is the kind: groups inside one are unnamed, but for the tick, which closes before its kind does.
    return re.compile(rf"(?=[A-Za-z0-9`$\\<_.%+¯-])(?:{kinds})", re.VERBOSE | re.DOTALL | re.MULTILINE)


def unsettled_from(text: str) -> int:
    """Where the part of `text` begins that more text may still make exempt: its last token, an open call or formula."""
    start = len(text)
    while start > max(len(text) - _TOKEN, 0) and _UNFINISHED.match(text[start - 1]):
        start -= 1
    if _NUMBER_BEFORE.search(text, max(start - 2, 0), start):
        start -= 2
    line = text.rfind("\n", max(len(text) - _CALL, 0)) + 1 or max(len(text) - _CALL, 0)
    if "(" in text[line:]:
        for call in _OPEN_CALL.finditer(text, line):
            start = min(start, call.start())
    dollar = text.rfind("$", max(line, len(text) - _FORMULA))
    return start if dollar < 0 else min(start, dollar)


def is_settled(run: Run, text: str, settled: int) -> bool:
    """Whether nothing after `text`, of which the first `settled` characters are settled, can decide about the run."""
    ahead = _ARTICLE_LOOKAHEAD if run.text == "a" else _NAME_LOOKAHEAD if run.text in NAME_PARTICLES else 0
    return run.end < settled and run.end + ahead <= len(text)


def is_exempt_word(run: Run, text: str, profile: Profile) -> bool:
    """Whether a finished Latin or Greek run is exempt by its letters and its nearest neighbours alone."""
    options = profile.options
    if run.text.lower() in options.allowed:
        return True
    if run.script == "Greek":
        return len(run.text) <= 2
    word = unicodedata.normalize("NFKC", run.text).replace("’", "'").replace("‑", "-").replace("‐", "-")
    if any(char.isupper() for char in word):
        if options.capitalised == "exempt":
            return True
        word = word.lower()
    if PHONETIC.search(run.text):
        return True
    if sum(char.isalpha() for char in word) == 1:
        return profile.english == "neutral" or not _is_article(run, text)
    if _LIST_MARK.match(text, run.start) and text[max(run.start - 1, 0)] in " \n\t(" + run.text[0]:
        return True
    # The end of a text may be the middle of a word: "und" of "under".
    if profile.english == "neutral" and (
        _is_english(word, run, text, profile) or (word.isascii() and run.end == len(text))
    ):
        return True
    return not word.isascii() and options.readings == "exempt" and is_reading(word, run, text, profile)


def is_exempt_hanja(run: Run, text: str, profile: Profile) -> bool:
    """Whether a run of Chinese characters stands in brackets after a Korean word: 대한민국(大韓民國)."""
    return (
        profile.options.hanja_in_brackets == "exempt"
        and run.script == "Han"
        and profile.code == "ko"
        and run.start >= 2
        and text[run.start - 1] in "(（[〔"
        and "가" <= text[run.start - 2] <= "힣"
    )


def _is_article(run: Run, text: str) -> bool:
    before = _ARTICLE_BEFORE.match(text, max(run.start - _ARTICLE_LOOKAHEAD, 0), run.start)
    return run.text == "a" and bool(before or _ARTICLE_AFTER.match(text, run.end))


def _is_english(word: str, run: Run, text: str, profile: Profile) -> bool:
    if not word.isascii():
        return word in ENGLISH_WITH_ACCENT
    return not profile.options.words or word not in foreign_words() or _is_in_name(word, run, text)


def _is_in_name(word: str, run: Run, text: str) -> bool:
    return (
        word in NAME_PARTICLES
        and _NAME_BEFORE.search(text, max(run.start - _LONGEST_NAME, 0), run.start) is not None
        and _NAME_AFTER.match(text, run.end) is not None
    )
