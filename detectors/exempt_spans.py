"""Stretches of a text that are exempt whatever words they contain: code, mathematics, addresses, units (Appendix F)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from detectors import fences
from detectors.addresses import DOMAIN_ENDS, address_end
from detectors.language_profile import LanguageProfile
from detectors.runs import LATIN_JOINERS, Run
from detectors.scripts import as_class, basic_latin_class, mark_class
from detectors.units import NUMBER_BEFORE, NUMBER_WITH_UNIT

WORD_SCRIPTS = ("Latin", "Greek")
"""Scripts that signs and names are written in everywhere: only their words may be exempt."""

_ARGUMENT = r"(?:(?![A-Za-z]\ [A-Za-z])[\x20-\x27\x2a-\x7e]){0,60}"
_ARGUMENTS = rf"{_ARGUMENT}(?:\({_ARGUMENT}\){_ARGUMENT}){{0,2}}"
_NAME = r"(?<![A-Za-z0-9_.])[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,4}"
_TAGS = (
    "abbr|article|audio|blockquote|body|br|button|caption|code|dd|del|details|div|dl|dt|em|fig|figure|font|footer|form|"
    "h[1-6]|head|header|hr|html|iframe|img|input|label|li|link|main|meta|nav|ol|option|pre|script|section|select|"
    "small|span|strong|style|sub|summary|sup|svg|table|tbody|td|textarea|th|thead|title|tr|ul|video|[abipqsu]"
)
_ENVIRONMENTS = (
    "align|aligned|alignat|alignedat|xalignat|IEEEeqnarray|empheq|numcases|dmath|dgroup|darray|CD|"
    "array|cases|dcases|drcases|rcases|displaymath|eqnarray|equation|flalign|gather|gathered|"
    "math|[bBpvV]?matrix|smallmatrix|multline|split|subequations"
)
_TEXT_COMMANDS = (
    "author|caption|emph|footnote|[hm]box|href|item|paragraph|(?:sub)*section|text(?:bf|it|md|normal|rm|sc|sf|up)?|"
    "title"
)
"""Commands of LaTeX whose arguments are text."""
_GROUP = r"\{(?:[^{}\s]|\{[^{}\s]{0,24}(?:\}|\Z)){0,48}(?:\}|\Z)"
"""An argument of another command. One that is not closed yet counts: what follows may close it."""
_ADDRESSES = ("address", "domain")
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
    "address": r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,12}:// | (?<![A-Za-z0-9+.@/-])www\.",
    "domain": rf"(?<![A-Za-z0-9_.@-])(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}(?:{DOMAIN_ENDS})(?![A-Za-z0-9_-])",
    "email": r"(?<![A-Za-z0-9._%+-])(?:mailto:)?[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    "fence": fences.BARS,
    "code": r"`{1,20}",
    "dollars": r"\$\$",
    "round": r"\\\(",
    "square": r"\\\[",
    "math": rf"\$(?=\S)(?:[^$\nFOREIGN]{{1,3}}|(?=[^$\n]*[\\^_=+*<>{{}}])[^$\nFOREIGN]{{1,{_FORMULA}}})(?<=\S)\$",
    "environment": rf"\\begin\{{(?:{_ENVIRONMENTS})\*?\}}",
    "command": rf"\\(?:begin|end)\{{[A-Za-z*]* | \\(?:{_TEXT_COMMANDS})(?![A-Za-z]) | \\[A-Za-z]+(?:{_GROUP})*",
    "tag": rf"</?(?:(?:{_TAGS})(?![A-Za-z0-9-])|[A-Za-z][A-Za-z0-9-]*(?=[\t\ ]*/?>|[\t\ ]+[A-Za-z:-]+=))[^<>\n]*",
    "call": rf"{_NAME}\((?:[\t\ ]*"
    rf"| [A-Za-z](?:,\ ?[A-Za-z])*"
    rf"| (?=[^)\n]{{0,60}}[0-9_='\"\[\]{{}}*+<>%(]){_ARGUMENTS})\)",
    "unit": NUMBER_WITH_UNIT,
    "entity": r"&[A-Za-z]{2,8};",
}
# Spans that may be long: the patterns above find where they open, these where they close.
_CLOSERS = {
    "dollars": re.compile(r"\$\$|\n\n"),
    "round": re.compile(r"\\\)|\n\n"),
    "square": re.compile(r"\\\]|\n\n"),
}
_LONGEST_CLOSER = 24
_OPEN_CALL = re.compile(rf"{_NAME}\({_ARGUMENTS}(?:\({_ARGUMENT})?\Z")
_IN_WORD = re.compile(rf"[{basic_latin_class()}{mark_class('Latin')}{LATIN_JOINERS}]")
UNFINISHED = re.compile(
    rf"[{basic_latin_class()}{mark_class('Latin')}\dμµ½¼¾⅓⅔⅛⁰¹²³⁴-⁹._%+@:/／·~#?&='’‐‑`$\\<{{(*−-]*"
)
"""Matches what may be a part of one address, number, word or opening sign."""
_OPEN_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*[\t ]*(?:/|[A-Za-z:-]*)\Z")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place to continue from: nothing before `position` is examined again."""

    position: int = 0
    inside: re.Pattern[str] | None = None
    """What closes the long span that is open at `position`, if any."""

    def shifted(self, by: int) -> Cursor:
        """Return the same place after `-by` characters at the start of the text have been dropped."""
        return Cursor(max(self.position + by, 0), self.inside)


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    """Beyond the end of the text if the span is not closed."""
    kind: str | None = None
    closer: re.Pattern[str] | None = None
    """What closes a long span; None for others."""
    opened: int = 0
    """Where the inside of a long span begins; unused for others."""
    closing: int = 0
    """Where the closing mark of a long span begins; unused for others."""


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
        self._spans = [_Span(begin, begin) if cursor.inside is None else self._long_span(begin, begin, cursor.inside)]

    def cover(self, run: Run) -> bool:
        """Return whether the run begins in an exempt span.

        Only addresses exempt the letters of scripts other than Latin and Greek.
        """
        start = run.start
        if self._from.inside is not None and start < self._from.position < run.end:
            start = self._from.position  # the word around the cursor belongs to the open span too
        span = self._span_at(start)
        return span.start <= start < span.end and (run.script in WORD_SCRIPTS or span.kind in _ADDRESSES)

    def cursor_at(self, position: int) -> Cursor:
        """Return where to continue later so that the same spans are found, even if the text has grown by then.

        Inside a span the scan has to begin again at the start of the span, and in a word at the start of the word.
        Code and formulas may be long, so there the cursor remembers what it is inside of.
        """
        self._span_at(position)
        for span in reversed(self._spans):
            position = self._word_start(position)
            if position <= self._from.position:
                return self._from
            # A span that ends where the text ends may grow when the text does.
            if not span.start < position < span.end + (span.end == len(self.text)):
                continue
            if span.closer is not None:
                # The closing mark has to stay ahead of the cursor, even one of which only a part has been written.
                inside = min(position, span.closing, self._last_line(), len(self.text) - _LONGEST_CLOSER)
                if inside >= span.opened:
                    return Cursor(inside, span.closer)
            position = span.start
        return Cursor(position) if position > self._from.position else self._from

    def _span_at(self, position: int) -> _Span:
        """Return the span at `position`, or the next one, or an empty one at the end of the text."""
        while self._spans[-1].end <= position:
            match = self._pattern.search(self.text, self._spans[-1].end)
            self._spans.append(_Span(len(self.text), len(self.text) + 1) if match is None else self._span_of(match))
        index = len(self._spans) - 1
        while index > 0 and self._spans[index - 1].end > position:  # a place further left than the last query
            index -= 1
        return self._spans[index]

    def _span_of(self, match: re.Match[str]) -> _Span:
        """Return the span that a match of the pattern opens."""
        kind, start, end = match.lastgroup, match.start(), match.end()
        if kind in _ADDRESSES:
            return _Span(start, address_end(self.text, end, is_host=kind == "address"), kind)
        if kind in _CLOSERS:
            return self._long_span(start, end, _CLOSERS[kind])
        if kind == "environment":
            return self._long_span(start, end, _end_of_environment(match.group().removeprefix("\\begin")))
        if kind == "code":  # as many backticks again, or the end of the line
            return self._long_span(start, end, _end_of_code(match.group()))
        if kind == "fence":
            return self._fence(start, match.group())
        return _Span(start, end, kind)

    def _fence(self, start: int, bars: str) -> _Span:
        """Return the code block that a fence opens.

        A fence of backticks behind text on its line is none by the letter, but models write it; the next one closes it.
        """
        line = self.text.rfind("\n", 0, start) + 1
        begins_line = fences.BEFORE.fullmatch(self.text, line, start) is not None
        if bars[0] == "~" and not begins_line:
            return _Span(start, start + len(bars))
        opened = self.text.find("\n", start) + 1 or len(self.text) + 1
        closer = fences.closing(bars) if begins_line else re.compile(fences.at_least(bars))
        return self._long_span(start, opened, closer)

    def _long_span(self, start: int, opened: int, closer: re.Pattern[str]) -> _Span:
        """Return the long span that begins at `start`; its inside begins at `opened`."""
        closed = closer.search(self.text, opened)
        closing, end = closed.span() if closed else (len(self.text), len(self.text) + 1)
        return _Span(start, end, None, closer, opened, closing)

    def _last_line(self) -> int:
        """Return where the last line begins if it may become a closing fence, or else the end of the text."""
        line = self.text.rfind("\n") + 1
        return line if fences.MAYBE_CLOSING.fullmatch(self.text, line) else len(self.text)

    def _word_start(self, position: int) -> int:
        """Return the start of the Latin word around `position`, or `position` itself."""
        if position < len(self.text) and not _IN_WORD.match(self.text, position):
            return position
        while position > self._from.position and _IN_WORD.match(self.text, position - 1):
            position -= 1
        return position


@cache
def _end_of_code(ticks: str) -> re.Pattern[str]:
    return re.compile(rf"{ticks}|(?=\n)")


@cache
def _end_of_environment(name: str) -> re.Pattern[str]:
    return re.compile(rf"\\end{re.escape(name)}|\n\n")


@cache
def _pattern(profile: LanguageProfile) -> re.Pattern[str]:
    """Return the pattern of all kinds of exempt spans that the options leave exempt."""
    off = {"fence", "code"} if profile.options.code == "judge" else set()
    off |= {"tag"} if profile.options.markup == "judge" else set()
    kinds = "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _SPANS.items() if kind not in off)
    # A formula with a confusion in it is not a formula: otherwise the text up to the confusion would be judged
    # differently from the complete text.
    kinds = kinds.replace("FOREIGN", as_class(profile.foreign_to_formulas))
    # `lastgroup` is the kind: groups inside one are unnamed.
    return re.compile(rf"(?=[A-Za-z\d½¼¾⅓⅔⅛⁰¹²³⁴-⁹`~$\\<_.%+&-])(?:{kinds})", re.VERBOSE | re.DOTALL | re.MULTILINE)


def unsettled_from(text: str) -> int:
    """Return where the part of `text` begins that more text may still make exempt.

    That is the last token, e.g. the beginning of an address, or an open call, tag or formula.
    """
    last = UNFINISHED.match(text[: -_TOKEN - 1 : -1])
    assert last is not None, "it matches the empty text"
    start = len(text) - last.end()
    if number := NUMBER_BEFORE.search(text, max(start - 3, 0), start):
        start = number.start()
    line = text.rfind("\n", max(len(text) - _CALL, 0)) + 1 or max(len(text) - _CALL, 0)
    if "(" in text[line:]:
        for call in _OPEN_CALL.finditer(text, line):
            start = min(start, call.start())
    tag = text.rfind("<", line)
    if tag >= 0 and _OPEN_TAG.match(text, tag):
        start = min(start, tag)
    dollar = text.rfind("$", max(line, len(text) - _FORMULA))
    return start if dollar < 0 else min(start, dollar)
