"""Response, word and line pass rates of answers (equations 8 and 9)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from detectors.profile import Profile
from detectors.words import Counts, count

Z_95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What became of a set of answers.

    Answers without a word of their language (nothing, digits, plain English where that is neutral) are counted apart
    and are no part of the RPR: a policy shall not pass by falling silent. `rpr_of_all` counts them as passed, which is
    the letter of Eq. 8.

    Example: 4 answers, one empty, one of the others confused: rpr 2/3, rpr_of_all 3/4.
    """

    answers: int
    failed: int
    """Answers with at least one confused word."""
    empty: int
    """Answers with neither a word of their language nor a confused one."""
    words: int
    confused_words: int
    lines: int
    """Lines with a letter or a digit."""
    confused_lines: int

    @property
    def passed(self) -> int:
        """Answers with words, none of them confused."""
        return self.answers - self.failed - self.empty

    @property
    def rpr(self) -> float | None:
        """Response pass rate over answers with words (Eq. 8); None when there is none."""
        return _share(self.passed, self.answers - self.empty)

    @property
    def rpr_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `rpr`. Takes answers as independent: with several a prompt it is too narrow."""
        scored = self.answers - self.empty
        return wilson_interval(self.passed, scored) if scored else None

    @property
    def rpr_of_all(self) -> float | None:
        """Answers without a confused word / answers (Eq. 8); None when there is no answer."""
        return _share(self.answers - self.failed, self.answers)

    @property
    def rpr_of_all_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of `rpr_of_all`."""
        return wilson_interval(self.answers - self.failed, self.answers) if self.answers else None

    @property
    def wpr(self) -> float | None:
        """Words without confusion / words (Eq. 9); None when there is no word."""
        return _share(self.words - self.confused_words, self.words)

    @property
    def line_pass_rate(self) -> float | None:
        """Lines without confusion / lines; None when there is no line."""
        return _share(self.lines - self.confused_lines, self.lines)

    def __add__(self, other: Rates) -> Rates:
        """Of the answers of both."""
        return Rates(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Rates)})

    def as_json(self) -> dict[str, object]:
        """Rates and the counts behind them."""
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


def pass_rates(responses: Iterable[str], profile: Profile) -> Rates:
    """RPR, WPR (Eq. 8, 9) and line pass rate of responses in one language.

    Raises:
        MissingExtraError: the library that finds words of this language is not installed.
    """
    return rates_of([count(response, profile) for response in responses])


def rates_of(counts: Sequence[Counts]) -> Rates:
    """Rates of answers whose words have been counted."""
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
    """95 % interval of a share: never outside [0, 1], and of some width at 0 and 1 too (Wilson 1927).

    Args:
        trials: above 0.
    """
    share = passed / trials
    shrink = 1 + Z_95**2 / trials
    middle = (share + Z_95**2 / (2 * trials)) / shrink
    half = Z_95 * math.sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2)) / shrink
    # At 0 and 1 a bound equals the share; rounding would put it a hair beside.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
