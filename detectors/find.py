"""The first word of another language in a text, and all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from detectors.exemptions import (
    WORD_SCRIPTS,
    Cursor,
    ExemptSpans,
    is_exempt_hanja,
    is_exempt_word,
    is_foreign_word,
    is_settled,
    unsettled_from,
)
from detectors.lexicon import ARTICLES, LEADING_WORDS, english_words
from detectors.passages import LEAST_WORDS, first_foreign, has_none_at_first_sight, is_open
from detectors.profile import Profile
from detectors.runs import Run, run_at

_PLAIN_WORD = re.compile("[A-Za-z]+")
_ENDS_IN_WORD = re.compile(r"([A-Za-z]+) ?\Z")
# A plain word or an amount, and a space or a comma with one, at the end of the searched part; not glued to signs of
# code or addresses.
_WORD_BEFORE = re.compile(
    r"(?<![0-9] )(?<![A-Za-z0-9_.@/\\$`<'’\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff-])([A-Za-z]+|[$€£]?[0-9]+),? \Z"
)
# From a Chinese character to the end of the searched part, without kana and without what ends a sentence.
_SENTENCE_WITHOUT_KANA = re.compile("[\u3400-\u9fff][^\u3040-\u30ff。！？!?：:「」『』()（）\\n]*\\Z")
_CHINESE_GRAMMAR = re.compile("[，的了是在這这個个與与及和為为須须它]")
_LONGEST_SENTENCE = 80
_LONGEST_WORD = 30
_CHUNK, _CONTEXT = 8192, 1024
"""Characters of settled text above which some are forgotten, and how many of them are kept."""
_LONGEST_REACH = 8
"""Words a foreign phrase reaches back over at most."""
_MOST_PASSED = 2
"""Of these in a row that English or names have, too."""
_ENGLISH_ENDINGS = ("ing", "ness", "ly", "ed", "ful")


@dataclass(frozen=True, slots=True)
class Confusion:
    """A stretch of text in another language, or another localised error.

    Example: in "블랙홀의 중력은 настільки 강력하여" it is `Confusion(9, 18, "настільки", "Cyrillic")`.
    """

    index: int
    """First confused code point of the text as it was given."""
    end: int
    """One past its last code point."""
    text: str
    script: str
    """Unicode script of the confused letters; other detectors say what kind of error it is."""
    tier: str = "script"
    """Which rule found it: `script`, `alphabet`, `word` or `passage`; of other detectors, theirs."""


def find(text: str, profile: Profile, prefix: str = "", final: bool = True) -> Confusion | None:
    """The first confusion in `text`.

    Args:
        text: may hold lone surrogates (bytes of unfinished characters) and U+FFFD: no evidence either way.
        prefix: what stands to the left of `text`: judged as context, never itself a confusion. A word that begins in
            it and ends in `text` is confused from index 0 on.
        final: False if `text` may go on: then only a confusion that no continuation can move or remove.
    """
    if _is_clean(text, profile, prefix):
        return None
    return Scan(profile, prefix, text).next(final)


def confusions(text: str, profile: Profile) -> list[Confusion]:
    """All confusions of a text, from left to right, without overlaps."""
    return [] if _is_clean(text, profile) else list(Scan(profile, "", text))


class Scan:
    """One pass over a text that may still grow.

    Args:
        prefix: context, never confused itself.
        text: what is known so far.
    """

    def __init__(self, profile: Profile, prefix: str = "", text: str = "") -> None:
        self._profile = profile
        self._floor = len(prefix)
        self._whole = prefix + text
        self._left = self._floor
        self._letters = Cursor()
        self._passages = Cursor()
        self._behind = Cursor()
        self._exempt: dict[str, ExemptSpans] = {}
        self._pending = False

    def grow(self, piece: str) -> Confusion | None:
        """Append text; the next confusion if it is certain already."""
        self._whole += piece
        behind = len(self._whole) - self._letters.position
        if not self._pending and behind < _CHUNK and self._profile.attention.search(piece) is None:
            return None
        found = self.next(final=False)
        if found is None:
            self._pending = self._is_pending()
            self._forget()
        return found

    def copy(self) -> Scan:
        """A scan of its own that goes on from here."""
        twin = Scan(self._profile)
        twin.__dict__.update(self.__dict__, _exempt={})
        return twin

    def next(self, final: bool) -> Confusion | None:
        """The next confusion; None if there is none, or, when not `final`, none that is certain already."""
        text = self._whole if final else without_unfinished(self._whole)
        run, start = self._next_run(text, final)
        limit = start if run is not None else len(text) if final else self._letters.position
        while self._profile.checks_passages and self._passages.position < limit:
            passage, self._passages = first_foreign(
                self._spans(text, "passages", self._passages),
                self._passages.position,
                limit,
                final or run is not None,
            )
            if passage is None:
                self._exempt.pop("passages")
                break
            if passage.end > self._floor:
                self._exempt.pop("letters", None)  # they are asked again, from further left
                return self._found(text, max(passage.start, self._left), passage.end, "Latin", "passage")
        if run is None:
            return None
        self._passages = self._behind
        return self._found(text, start, run.end, run.script, self._tier(run))

    def __iter__(self) -> Iterator[Confusion]:
        """All that are left, of a text that is complete."""
        while (found := self.next(final=True)) is not None:
            yield found

    def _next_run(self, text: str, final: bool) -> tuple[Run | None, int]:
        """The first run that is a confusion, and where the confusion starts."""
        begin = max(self._letters.position, self._left)
        if final and _plain_words(text, begin, self._profile) is not None:
            self._letters = Cursor(len(text))
            return None, 0
        exempt = self._spans(text, "letters", self._letters)
        settled = len(text) if final else unsettled_from(text)
        for run in _suspicious_runs(text, begin, self._profile):
            if run.script in WORD_SCRIPTS:
                if not final and not is_settled(run, text, settled):
                    settled = min(settled, run.start)
                    break
                if is_exempt_word(run, text, self._profile):
                    continue
            elif run.script == "Han" and is_exempt_hanja(run, text, self._profile):
                continue
            if exempt.cover(run):
                continue
            self._letters, self._behind = exempt.cursor_at(run.start), exempt.cursor_at(run.end)
            return run, _reach_back(run, text, self._left, self._profile)
        self._letters = Cursor(len(text)) if final else exempt.cursor_at(settled)
        self._exempt.pop("letters")  # the cursor may stand further left than what was asked last
        return None, 0

    def _is_pending(self) -> bool:
        """Whether text that is harmless in itself may settle something: an unfinished word, an open passage."""
        if self._profile.suspects.search(self._whole, self._letters.position) is not None:
            return True
        return self._profile.checks_passages and is_open(self._whole, self._profile, self._passages)

    def _forget(self) -> None:
        """Drop text that is settled and too far back to be context, so that a text of any length may be streamed."""
        settled = self._letters.position
        if self._profile.checks_passages:
            settled = min(settled, self._passages.position)
        if settled < _CHUNK:
            return
        # Words do not reach over white space, so what is left begins with a whole one.
        cut = max(self._whole.rfind(space, 0, settled - _CONTEXT) for space in " \n") + 1
        self._whole = self._whole[cut:]
        self._floor -= cut
        self._left = max(self._left - cut, 0)
        self._letters = self._letters.shifted(-cut)
        self._passages = self._passages.shifted(-cut)

    def _spans(self, text: str, name: str, cursor: Cursor) -> ExemptSpans:
        """The exempt spans from the cursor on; those of a text that did not grow are not looked for again."""
        known = self._exempt.get(name)
        if known is None or known.text is not text:
            known = self._exempt[name] = ExemptSpans(text, self._profile, cursor)
        return known

    def _found(self, text: str, start: int, end: int, script: str, tier: str) -> Confusion:
        self._left = end
        return Confusion(start - self._floor, end - self._floor, text[start:end], script, tier)

    def _tier(self, run: Run) -> str:
        if run.script in self._profile.language.scripts:
            return "alphabet"
        return "word" if run.text.isascii() and self._profile.english == "neutral" else "script"


def without_unfinished(text: str) -> str:
    """`text` without the bytes of an unfinished character at its end."""
    end = len(text)
    while end > 0 and (text[end - 1] == "\ufffd" or "\ud800" <= text[end - 1] <= "\udfff"):
        end -= 1
    return text[:end]


def _is_clean(text: str, profile: Profile, prefix: str = "") -> bool:
    """Whether `text` is clean at first sight: nearly every text of a good model, at the speed of `re`."""
    if profile.checks_passages and profile.language.is_latin:
        return False
    suspect = profile.suspects.search(text)
    if suspect is None:
        return True
    if profile.english != "neutral" or prefix:
        return False
    words = _plain_words(text, suspect.start(), profile)
    if words is None or not profile.checks_passages or words < LEAST_WORDS:
        return words is not None
    return has_none_at_first_sight(text, suspect.start(), profile)


def _plain_words(text: str, begin: int, profile: Profile) -> int | None:
    """The number of plain words from `begin` on; None if anything else is suspicious, or one of them foreign."""
    if profile.english != "neutral" or profile.beyond_ascii.search(text, begin) is not None:
        return None if profile.suspects.search(text, begin) is not None else 0
    # A word that begins further left is another word, and one behind an article may be foreign.
    before = _ENDS_IN_WORD.search(text, max(begin - _LONGEST_WORD, 0), begin)
    if before is not None and (before.end(1) == begin or before[1] in ARTICLES):
        return None
    words = _PLAIN_WORD.findall(text, begin)
    return len(words) if profile.foreign_words.isdisjoint(words) and ARTICLES.isdisjoint(words) else None


def _suspicious_runs(text: str, start: int, profile: Profile) -> Iterator[Run]:
    """Runs of scripts or letters that are not the language's own and that end after `start`."""
    position = start
    while suspect := profile.suspects.search(text, position):
        if profile.english == "neutral" and suspect.start() > start:
            plain = _PLAIN_WORD.match(text, suspect.start())
            if plain is not None and not is_foreign_word(plain.group(), plain.start(), text, profile):
                position = plain.end()
                continue
        run = run_at(text, suspect.start())
        position = suspect.end() if run is None else run.end
        if run is not None:
            yield run


def _reach_back(run: Run, text: str, left: int, profile: Profile) -> int:
    """Start of a foreign Latin phrase: the words before its first telling word that belong to it.

    Unknown small words belong to it. One or two words that English or names have, and numbers, belong to it if a word
    that is certainly foreign stands before them: "un article de blog sur".
    """
    start = position = max(run.start, left)
    if run.script == "Han" and profile.code == "ja":
        return _chinese_from(text, start, left)
    if run.script != "Latin" or profile.english != "neutral":
        return start
    passed = 0
    for _ in range(_LONGEST_REACH):
        before = _WORD_BEFORE.search(text, max(position - _LONGEST_WORD, left), position)
        if before is None:
            break
        word, position = before[1], before.start(1)
        if word in LEADING_WORDS or word in profile.foreign_words:
            start, passed = position, 0
        elif passed == 0 and word.islower() and not (word in english_words() or word.endswith(_ENGLISH_ENDINGS)):
            start = position
        elif passed < _MOST_PASSED:
            passed += 1
        else:
            break
    return start


def _chinese_from(text: str, start: int, left: int) -> int:
    """Start of the Chinese sentence in a Japanese text that the run at `start` gives away."""
    before = _SENTENCE_WITHOUT_KANA.search(text, max(start - _LONGEST_SENTENCE, left), start)
    if before is None or not _CHINESE_GRAMMAR.search(before[0]):
        return start
    return before.start()
