"""Latin words in their places: at the head of a sentence, inside a quotation, behind a capitalised word."""

from __future__ import annotations

import re

from detectors.lexicon import TITLE_WORDS
from detectors.scripts import basic_latin_class, mark_class

_LATIN = basic_latin_class()
_LETTERS = f"[{_LATIN}][{_LATIN}{mark_class('Latin')}]*"
_JOINERS = "'’-"
WORD = re.compile(f"{_LETTERS}(?:[{_JOINERS}]{_LETTERS})*")
"""Matches one word."""
MARKS = frozenset('"«»“”„')
QUOTES = MARKS | {"\n"}
"""What opens or closes a quotation; one ends with its line, too."""
TOKEN = re.compile(f"{WORD.pattern}|[{''.join(QUOTES)}]")
"""Matches one word, or one of `QUOTES`."""
LONGEST_QUOTATION = 160
"""Characters after which a quotation that is not closed counts as none."""

_CAPITAL = rf"(?=[A-Z\u00c0-\u00de])[{_LATIN}][{_LATIN}{mark_class('Latin')}{_JOINERS}]*"
_CAPITAL_BEFORE = re.compile(rf"(?<![{_LATIN}{_JOINERS}])(?:[a-z]{{1,5}}['’])?({_CAPITAL}),? \Z")
_LONGEST_NAME = 48
_SENTENCE_START = re.compile(r"(?:\A|[.!?:;…\n]|[-*•] )[\"'“”‘’«»()\[\]*_#>¿¡\s-]{0,12}\Z")
_LONGEST_START = 16
_SENTENCE_END = re.compile(r"[.!?:;…][\"'”’»)\]*_]{0,4}\s|\n")
_QUOTED = re.compile('["“„«][^"“”»\\n]*["“”»]')
_QUOTATION = re.compile('["“„«][^"“”»\\n]*["“”»\n]?')
_LONG_QUOTATION = re.compile(f'["“„«][^"“”»\\n]{{{LONGEST_QUOTATION}}}')
_LONGEST_HEAD = 160


def quotation_after(mark: str, position: int, opened: int) -> int:
    """Return where the quotation opened that is open behind a mark of `QUOTES`; -1 if none is.

    Args:
        mark: the mark.
        position: its index in the text.
        opened: the same before the mark.
    """
    return position if mark in "«„" or (mark in '"“' and opened < 0) else -1


def is_quoted(start: int, opened: int) -> bool:
    """Return whether the word at `start` is quoted. A text that begins with a quotation mark is no quotation.

    Args:
        start: index of the word.
        opened: index of the mark that opened the quotation around it, or -1.
    """
    return opened > 0 and start - opened < LONGEST_QUOTATION


def unquoted_words(text: str) -> list[str]:
    """Return the words outside quotations."""
    if text[:1] not in MARKS and _LONG_QUOTATION.search(text) is None:
        return WORD.findall(_QUOTATION.sub("\n", text))
    words: list[str] = []
    opened = -1
    for match in TOKEN.finditer(text):
        word = match.group()
        if word in QUOTES:
            opened = quotation_after(word, match.start(), opened)
        elif not is_quoted(match.start(), opened):
            words.append(word)
    return words


def may_go_on(text: str, end: int) -> bool:
    """Return whether the word that ends at `end` may be continued by more text."""
    return end == len(text) or (end == len(text) - 1 and text[end] in _JOINERS)


def begins_sentence(text: str, start: int) -> bool:
    """Return whether the word at `start` is the first one of a sentence, a line, or an item of a list."""
    return _SENTENCE_START.search(text, max(start - _LONGEST_START, 0), start) is not None


def follows_capital(text: str, start: int) -> bool:
    """Return whether the word before `start` is capitalised, and no small word that begins a sentence: "Mit dem".

    Between the two may be a space, or a comma and a space.
    """
    before = _CAPITAL_BEFORE.search(text, max(start - _LONGEST_NAME, 0), start)
    return before is not None and before[1].lower() not in TITLE_WORDS


def words_before(text: str, start: int, left: int) -> list[tuple[int, str]]:
    """Return the words between the head of a sentence and the word at `start`, each with its index.

    Quoted words are left out. Empty if the sentence begins before `left`, or too far back.
    """
    begin = max(left, start - _LONGEST_HEAD)
    unquoted = _QUOTED.sub(lambda quoted: " " * len(quoted[0]), text[begin:start])
    head = max((match.end() for match in _SENTENCE_END.finditer(unquoted)), default=0)
    if head == 0 < begin:
        return []
    return [(begin + word.start(), word.group()) for word in WORD.finditer(unquoted, head)]
