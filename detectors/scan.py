"""One pass over a text for words and passages in another language.

How a verdict comes about:

1. `is_clean`: one search for a foreign letter. Nearly every text of a good model ends here, at the speed of `re`.
2. Letters: from each foreign letter the run (word) around it is judged; it counts unless its letters, its neighbours or
   an exempt span excuse it. The confusion then extends back over the words that belong to the same foreign phrase.
3. Passages: sentences or Latin stretches before the first such run are identified as a whole.

Letters and passages are read by two cursors. Neither moves beyond what more text could still change, which is what
makes the verdict on a growing text the same as the verdict on the complete one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from detectors.detector import without_unfinished
from detectors.exempt_spans import UNFINISHED, WORD_SCRIPTS, Cursor, ExemptSpans, unsettled_from
from detectors.exemptions import (
    is_exempt_hanja,
    is_exempt_word,
    is_foreign_word,
    is_settled,
)
from detectors.finding import Finding
from detectors.kaomoji import drawing
from detectors.language_profile import LanguageProfile
from detectors.lexicon import ARTICLES, LEADING_WORDS, english_words
from detectors.passages import LEAST_WORDS, Passage, PassageScan, has_no_passage
from detectors.runs import Run, run_at

_PLAIN_WORD = re.compile("[A-Za-z]+")
_ENDS_IN_WORD = re.compile(r"([A-Za-z]+) ?\Z")
# A plain word or an amount, and a space or a comma with one, at the end of the searched part; not attached to signs of
# code or addresses.
_WORD_BEFORE = re.compile(
    r"(?<![0-9] )(?<![A-Za-z0-9_.@/\\$`<'’\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff-])([A-Za-z]+|[$€£]?[0-9]+),? \Z"
)
# From a Chinese character to the end of the searched part, without kana and without anything that ends a sentence.
_SENTENCE_WITHOUT_KANA = re.compile("[\u3400-\u9fff][^\u3040-\u30ff。！？!?：:「」『』()（）\\n]*\\Z")
_CHINESE_GRAMMAR = re.compile("[，的了是在這这個个與与及和為为須须它]")
_LONGEST_SENTENCE = 80
_LONGEST_WORD = 30
_CHUNK, _CONTEXT = 8192, 1024
"""Characters of settled text from which on some of it is dropped, and how many of them are kept as context."""
_LONG_TOKEN, _GROWTH = 64, 8
"""Length from which on a token that grows is read only when it has grown by one part in so many."""
_LONGEST_REACH = 8
"""Number of words over which a foreign phrase extends back at most."""
_MOST_PASSED = 2
"""How many of these in a row may be words that English or names have too."""
_ENGLISH_ENDINGS = ("ing", "ness", "ly", "ed", "ful")


class LanguageScan:
    """One pass over a text that may still grow; a `Scan`.

    Args:
        profile: the language of the text.
        prefix: text to the left: context, never a confusion itself.
        text: the text so far.
    """

    def __init__(self, profile: LanguageProfile, prefix: str = "", text: str = "") -> None:
        self._profile = profile
        self._text = prefix + text
        self._floor = len(prefix)
        """Index at which the judged text begins; findings are reported relative to it."""
        self._left = self._floor
        """Index after the last finding: findings do not overlap."""
        self._letters = Cursor()
        """Where the search for foreign letters continues."""
        self._is_latin = profile.language.is_latin
        self._words = PassageScan(profile) if profile.checks_passages else None
        """Search for foreign passages."""
        self._passages = Cursor()
        """Where the exempt spans continue that it asks for."""
        self._after_run = Cursor()
        """Place after the last foreign run that was found."""
        self._exempt: dict[str, ExemptSpans] = {}
        self._pending = False
        """Whether even harmless text may settle a verdict."""
        self._token = self._unread = 0
        """Length of the token at the end of the text, and how much of it has not been read."""

    def feed(self, piece: str) -> Finding | None:
        """Append text; return the next confusion if it is already certain."""
        self._text += piece
        if self._waits(piece):
            return None
        unread = len(self._text) - self._letters.position
        # Most pieces are clean and nothing waits for them, so they are not even scanned until a chunk is full.
        if not self._pending and unread < _CHUNK and self._profile.foreign_letters.search(piece) is None:
            words = self._words
            # Letters end no word. Where Latin letters are foreign, a piece without one has no word, and is read later.
            if words is None or piece.isalpha() or (words.read_plain(self._text) if self._is_latin else words.is_idle):
                return None
        finding = self.next(final=False)
        if finding is None:
            # Text that is harmless in itself may finish a word that has a foreign letter.
            self._pending = self._profile.foreign_letters.search(self._text, self._letters.position) is not None
            self._drop_settled()
        return finding

    def _waits(self, piece: str) -> bool:
        """Return whether a piece only makes a long token longer, by too little to read that again from its beginning.

        No verdict on a token is certain before its end, unless it is longer than an address may be.
        """
        tail = UNFINISHED.match(piece[::-1])
        assert tail is not None, "it matches the empty text"
        if tail.end() < len(piece):
            self._token, self._unread = tail.end(), 0
            return False
        self._token, self._unread = self._token + len(piece), self._unread + len(piece)
        if self._token >= _LONG_TOKEN and self._unread * _GROWTH < self._token:
            return True
        self._unread = 0
        return False

    def close(self) -> Finding | None:
        """Return the next confusion of the text, which is now complete."""
        return self.next(final=True)

    def weigh(self) -> bool:
        """Weigh the words that follow; return False if this language is not decided by words."""
        if self._words is None or not self._is_latin:
            return False
        self._words.weigh(len(self._text))
        return True

    @property
    def is_own(self) -> bool:
        """Whether what has been fed since `weigh` is certainly in the expected language."""
        return self._words is not None and self._words.is_own

    def copy(self) -> LanguageScan:
        """Return an independent scan that continues from here."""
        twin = LanguageScan(self._profile)
        # The exempt spans are found lazily and would be shared; the rest is immutable.
        words = None if self._words is None else self._words.copy()
        twin.__dict__.update(self.__dict__, _exempt={}, _words=words)
        return twin

    def next(self, final: bool) -> Finding | None:
        """Return the next confusion; None without one, or, unless `final`, without one that is already certain."""
        text = self._text if final else without_unfinished(self._text)
        run, start = self._next_run(text, final)
        # Only what is left of the first foreign run can come before it. While the text grows, passages are judged no
        # further than letters are, since a run found later would end the passage before it.
        limit = run.start if run is not None else len(text) if final else self._letters.position
        while self._words is not None and self._words.position < limit:
            passage = self._next_passage(text, limit, final or run is not None)
            if passage is None:
                break
            if passage.end > self._floor:
                self._exempt.pop("letters", None)  # they are queried again, from further left
                return self._finding(text, max(passage.start, self._left), passage.end, "Latin", "passage")
        if run is None:
            return None
        if self._words is not None:
            self._words.restart(run.end)
            self._passages = self._after_run
            self._exempt.pop("passages", None)
        return self._finding(text, start, run.end, run.script, self._rule(run))

    def __iter__(self) -> Iterator[Finding]:
        """Yield all confusions that are left, of a text that is complete."""
        while (finding := self.next(final=True)) is not None:
            yield finding

    def _next_passage(self, text: str, limit: int, is_end: bool) -> Passage | None:
        """Return the first foreign passage before `limit` that has not been found yet."""
        assert self._words is not None
        passage = self._words.next(lambda: self._spans(text, "passages", self._passages), text, limit, is_end)
        # Exempt spans are only searched for where a word is evidence, and from time to time, to keep up with the text.
        # Those behind a passage are kept for the next one.
        lags = self._words.position - self._passages.position > _CONTEXT
        if passage is None and ("passages" in self._exempt or lags):
            self._passages = self._spans(text, "passages", self._passages).cursor_at(self._words.position)
            self._exempt.pop("passages")
        return passage

    def _next_run(self, text: str, final: bool) -> tuple[Run | None, int]:
        """Return the first run that is a confusion, and the index at which the confusion starts."""
        begin = max(self._letters.position, self._left)
        if final and _plain_words(text, begin, self._profile) is not None:
            self._letters = Cursor(len(text))
            return None, 0
        exempt = self._spans(text, "letters", self._letters)
        settled = len(text) if final else unsettled_from(text)
        for run in _foreign_runs(text, begin, self._profile):
            if run.script in WORD_SCRIPTS:
                if not final and not is_settled(run, text, settled):
                    settled = min(settled, run.start)
                    break
                if is_exempt_word(run, text, self._profile):
                    continue
            if run.script != "Latin":
                if run.script == "Han" and is_exempt_hanja(run, text, self._profile):
                    continue
                if (verdict := drawing(run, text, is_end=final)) != "written":
                    if verdict == "drawn":
                        continue
                    settled = min(settled, run.start)
                    break
            if exempt.cover(run):
                continue
            self._letters, self._after_run = exempt.cursor_at(run.start), exempt.cursor_at(run.end)
            return run, _phrase_start(run, text, self._left, self._profile)
        self._letters = Cursor(len(text)) if final else exempt.cursor_at(settled)
        self._exempt.pop("letters")  # the cursor may be further left than the last query
        return None, 0

    def _drop_settled(self) -> None:
        """Drop text that is settled and too far back to be context, so that a text of any length can be streamed."""
        settled = self._letters.position
        if self._words is not None:
            settled = min(settled, self._passages.position, self._words.first_needed)
        if settled < _CHUNK:
            return
        # Words do not extend over white space, so the text that is kept begins with a complete word.
        cut = max(self._text.rfind(space, 0, settled - _CONTEXT) for space in " \n") + 1
        self._text = self._text[cut:]
        self._floor -= cut
        self._left = max(self._left - cut, 0)
        self._letters = self._letters.shifted(-cut)
        if self._words is not None:
            self._words.shift(-cut)
            self._passages = self._passages.shifted(-cut)

    def _spans(self, text: str, name: str, cursor: Cursor) -> ExemptSpans:
        """Return the exempt spans from the cursor on; those of a text that did not grow are kept."""
        spans = self._exempt.get(name)
        if spans is None or spans.text is not text:
            spans = self._exempt[name] = ExemptSpans(text, self._profile, cursor)
        return spans

    def _finding(self, text: str, start: int, end: int, kind: str, rule: str) -> Finding:
        self._left = end
        return Finding(start - self._floor, end - self._floor, text[start:end], kind, rule)

    def _rule(self, run: Run) -> str:
        """Return the name of the rule by which a run is a confusion."""
        if run.script in self._profile.language.scripts:
            return "alphabet"
        return "word" if run.text.isascii() and self._profile.english == "neutral" else "script"


def is_clean(text: str, profile: LanguageProfile, prefix: str = "") -> bool:
    """Return whether `text` is clean at first sight; False leaves the question open."""
    foreign = profile.foreign_letters.search(text)
    if profile.language.is_latin:
        return foreign is None and (not profile.checks_passages or has_no_passage(prefix + text, profile))
    if foreign is None:
        return True
    if profile.english != "neutral" or prefix:
        return False
    words = _plain_words(text, foreign.start(), profile)
    return words is not None and (words < LEAST_WORDS or not profile.checks_passages or has_no_passage(text, profile))


def _plain_words(text: str, begin: int, profile: LanguageProfile) -> int | None:
    """Return the number of plain words from `begin` on; None if any is foreign, or anything else has to be judged."""
    if profile.english != "neutral" or profile.beyond_ascii.search(text, begin) is not None:
        return None if profile.foreign_letters.search(text, begin) is not None else 0
    # A word that begins further left is another word, and one after an article may be foreign.
    before = _ENDS_IN_WORD.search(text, max(begin - _LONGEST_WORD, 0), begin)
    if before is not None and (before.end(1) == begin or before[1] in ARTICLES):
        return None
    words = _PLAIN_WORD.findall(text, begin)
    return len(words) if profile.foreign_words.isdisjoint(words) and ARTICLES.isdisjoint(words) else None


def _foreign_runs(text: str, start: int, profile: LanguageProfile) -> Iterator[Run]:
    """Yield the runs that have a letter which the language does not have, and that end after `start`."""
    position = start
    while foreign := profile.foreign_letters.search(text, position):
        # A short cut over plain English words. Not at `start` itself, where the word may have begun further left.
        if profile.english == "neutral" and foreign.start() > start:
            plain = _PLAIN_WORD.match(text, foreign.start())
            if plain is not None and not is_foreign_word(plain.group(), plain.start(), text, profile):
                position = plain.end()
                continue
        run = run_at(text, foreign.start())
        if run is not None and profile.language.letter_by_letter and run.script in profile.language.scripts:
            *_, last = profile.foreign_letters.finditer(text, foreign.start(), run.end)
            run = Run(foreign.start(), last.end(), run.script, text[foreign.start() : last.end()])
        position = foreign.end() if run is None else run.end
        if run is not None:
            yield run


def _phrase_start(run: Run, text: str, left: int, profile: LanguageProfile) -> int:
    """Return the start of the foreign phrase around a run: it includes the words before the run that belong to it.

    TLPO trains on the first wrong token, so the phrase has to begin with its first word, not with the first word that
    gives it away: "un article de blog sur". Unknown lower-case words belong to the phrase. One or two words that
    English or names have too, and numbers, belong to it if a word that is certainly foreign comes before them.

    Args:
        run: the word that is certainly foreign.
        text: the text.
        left: index before which the phrase must not begin.
        profile: the language of the text.
    """
    start = position = max(run.start, left)
    if run.script == "Han" and profile.code == "ja":
        return _chinese_sentence_start(text, start, left)
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


def _chinese_sentence_start(text: str, start: int, left: int) -> int:
    """Return the start of the Chinese sentence in a Japanese text that is given away by the run at `start`."""
    before = _SENTENCE_WITHOUT_KANA.search(text, max(start - _LONGEST_SENTENCE, left), start)
    if before is None or not _CHINESE_GRAMMAR.search(before[0]):
        return start
    return before.start()
