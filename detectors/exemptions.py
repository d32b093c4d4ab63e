"""What is not a confusion although its letters are foreign: code, mathematics, addresses, units (Appendix F).

Two kinds of exemption exist. Spans (`ExemptSpans`) are found by their delimiters, e.g. a URL or a formula, whatever
words they contain. Words (`is_exempt_word`) are exempt by their own letters and nearest neighbours, e.g. a capitalised
name.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from detectors.language_profile import LanguageProfile
from detectors.lexicon import ARTICLES, ENGLISH_WITH_ACCENT, NAME_PARTICLES, begins_english, english_words
from detectors.readings import PHONETIC_LETTER, is_reading
from detectors.runs import LATIN_JOINERS, Run
from detectors.scripts import as_class, basic_latin_class, mark_class, script_of

# Scripts that signs and names are written in everywhere: only their words may be exempt.
WORD_SCRIPTS = ("Latin", "Greek")

_UNITS = (
    "kcal|cal|kJ|mAh|Ah|kWh|Wh|kW|MW|rpm|mph|kph|km|cm|mm|nm|μm|µm|um|dm|m|kg|mg|μg|µg|mcg|g|lbs|lb|oz|ml|mL|cl|dl|L|l|"
    "ms|ns|sec|s|min|mins|hrs|hr|h|in|ft|yd|mi|ha|a|px|pt|em|rem|dpi|fps|bps|kbps|hz|kb|mb|gb|tb|ppm|ppb|mol|mmol|"
    "dB|atm|bar|psi|eV|rad|am|pm|x|th|st|nd|rd|bpm|tsp|tbsp|hPa|kPa|mA|mV|lm|°C|°F"
)
_STOPS = r"\s<>\"'`、。，；！？：（）「」『』【】《》〈〉〔〕؟،؛"
_PATH = rf"(?:[/?#][^{_STOPS}]*)?"
_DOMAIN_ENDS = (
    "com|org|net|edu|gov|mil|int|info|io|ai|app|dev|co|biz|me|tv|kr|jp|cn|tw|hk|de|fr|uk|us|eu|ru|ae|sa|eg|be|nl|ch|br|"
    "py|js|ts|java|cpp|json|csv|tsv|txt|md|html|htm|css|xml|yaml|yml|toml|sql|sh|pdf|docx|xlsx|png|jpg|jpeg|gif|svg|mp3|"
    "mp4|zip|exe"
)
_ARGUMENT = r"(?:(?![A-Za-z]\ [A-Za-z])[\x20-\x27\x2a-\x7e]){0,60}"
_ARGUMENTS = rf"{_ARGUMENT}(?:\({_ARGUMENT}\){_ARGUMENT}){{0,2}}"
_NAME = r"(?<![A-Za-z0-9_.])[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,4}"
_TAGS = (
    "abbr|article|audio|blockquote|body|br|button|caption|code|dd|del|details|div|dl|dt|em|fig|figure|font|footer|form|"
    "h[1-6]|head|header|hr|html|iframe|img|input|label|li|link|main|meta|nav|ol|option|pre|script|section|select|"
    "small|span|strong|style|sub|summary|sup|svg|table|tbody|td|textarea|th|thead|title|tr|ul|video|[abipqsu]"
)
_FORMULA = 240
"""Maximum length of a formula between single dollar signs, in characters."""
_CALL = 400
"""Maximum length of a function call with its arguments, in characters."""
_TOKEN = 1024
"""Maximum length of an unfinished address, number or word, in characters; one that is longer is judged as it is."""

# A span ends only at something in the text, so that more text never undoes a match; the places where more text may
# still begin or extend a span are left out by `unsettled_from`. Repetitions at the beginning of a pattern are bounded,
# since a match that fails is tried again from every character.
_SPANS = {
    "url": rf"(?:https?|ftp)://(?:[!-.0-;=?-~]+|[^/{_STOPS}]+){_PATH}"
    rf"| (?<![A-Za-z0-9_.@-])(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}(?:{_DOMAIN_ENDS})(?![A-Za-z0-9_-]){_PATH}",
    "email": r"(?<![A-Za-z0-9._%+-])(?:mailto:)?[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    "fence": r"```",
    "code": r"(?P<tick>`+)[^\n]*?(?:(?P=tick)|$)",
    "dollars": r"\$\$",
    "round": r"\\\(",
    "square": r"\\\[",
    "math": rf"\$(?=\S)(?:[^$\nFOREIGN]{{1,3}}|(?=[^$\n]*[\\^_=+*<>{{}}])[^$\nFOREIGN]{{1,{_FORMULA}}})(?<=\S)\$",
    "command": r"\\(?:begin|end)\{[a-z*]* | \\[A-Za-z]+",
    "tag": rf"</?(?:(?:{_TAGS})(?![A-Za-z0-9-])|[A-Za-z][A-Za-z0-9-]*(?=[\t\ ]*/?>|[\t\ ]+[A-Za-z:-]+=))[^<>\n]*",
    "call": rf"{_NAME}\((?:[\t\ ]*"
    rf"| [A-Za-z](?:,\ ?[A-Za-z])*"
    rf"| (?=[^)\n]{{0,60}}[0-9_='\"\[\]{{}}*+<>%(]){_ARGUMENTS})\)",
    "unit": rf"[0-9]\s?(?:{_UNITS})(?:[/·](?:{_UNITS}|day|week|month|year))*(?![A-Za-z])",
    "entity": r"&[A-Za-z]{2,8};",
    "shrug": r"¯\\{0,2}_\(ツ",
}
# Spans over several lines: the patterns above find where they open, these where they close.
_CLOSERS = {
    "fence": re.compile("```"),
    "dollars": re.compile(r"\$\$|\n\n"),
    "round": re.compile(r"\\\)|\n\n"),
    "square": re.compile(r"\\\]|\n\n"),
}
_CLOSER_LENGTH = 3
_IN_ANY_SCRIPT = ("url", "shrug")
_OPEN_CALL = re.compile(rf"{_NAME}\({_ARGUMENTS}(?:\({_ARGUMENT})?\Z")
_IN_WORD = re.compile(rf"[{basic_latin_class()}{mark_class('Latin')}{LATIN_JOINERS}]")
_UNFINISHED = re.compile(rf"[{basic_latin_class()}{mark_class('Latin')}0-9._%+@:/~#?&='’‐‑`$\\<{{(¯-]")
_OPEN_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*[\t ]*(?:/|[A-Za-z:-]*)\Z")
_NUMBER_BEFORE = re.compile(r"[0-9]\s\Z")

_LIST_MARK = re.compile(r"(?:x{0,3}(?:ix|iv|v?i{1,3}|v)|x{1,3})(?=[).])")
_ARTICLE_BEFORE = re.compile(r"[A-Za-z'’][A-Za-z],? \Z")
_ARTICLE_AFTER = re.compile(r" [A-Za-z]{2}")
_LONGEST_BEFORE_ARTICLE = 4
_ARTICLE_LOOKAHEAD = 3
_ARTICLE_WORD_BEFORE = re.compile(r"(?<![A-Za-z0-9'’_-])([a-z]+) \Z")
_LONGEST_ARTICLE = 8
_LEAST_AFTER_ARTICLE = 3
_MAYBE_UNFINISHED = 4
"""Letters up to which a word at the end of a text may be the beginning of any other word."""
_NAME_BEFORE = re.compile(r"\b[A-Z][\w’'-]* \Z")
_NAME_AFTER = re.compile(r" (?:(?:la|le|las|los|den|der|des|dem) )?[A-Z]")
_NAME_LOOKAHEAD = 6
_LONGEST_NAME = 30


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place to continue from: nothing before `position` is examined again."""

    position: int = 0
    inside: str | None = None
    """Kind of the multi-line span that is open at `position`, if any."""

    def shifted(self, by: int) -> Cursor:
        """Return the same place after `-by` characters at the start of the text have been dropped."""
        return Cursor(max(self.position + by, 0), self.inside)


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    """Beyond the end of the text if the span is not closed."""
    kind: str | None = None
    opened: int = 0
    """Where the inside of a multi-line span begins; unused for others."""
    closing: int = 0
    """Where the closing mark of a multi-line span begins; unused for others."""


class ExemptSpans:
    """Exempt spans of one text, found lazily; queries further left than the last one are slower.

    Args:
        text: the text.
        profile: the language of the text.
        cursor: where the search for spans begins.
    """

    def __init__(self, text: str, profile: LanguageProfile, cursor: Cursor) -> None:
        self.text = text
        self.profile = profile
        self._pattern = _pattern(profile)
        self._from = cursor
        begin = cursor.position
        # The first span is empty, or the one that was open where the cursor was taken.
        self._spans = [_Span(begin, begin) if cursor.inside is None else self._multi_line(begin, begin, cursor.inside)]

    def cover(self, run: Run) -> bool:
        """Return whether the run begins in an exempt span.

        Only addresses exempt the letters of scripts other than Latin and Greek.
        """
        start = run.start
        if self._from.inside is not None and start < self._from.position < run.end:
            start = self._from.position  # the word around the cursor belongs to the open span too
        span = self._span_at(start)
        return span.start <= start < span.end and (run.script in WORD_SCRIPTS or span.kind in _IN_ANY_SCRIPT)

    def cursor_at(self, position: int) -> Cursor:
        """Return where to continue later so that the same spans are found, even if the text has grown by then.

        Inside a span the scan has to begin again at the start of the span, and in a word at the start of the word.
        Fences and formulas over several lines may be long, so there the cursor remembers what it is inside of.
        """
        self._span_at(position)
        for span in reversed(self._spans):
            position = self._word_start(position)
            if position <= self._from.position:
                return self._from
            # A span that ends where the text ends may grow when the text does.
            if not span.start < position < span.end + (span.end == len(self.text)):
                continue
            if span.kind in _CLOSERS:
                # The closing mark has to stay ahead of the cursor, even one of which only a part has been written.
                inside = min(position, span.closing, len(self.text) - _CLOSER_LENGTH + 1)
                if inside >= span.opened:
                    return Cursor(inside, span.kind)
            position = span.start
        return Cursor(position) if position > self._from.position else self._from

    def _span_at(self, position: int) -> _Span:
        """Return the span at `position`, or the next one, or an empty one at the end of the text."""
        while self._spans[-1].end <= position:
            match = self._pattern.search(self.text, self._spans[-1].end)
            if match is None:
                self._spans.append(_Span(len(self.text), len(self.text) + 1))
            elif match.lastgroup in _CLOSERS:
                self._spans.append(self._multi_line(match.start(), match.end(), match.lastgroup))
            else:
                self._spans.append(_Span(match.start(), match.end(), match.lastgroup))
        index = len(self._spans) - 1
        while index > 0 and self._spans[index - 1].end > position:  # a place further left than the last query
            index -= 1
        return self._spans[index]

    def _multi_line(self, start: int, opened: int, kind: str) -> _Span:
        """Return the multi-line span that begins at `start`; its inside begins at `opened`."""
        closed = _CLOSERS[kind].search(self.text, opened)
        closing, end = closed.span() if closed else (len(self.text), len(self.text) + 1)
        return _Span(start, end, kind, opened, closing)

    def _word_start(self, position: int) -> int:
        """Return the start of the Latin word around `position`, or `position` itself."""
        if position < len(self.text) and not _IN_WORD.match(self.text, position):
            return position
        while position > self._from.position and _IN_WORD.match(self.text, position - 1):
            position -= 1
        return position


@cache
def _pattern(profile: LanguageProfile) -> re.Pattern[str]:
    """Return the pattern of all kinds of exempt spans that the options leave exempt."""
    off = {"fence", "code"} if profile.options.code == "judge" else set()
    off |= {"tag"} if profile.options.markup == "judge" else set()
    kinds = "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _SPANS.items() if kind not in off)
    # A formula with a confusion in it is not a formula: otherwise the text up to the confusion would be judged
    # differently from the complete text.
    kinds = kinds.replace("FOREIGN", as_class(profile.foreign_to_formulas))
    # `lastgroup` is the kind: groups inside one are unnamed, but for the tick, which closes before its kind does.
    return re.compile(rf"(?=[A-Za-z0-9`$\\<_.%+¯&-])(?:{kinds})", re.VERBOSE | re.DOTALL | re.MULTILINE)


def unsettled_from(text: str) -> int:
    """Return where the part of `text` begins that more text may still make exempt.

    That is the last token, e.g. the beginning of an address, or an open call, tag or formula.
    """
    start = len(text)
    while start > max(len(text) - _TOKEN, 0) and _UNFINISHED.match(text[start - 1]):
        start -= 1
    if _NUMBER_BEFORE.search(text, max(start - 2, 0), start):
        start -= 2
    line = text.rfind("\n", max(len(text) - _CALL, 0)) + 1 or max(len(text) - _CALL, 0)
    if "(" in text[line:]:
        for call in _OPEN_CALL.finditer(text, line):
            start = min(start, call.start())
    tag = text.rfind("<", line)
    if tag >= 0 and _OPEN_TAG.match(text, tag):
        start = min(start, tag)
    dollar = text.rfind("$", max(line, len(text) - _FORMULA))
    return start if dollar < 0 else min(start, dollar)


def is_settled(run: Run, text: str, settled: int) -> bool:
    """Return whether no text after `text` can change the verdict on the run.

    Args:
        run: a Latin or Greek word.
        text: the text so far.
        settled: number of characters at its beginning that are settled, see `unsettled_from`.
    """
    ahead = _ARTICLE_LOOKAHEAD if run.text == "a" else _NAME_LOOKAHEAD if run.text in NAME_PARTICLES else 0
    return run.end < settled and run.end + ahead <= len(text)


def is_exempt_word(run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a finished Latin or Greek run is exempt by its own letters and its nearest neighbours."""
    options = profile.options
    if run.text.lower() in options.allowed:
        return True
    if run.script == "Greek":
        return len(run.text) <= 2  # a variable
    word = unicodedata.normalize("NFKC", run.text).replace("’", "'").replace("‑", "-").replace("‐", "-")
    if any(char.isupper() for char in word):
        if options.capitalised == "exempt":
            return True
        word = word.lower()
    if PHONETIC_LETTER.search(run.text):
        return True
    if not word.isascii() and _is_glued(run, text, both=True):
        return False
    if sum(char.isalpha() for char in word) == 1:
        return profile.english == "neutral" or not _is_article(run, text)
    if _LIST_MARK.match(text, run.start) and text[max(run.start - 1, 0)] in " \n\t(" + run.text[0]:
        return True
    if profile.english == "neutral" and _is_english(word, run, text, profile):
        return True
    return options.readings == "exempt" and is_reading(word, run, text, profile)


def is_exempt_hanja(run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether Chinese characters in brackets after a Korean word are exempt here: 대한민국(大韓民國)."""
    return (
        profile.options.hanja_in_brackets == "exempt"
        and run.script == "Han"
        and profile.code == "ko"
        and run.start >= 2
        and text[run.start - 1] in "(（[〔"
        and "가" <= text[run.start - 2] <= "힣"
    )


def _is_article(run: Run, text: str) -> bool:
    """Return whether a single letter is the English article, not a variable or a list mark."""
    before = _ARTICLE_BEFORE.search(text, max(run.start - _LONGEST_BEFORE_ARTICLE, 0), run.start)
    return run.text == "a" and bool(before or _ARTICLE_AFTER.match(text, run.end))


def _is_glued(run: Run, text: str, both: bool) -> bool:
    """Return whether a letter of another script is directly before the run and, if `both`, also directly after it."""
    before = run.start > 0 and script_of(text[run.start - 1]) not in ("Common", "Latin")
    return before and (not both or (run.end < len(text) and script_of(text[run.end]) not in ("Common", "Latin")))


def _is_english(word: str, run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a lower-case word counts as English: every plain word does that is not known to be foreign."""
    if not word.isascii():
        return word in ENGLISH_WITH_ACCENT
    if not is_foreign_word(word, run.start, text, profile) or _is_in_name(word, run, text):
        return True
    # A fragment inside a word of another script is not a word.
    if _is_glued(run, text, both=run.end < len(text)):
        return True
    # The end of a text may be the middle of a word: "und" of "under".
    return run.end == len(text) and (len(word) <= _MAYBE_UNFINISHED or begins_english(word))


def is_foreign_word(word: str, start: int, text: str, profile: LanguageProfile) -> bool:
    """Return whether a plain word is foreign: known to be, or not known to be English and after a foreign article."""
    if word in profile.foreign_words:
        return True
    if not profile.foreign_words or not word.islower() or len(word) < _LEAST_AFTER_ARTICLE or word in english_words():
        return False
    article = _ARTICLE_WORD_BEFORE.search(text, max(start - _LONGEST_ARTICLE, 0), start)
    return article is not None and article[1] in ARTICLES


def _is_in_name(word: str, run: Run, text: str) -> bool:
    """Return whether a word is the particle of a name: Piero *della* Francesca."""
    return (
        word in NAME_PARTICLES
        and _NAME_BEFORE.search(text, max(run.start - _LONGEST_NAME, 0), run.start) is not None
        and _NAME_AFTER.match(text, run.end) is not None
    )
