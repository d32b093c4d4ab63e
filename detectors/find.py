"""The first word of another language in a text, and all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from detectors.exemptions import ExemptSpans, is_exempt_word, needs_more_text, unsettled_from
from detectors.foreign_words import LEADING_WORDS
from detectors.profile import Profile
from detectors.runs import Run, run_at

_UNDECIDED_SCRIPTS = ("Latin", "Greek")


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
    if profile.suspects.search(text) is None:
        return
    floor = len(prefix)
    whole = prefix + (text if final else _without_unfinished(text))
    exempt = ExemptSpans(whole)
    settled = len(whole) if final else unsettled_from(whole)
    position = floor
    while suspect := profile.suspects.search(whole, position):
        run = run_at(whole, suspect.start())
        position = suspect.end() if run is None else run.end
        if run is None:
            continue
        undecided = run.script in _UNDECIDED_SCRIPTS
        if undecided and not final and needs_more_text(run, whole):
            return
        if undecided and is_exempt_word(run, whole, profile):
            continue
        if undecided and run.start >= settled:
            return
        if exempt.cover(run):
            continue
        start = max(_reach_back(run, whole), floor)
        yield Confusion(start - floor, run.end - floor, whole[start : run.end], run.script)


def _without_unfinished(text: str) -> str:
    """`text` without the bytes of an unfinished character at its end."""
    end = len(text)
    while end > 0 and (text[end - 1] == "\ufffd" or "\ud800" <= text[end - 1] <= "\udfff"):
        end -= 1
    return text[:end]


def _reach_back(run: Run, text: str) -> int:
    """Start of a foreign Latin phrase: articles and the like directly before its first telling word belong to it."""
    start = run.start
    while run.script == "Latin" and start > 1 and text[start - 1] == " ":
        before = run_at(text, start - 2)
        if before is None or before.text not in LEADING_WORDS:
            break
        start = before.start
    return start
