"""Words and passages in another language of Latin script, where letters decide nothing (rule `passage`).

A single word is weak evidence, so the evidence of successive words is added up, for each other language by itself, and
starts again from zero wherever it has become negative: a text in the expected language stays near zero, and one that
changes into another language climbs from its first foreign word on (the cumulative sum test of Page, 1954). A passage
is found where the sum reaches a threshold; it begins where the sum began to climb. The sums depend on nothing to their
right, so the verdict on a growing text is that on the complete one.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from operator import add, sub

from detectors.evidence import WordEvidence, frequency, is_capitalised, word_evidence
from detectors.exempt_spans import ExemptSpans
from detectors.language_profile import LanguageProfile
from detectors.language_table import common_words
from detectors.latin_words import (
    MARKS,
    QUOTES,
    TOKEN,
    WORD,
    begins_sentence,
    follows_capital,
    is_quoted,
    may_go_on,
    quotation_after,
    unquoted_words,
    words_before,
)
from detectors.lexicon import ENGLISH_OPENINGS, SOLFEGE, TITLE_WORDS, english_phrases
from detectors.readings import PHONETIC_LETTER, is_reading, looks_romanised
from detectors.runs import Run
from detectors.script_ranges import RANGES
from detectors.scripts import as_class, in_basic_plane

LEAST_ENGLISH, LEAST_WORDS = 2, 4
"""Smallest number of clear words of an English passage, and of one in another language."""
CLEAR = 0.7
"""Evidence from which on a word is clear."""
FIRST = 0.3
"""Evidence from which on a word may be the first of a passage."""
DECISIVE_OWN, DOUBTFUL = 3.0, 1.0
"""Evidence against English from which on a text is certainly in an expected language, if there is less evidence than
the second number for any other. Where English is expected, it is the evidence against half of the languages: against
Catalan, Spanish has hardly any."""
RETURNED = 3.0
"""Evidence for the expected languages after which a passage has ended."""
SMALL_WORD = 5.8
"""Frequency from which on a word is one of the small ones that make sentences: of, is, when."""
WITHOUT_SMALL_WORD = 7.0
"""Evidence from which on a passage needs no small word."""
OF_BOTH = 0.8
"""Evidence for the expected languages up to which a word counts as one of both."""
MOST_ROMANISED = 0.8
"""Share of words that could be romanised readings from which on a passage counts as a reading."""
LEAST_COMMON = 0.25
"""Lowest share of function words in such a passage."""
LENDERS, BORROWERS = ("Arabic", "Bengali", "Cyrillic", "Devanagari"), ("id", "ms", "sw", "tr")
LEAST_COMMON_OF_BORROWERS = 0.4
"""The same for languages that have borrowed from those of these scripts: romanised text is full of their words."""
MOST_TITLE_WORDS = 3
"""Number of small words in a row that belong to a name between two capitalised words: Lord of the Rings."""

_LONGEST_DOUBT = 400
_MOST_WORDS_OF_HEAD = 5


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage in another language, from its first foreign word to its last."""

    start: int
    end: int
    """Index one past the last character."""


class PassageScan:
    """Adds up the evidence of the words of a text, from left to right, as far as they have been written.

    Args:
        profile: the language of the text.
    """

    def __init__(self, profile: LanguageProfile) -> None:
        self.position = 0
        """Index from which on words have not been read."""
        self._profile = profile
        self._table = _table(profile)
        self._english = self._table.others.index("en") if "en" in self._table.others else -1
        self._bounded = not profile.language.is_latin
        """Whether a passage ends with its line, and at a letter of another script."""
        self._sums: list[float]
        self._starts: list[int]
        """Index of the first word of each sum that may begin a passage; -1 before there is one."""
        self._clear: list[int]
        """Number of clear words in each sum."""
        self._climbs: bool
        """Whether any sum is above zero."""
        self._quotation = -1
        """Index of the mark that opened the quotation at `position`; -1 outside one."""
        self._passed = 0
        """Index behind the last passage that was found."""
        self._particles: tuple[Run, ...]
        """Small words at the end that belong to a name if a capitalised word follows."""
        self._against: list[float] | None = None
        """Evidence of all words behind `_weighed_from`, positive or not; None if they are not weighed."""
        self._weighed_from = 0
        self._reset()

    def weigh(self, position: int) -> None:
        """Weigh all words from `position` on against the other languages, so that `is_own` can be asked."""
        self._against, self._weighed_from = [0.0] * len(self._table.others), position

    @property
    def is_own(self) -> bool:
        """Whether the words that are weighed are certainly in an expected language."""
        if self._against is None or max(self._sums) >= DOUBTFUL:
            return False
        against = self._against[self._english] if self._english >= 0 else statistics.median(self._against)
        return against <= -DECISIVE_OWN

    @property
    def is_idle(self) -> bool:
        """Whether nothing has been added up that more text could decide."""
        return not self._climbs and not self._particles

    @property
    def first_needed(self) -> int:
        """Index before which the text is not needed any more."""
        return self._particles[0].start if self._particles else self.position

    def restart(self, position: int) -> None:
        """Begin again at `position`."""
        self.position = self._passed = position
        self._reset()

    def copy(self) -> PassageScan:
        """Return an independent scan that continues from here."""
        twin = PassageScan.__new__(PassageScan)
        twin.__dict__.update(self.__dict__)
        twin._sums, twin._starts, twin._clear = self._sums.copy(), self._starts.copy(), self._clear.copy()
        twin._against = None if self._against is None else self._against.copy()
        return twin

    def shift(self, by: int) -> None:
        """Take account of `-by` characters that have been dropped at the beginning of the text."""
        self.position = max(self.position + by, 0)
        self._weighed_from += by
        self._quotation = max(self._quotation + by, -1)
        self._passed = max(self._passed + by, 0)
        self._starts = [max(start + by, 0) if start >= 0 else start for start in self._starts]
        self._particles = tuple(Run(run.start + by, run.end + by, run.script, run.text) for run in self._particles)

    def read_plain(self, text: str) -> bool:
        """Read finished words as long as they are no evidence for another language; return whether that was all.

        What is exempt does not matter to such words, and no passage becomes certain with them.
        """
        if self._particles:
            return False
        for match in TOKEN.finditer(text, self.position):
            word = match.group()
            if word in QUOTES:
                self._quotation = quotation_after(word, match.start(), self._quotation)
                self.position = match.end()
                continue
            if may_go_on(text, match.end()):
                self.position = match.start()
                return True
            if self._table.most[word] > 0:
                return False
            if self._climbs or (self._against is not None and match.end() > self._weighed_from):
                self._add_plain(Run(match.start(), match.end(), "Latin", word), text)
            self.position = match.end()
        self.position = len(text)
        return True

    def _add_plain(self, run: Run, text: str) -> None:
        if self._bounded and _boundary().search(text, self.position, run.start):
            self._reset()
        elif not is_quoted(run.start, self._quotation):
            self._add(run, self._in_place(run, text))

    def next(self, spans: Callable[[], ExemptSpans], text: str, limit: int, is_end: bool) -> Passage | None:
        """Return the first foreign passage that becomes certain between `position` and `limit`.

        Args:
            spans: returns the exempt spans of the text; they can be queried from `position` on.
            text: the text.
            limit: index of the end of what is judged.
            is_end: whether the last word ends at `limit`; if not, it is left for later.
        """
        for match in TOKEN.finditer(text, self.position, limit):
            if match.group() in QUOTES:
                self._quotation = quotation_after(match.group(), match.start(), self._quotation)
                self.position = match.end()
                continue
            if match.end() == limit and not is_end:
                break
            run = Run(match.start(), match.end(), "Latin", match.group())
            if self._climbs and self._bounded and _boundary().search(text, self.position, run.start):
                self._reset()
            for word, is_name in self._in_turn(run, text):
                evidence = self._evidence(word, text, spans, is_name=is_name)
                if evidence is None or (other := self._add(word, evidence)) < 0:
                    continue
                if self._is_confirmed(other, self._words_since(other, text, word.end)):
                    self.position = word.end
                    return self._passage(other, text, limit, spans)
            self.position = run.end
        else:
            if is_end and (other := self._add_particles(text, spans)) >= 0:
                return self._passage(other, text, limit, spans)
            self.position = max(self.position, limit) if is_end else self.position
        if self._climbs and self._bounded and _boundary().search(text, self.position, limit):
            self._reset()
        return None

    def _in_turn(self, run: Run, text: str) -> Iterator[tuple[Run, bool]]:
        """Yield the words that can be judged now, and whether each belongs to a name.

        Small words behind a capitalised one wait for the word after them: in "Lord of the Rings" they are of a name, as
        is the word behind them.
        """
        capital = is_capitalised(run.text)
        waiting = self._particles
        follows = text[run.start - 1 : run.start] == " " and (not waiting or waiting[-1].end == run.start - 1)
        is_small = follows and run.text in TITLE_WORDS and len(waiting) < MOST_TITLE_WORDS
        if is_small and (waiting or (self._table.most[run.text] > 0 and follows_capital(text, run.start))):
            self._particles = (*waiting, run)
            return
        self._particles = ()
        for word in waiting:
            yield word, follows and capital
        yield run, follows and capital and bool(waiting)

    def _add_particles(self, text: str, spans: Callable[[], ExemptSpans]) -> int:
        """Add the evidence of the words that wait, since no name follows; return the sum that decides, or -1."""
        waiting, self._particles = self._particles, ()
        for word in waiting:
            evidence = self._evidence(word, text, spans, is_name=False)
            other = -1 if evidence is None else self._add(word, evidence)
            if other >= 0 and self._is_confirmed(other, self._words_since(other, text, word.end)):
                self.position = word.end
                return other
        return -1

    def _evidence(
        self, run: Run, text: str, spans: Callable[[], ExemptSpans], *, is_name: bool
    ) -> tuple[float, ...] | None:
        """Return the evidence of a word in its place; None for one that is none."""
        most = self._table.most[run.text]
        if not self._climbs and most <= 0 and self._against is None:
            return None
        if is_quoted(run.start, self._quotation):
            return None
        evidence = self._in_place(run, text)
        # Words of names, code and the like are no evidence for another language, but they may be for the expected one.
        if most > 0 and (is_name or _is_sign(run, text, self._profile) or spans().cover(run)):
            evidence = tuple(min(value, 0.0) for value in evidence)
        return evidence

    def _in_place(self, run: Run, text: str) -> tuple[float, ...]:
        """Return the evidence of a word, which is less if it is capitalised."""
        if not is_capitalised(run.text):
            return self._table.anywhere[run.text]
        place = self._table.at_start if begins_sentence(text, run.start) else self._table.inside
        return place[run.text]

    def _add(self, run: Run, evidence: Sequence[float]) -> int:
        """Add the evidence of a word to the sums; return the index of the largest one that is decisive, or -1."""
        sums, starts, clear, decisive = self._sums, self._starts, self._clear, self._table.decisive
        self._climbs, best = False, -1
        if self._against is not None and run.end > self._weighed_from:
            self._against = list(map(add, self._against, evidence))
        for other, value in enumerate(evidence):
            total = sums[other] + value
            if total <= 0:
                sums[other], starts[other], clear[other] = 0.0, -1, 0
                continue
            self._climbs = True
            sums[other] = total
            clear[other] += value >= CLEAR
            if value >= FIRST and starts[other] < 0:
                starts[other] = run.start
            if total >= decisive[other] and (best < 0 or total > sums[best]):
                least = LEAST_ENGLISH if other == self._english else LEAST_WORDS
                best = other if clear[other] >= least else best
        return best

    def _words_since(self, other: int, text: str, end: int) -> list[str]:
        """Return the words of a passage, only the last ones of one that is long without being confirmed."""
        return WORD.findall(text, max(self._starts[other], end - _LONGEST_DOUBT), end)

    def _is_confirmed(self, other: int, words: Sequence[str]) -> bool:
        """Return whether words are a language, not a technical term, or the romanised text of another script.

        A language has small words; a term ("merge sort") has none, and romanised text has some of every language by
        chance.
        """
        code = self._table.others[other]
        if not self._bounded:
            return self._sums[other] >= WITHOUT_SMALL_WORD or any(
                self._table.anywhere[word][other] >= CLEAR and frequency(word.lower(), code) >= SMALL_WORD
                for word in words
            )
        small = [word for word in words if word.islower()]
        if SOLFEGE.issuperset(small) or " ".join(words).lower() in english_phrases():
            return False
        if sum(map(looks_romanised, small)) >= MOST_ROMANISED * len(small):
            return False
        is_borrower = code in BORROWERS and self._profile.language.scripts[0] in LENDERS
        share = LEAST_COMMON_OF_BORROWERS if is_borrower else LEAST_COMMON
        return sum(word.lower() in common_words(code) for word in words) >= max(2, share * len(small))

    def _passage(self, other: int, text: str, limit: int, spans: Callable[[], ExemptSpans]) -> Passage:
        """Return the passage that has become certain, as far as it reaches, and begin again behind it."""
        start = self._head(other, text)
        total = best = self._sums[other]
        end, quotation = self.position, self._quotation
        for match in TOKEN.finditer(text, self.position, limit):
            if match.group() in QUOTES:
                self._quotation = quotation_after(match.group(), match.start(), self._quotation)
                continue
            run = Run(match.start(), match.end(), "Latin", match.group())
            self._climbs = True
            evidence = self._evidence(run, text, spans, is_name=False)
            total += evidence[other] if evidence else 0.0
            if total >= best:
                best, end, quotation = total, run.end, self._quotation
            elif total < best - RETURNED:
                break
        self._quotation = quotation
        self._reset()
        self.position = self._passed = end
        return Passage(start, end)

    def _head(self, other: int, text: str) -> int:
        """Return where a passage begins: at the head of its sentence if that is a small word of both languages.

        In an Italian text, "In" is no evidence for English, but the first word of "In 2010, the".
        """
        before = words_before(text, self._starts[other], self._passed)
        if not 0 < len(before) <= _MOST_WORDS_OF_HEAD:
            return self._starts[other]
        head = before[0][1].lower()
        is_small = frequency(head, self._table.others[other]) >= SMALL_WORD
        if not is_small and not (other == self._english and head in ENGLISH_OPENINGS):
            return self._starts[other]
        is_of_both = all(self._table.anywhere[word][other] >= -OF_BOTH for _, word in before)
        return before[0][0] if is_of_both else self._starts[other]

    def _reset(self) -> None:
        others = len(self._table.others)
        self._sums, self._starts, self._clear = [0.0] * others, [-1] * others, [0] * others
        self._climbs, self._particles = False, ()


def has_no_passage(text: str, profile: LanguageProfile) -> bool:
    """Return whether a text has no foreign passage for certain, whatever in it is exempt; False leaves it open.

    Each word counts with its largest share of a decision for any language, so no sum of `PassageScan` is more decided.
    """
    words = WORD.findall(text) if MARKS.isdisjoint(text) else unquoted_words(text)
    shares = [0.0, *accumulate(map(_table(profile).most.__getitem__, words))]
    largest: float = max(map(sub, shares, accumulate(shares, min)))
    return largest < 1


def _is_sign(run: Run, text: str, profile: LanguageProfile) -> bool:
    """Return whether a word belongs to no language: a list mark, phonetic symbols, a reading."""
    if len(run.text) == 1 and text[run.end : run.end + 1] != " ":
        return True  # a label, a list mark
    if run.text.isascii():
        return False
    if PHONETIC_LETTER.search(run.text):
        return True
    if profile.language.is_latin or profile.options.readings == "judge":
        return False
    return is_reading(run.text.lower(), run, text, profile)


@cache
def _boundary() -> re.Pattern[str]:
    """Return the pattern of what ends a Latin passage in another script: the end of a line, a letter of that script."""
    others = " ".join(ranges for script, ranges in RANGES.items() if script != "Latin")
    return re.compile(f"[\n{as_class(in_basic_plane(others))}]")


@cache
def _table(profile: LanguageProfile) -> WordEvidence:
    return word_evidence(profile.code, profile.english == "neutral")
