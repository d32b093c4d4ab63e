"""The first word of another language in a text, and all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detectors.exemptions import WORD_SCRIPTS, ExemptSpans, is_exempt_word, is_settled, unsettled_from
from detectors.lexicon import COMMON_ENGLISH, FOREIGN_WORDS, LEADING_WORDS
from detectors.profile import Profile
from detectors.runs import Run, run_at

_PLAIN_WORD = re.compile("[A-Za-z]+")
# A lower-case word and a space at the end of the searched part, not glued to signs of code or addresses.
_WORD_BEFORE = re.compile(r"(?<![0-9] )(?<![A-Za-z0-9_.@/\\$`<'’\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff-])([a-z]+) \Z")
_LONGEST_WORD = 30
_ENGLISH_ENDINGS = ("ing", "ness", "ly", "ed", "ful")


@dataclass(frozen=True, slots=True)
class Confusion:
    """A stretch of text in another language.

    Example: in "블랙홀의 중력은 настільки 강력하여" it is `Confusion(9, 18, "настільки", "Cyrillic")`.
    """

    index: int
    """First confused code point of the text as it was given."""
    end: int
    """One past its last code point."""
    text: str
    script: str


def find(text: str, profile: Profile, prefix: str = "", final: bool = True) -> Confusion | None:
    """The first confusion in `text`.

    Args:
        text: may hold lone surrogates (bytes of unfinished characters) and U+FFFD: no evidence either way.
        prefix: what stands to the left of `text`: judged as context, never itself a confusion. A word that begins in
            it and ends in `text` is confused from index 0 on.
        final: False if `text` may go on: then only a confusion that no continuation can move or remove.
    """
    return next(_confusions(text, profile, prefix, final), None)


def spans(text: str, profile: Profile) -> list[Confusion]:
    """All confusions of a text, from left to right, without overlaps."""
    return list(_confusions(text, profile, "", True))


def _confusions(text: str, profile: Profile, prefix: str, final: bool) -> Iterator[Confusion]:
    if _is_clean(text, profile, prefix):
        return
    floor = len(prefix)
    whole = prefix + (text if final else _without_unfinished(text))
    exempt = ExemptSpans(whole)
    settled = len(whole) if final else unsettled_from(whole)
    left = floor
    for run in _suspicious_runs(whole, floor, profile):
        if run.script in WORD_SCRIPTS:
            if not final and not is_settled(run, whole, settled):
                return
            if is_exempt_word(run, whole, profile):
                continue
        if exempt.cover(run):
            continue
        start = _reach_back(run, whole, left) if profile.english == "neutral" else max(run.start, left)
        yield Confusion(start - floor, run.end - floor, whole[start : run.end], run.script)
        left = run.end


def _is_clean(text: str, profile: Profile, prefix: str) -> bool:
    """Whether `text` is clean at first sight: nearly every text of a good model, at the speed of `re`."""
    if profile.suspects.search(text) is None:
        return True
    if profile.english != "neutral" or _PLAIN_WORD.match(prefix[-1:]) or profile.beyond_ascii.search(text):
        return False
    return FOREIGN_WORDS.isdisjoint(_PLAIN_WORD.findall(text))


def _suspicious_runs(text: str, start: int, profile: Profile) -> Iterator[Run]:
    """Runs of scripts or letters that are not the language's own and that end after `start`."""
    position = start
    while suspect := profile.suspects.search(text, position):
        if profile.english == "neutral" and suspect.start() > start:
            plain = _PLAIN_WORD.match(text, suspect.start())
            if plain is not None and plain.group() not in FOREIGN_WORDS:
                position = plain.end()
                continue
        run = run_at(text, suspect.start())
        position = suspect.end() if run is None else run.end
        if run is not None:
            yield run


def _without_unfinished(text: str) -> str:
    """`text` without the bytes of an unfinished character at its end."""
    end = len(text)
    while end > 0 and (text[end - 1] == "\ufffd" or "\ud800" <= text[end - 1] <= "\udfff"):
        end -= 1
    return text[:end]


def _reach_back(run: Run, text: str, left: int) -> int:
    """Start of a foreign Latin phrase: lower-case words before its first telling word belong to it, unless English."""
    start = max(run.start, left)
    while run.script == "Latin" and (before := _WORD_BEFORE.search(text, max(start - _LONGEST_WORD, left), start)):
        word = before.group(1)
        if word not in LEADING_WORDS and (word in COMMON_ENGLISH or word.endswith(_ENGLISH_ENDINGS)):
            break
        start = before.start(1)
    return start
