"""Words of a text and how many of them are confused: the counts behind RPR and WPR (equations 8 and 9)."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from detectors.errors import MissingExtraError
from detectors.finding import Finding
from detectors.language_profile import EXTRA, LanguageProfile
from detectors.language_table import Segmenter

# Segmenters are C code that stops or fails at these characters.
_UNREADABLE = re.compile("[\ud800-\udfff\0]")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The counts of one text. Where English is neutral, English words are not counted."""

    words: int
    """Words of the expected language, and confused ones."""
    confused_words: int
    lines: int
    """Lines with a letter or a digit."""
    confused_lines: int
    """Lines with a part of a confusion in them."""
    status: Literal["pass", "fail", "empty"]
    """"fail": at least one confusion; "empty": neither a word of the expected language nor a confusion."""


def count_words(text: str, findings: Sequence[Finding], profile: LanguageProfile) -> Counts:
    """Count the words of a text, the confused ones among them, and the lines; see `LanguageDetector.count`.

    Args:
        text: the text.
        findings: all its confusions, from left to right.
        profile: the language of the text.

    Raises:
        MissingExtraError: the library that finds words of this language is not installed.
    """
    if profile.language.segmenter == "spaces":
        words, confused = _count_pieces(text, findings, profile)
    else:
        confused = sum(len(text[span.start : span.end].split()) for span in findings)
        words = confused + _count_segmented(text, findings, profile)
    lines, confused_lines = _count_lines(text, findings)
    return Counts(
        words=words,
        confused_words=confused,
        lines=lines,
        confused_lines=confused_lines,
        status="fail" if findings else "pass" if words else "empty",
    )


def _count_pieces(text: str, findings: Sequence[Finding], profile: LanguageProfile) -> tuple[int, int]:
    """Return the numbers of words and of confused words among the pieces between white space."""
    words = confused = 0
    position = 0
    for span in findings:
        # Complete pieces: from the start of the first piece that the span touches to the end of the last one.
        if span.end <= position:
            continue
        start = max(_piece_start(text, span.start), position)
        end = _piece_end(text, span.end)
        words += _words_in(text[position:start], profile)
        touched = len(text[start:end].split())
        words += touched
        confused += touched
        position = end
    return words + _words_in(text[position:], profile), confused


def _words_in(text: str, profile: LanguageProfile) -> int:
    return len(text.split()) - len(profile.non_word.findall(text))


def _piece_start(text: str, index: int) -> int:
    while index > 0 and not text[index - 1].isspace():
        index -= 1
    return index


def _piece_end(text: str, index: int) -> int:
    space = _SPACE.search(text, index)
    return len(text) if space is None else space.start()


def _count_lines(text: str, findings: Sequence[Finding]) -> tuple[int, int]:
    """Return the numbers of lines with a letter or a digit, and of lines with a part of a confusion."""
    lines = sum(any(map(str.isalnum, line)) for line in text.split("\n"))
    confused = 0
    counted_to = 0
    for span in findings:
        start, end = max(span.start, counted_to), span.end
        if start >= end:
            continue
        confused += text.count("\n", start, end) + 1
        line_end = text.find("\n", end)
        counted_to = len(text) if line_end < 0 else line_end + 1
    # A confused line counts as a line even if no character of it counts as a letter or a digit.
    return max(lines, confused), confused


def _count_segmented(text: str, findings: Sequence[Finding], profile: LanguageProfile) -> int:
    """Return the number of words outside all confusions, as a segmenter finds them."""
    segment = _segmenter(profile.language.segmenter)
    if not findings:
        return _words_of(segment(text), profile)
    # A foreign word inside a text would mislead the segmenter, so each stretch between two confusions is split alone.
    starts = [0, *(span.end for span in findings)]
    ends = [*(span.start for span in findings), len(text)]
    return sum(_words_of(segment(text[start:end]), profile) for start, end in zip(starts, ends, strict=True))


def _words_of(segmented: str, profile: LanguageProfile) -> int:
    """Return the number of words of a text that has one space between any two pieces."""
    return segmented.count(" ") + bool(segmented) - len(profile.non_word.findall(segmented))


@cache
def _segmenter(name: Segmenter) -> Callable[[str], str]:
    """Return a function that puts one space between any two pieces of a text.

    The segmenter is loaded at its first use, since its dictionary takes a second and up to 250 MB.

    Raises:
        MissingExtraError: the library is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segment = {"jieba": _jieba, "mecab": _mecab, "newmm": _newmm}[name]()
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"words are counted with {error.name}, which is not installed: {EXTRA}") from error
    return lambda text: segment(text if _is_readable(text) else _UNREADABLE.sub(" ", text))


def _is_readable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _jieba() -> Callable[[str], str]:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    return lambda text: _joined(jieba.cut(text))


def _mecab() -> Callable[[str], str]:
    import fugashi

    tagger = fugashi.Tagger("-Owakati")
    # MeCab takes some of the characters that are white space in Python for words.
    return lambda text: str(tagger.parse(_single_spaced(text)))


def _newmm() -> Callable[[str], str]:
    from pythainlp.tokenize import word_tokenize

    return lambda text: _joined(word_tokenize(text, engine="newmm"))


def _joined(pieces: Iterable[str]) -> str:
    return _single_spaced(" ".join(pieces))


def _single_spaced(text: str) -> str:
    return " ".join(text.split())
