"""Response, word and line pass rates of answers (equations 8 and 9 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from detectors.detector import CountsWords
from detectors.words import Counts

Z_95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Pass rates of a set of answers, with the counts behind them.

    Answers without a word of their language (nothing, digits, plain English where that is neutral) are counted
    separately and are excluded from the RPR, so that a policy cannot pass by producing nothing. `rpr_of_all` counts
    them as passed, which is Eq. 8 to the letter.

    Example: of 4 answers one is empty and one of the others is confused: rpr is 2/3, rpr_of_all 3/4.
    """

    answers: int
    """All answers; the sum of `passed`, `failed` and `empty`."""
    failed: int
    """Answers with at least one confused word."""
    empty: int
    """Answers with neither a word of their language nor a confused one."""
    words: int
    """Words of the expected language, and confused ones."""
    confused_words: int
    lines: int
    """Lines with a letter or a digit."""
    confused_lines: int
    """Lines with a part of a confusion in them."""

    @property
    def passed(self) -> int:
        """Number of answers with words, none of them confused."""
        return self.answers - self.failed - self.empty

    @property
    def rpr(self) -> float | None:
        """Response pass rate over answers with words (Eq. 8); None without such an answer."""
        return _share(self.passed, self.answers - self.empty)

    @property
    def rpr_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `rpr`, for independent answers: with several per prompt it is too narrow."""
        scored = self.answers - self.empty
        return wilson_interval(self.passed, scored) if scored else None

    @property
    def rpr_of_all(self) -> float | None:
        """Share of answers without a confused word (Eq. 8); None without an answer."""
        return _share(self.answers - self.failed, self.answers)

    @property
    def rpr_of_all_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `rpr_of_all`."""
        return wilson_interval(self.answers - self.failed, self.answers) if self.answers else None

    @property
    def wpr(self) -> float | None:
        """Word pass rate: the share of words without confusion (Eq. 9); None without a word."""
        return _share(self.words - self.confused_words, self.words)

    @property
    def line_pass_rate(self) -> float | None:
        """Share of lines without confusion; None without a line."""
        return _share(self.lines - self.confused_lines, self.lines)

    def __add__(self, other: Rates) -> Rates:
        """Return the rates of both sets of answers together."""
        return Rates(**{count.name: getattr(self, count.name) + getattr(other, count.name) for count in fields(Rates)})

    def as_json(self) -> dict[str, object]:
        """Return the rates and the counts behind them, by name."""
        return {
            "rpr": self.rpr,
            "rpr_interval_95": self.rpr_interval,
            "rpr_of_all": self.rpr_of_all,
            "rpr_of_all_interval_95": self.rpr_of_all_interval,
            "wpr": self.wpr,
            "line_pass_rate": self.line_pass_rate,
            "answers": self.answers,
            "passed": self.passed,
            "failed": self.failed,
            "empty": self.empty,
            "words": self.words,
            "confused_words": self.confused_words,
            "lines": self.lines,
            "confused_lines": self.confused_lines,
        }


def pass_rates(responses: Iterable[str], detector: CountsWords) -> Rates:
    """Return RPR, WPR (Eq. 8 and 9) and line pass rate of responses in one language.

    Args:
        responses: the answers, each a text.
        detector: a language detector, or another that counts words.

    Raises:
        MissingExtraError: the library that finds words of this language is not installed.
    """
    return rates_of([detector.count(response) for response in responses])


def rates_of(counts: Sequence[Counts]) -> Rates:
    """Return the rates of counted answers, one `Counts` each."""
    return Rates(
        answers=len(counts),
        failed=sum(count.status == "fail" for count in counts),
        empty=sum(count.status == "empty" for count in counts),
        words=sum(count.words for count in counts),
        confused_words=sum(count.confused_words for count in counts),
        lines=sum(count.lines for count in counts),
        confused_lines=sum(count.confused_lines for count in counts),
    )


def wilson_interval(passed: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927).

    It never leaves [0, 1], and at 0 and 1 it is still of some width.

    Args:
        passed: number of successes.
        trials: number of trials, above 0.
    """
    share = passed / trials
    shrink = 1 + Z_95**2 / trials
    middle = (share + Z_95**2 / (2 * trials)) / shrink
    half = Z_95 * math.sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2)) / shrink
    # At 0 and 1 one bound equals the share exactly; rounding would place it slightly beside.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _share(part: int, total: int) -> float | None:
    return part / total if total else None
