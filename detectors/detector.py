"""The detector protocol: whatever finds the place at which a text first goes wrong can be trained against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from detectors.finding import Finding
from detectors.words import Counts


@runtime_checkable
class Detector(Protocol):
    """Finds the place where a text first goes wrong.

    This is all that `Stream`, rollouts, rewards and `tlpo detect` require. `LanguageDetector` and `TermsDetector` are
    two implementations. Three requirements keep training sound, because the reward and the confusion point come from
    different calls on different parts of an answer. They hold for every text and its first finding, `f = find(text)`,
    with `prefix=""` and `final=True` where nothing else is given:

    1. `find(text[:f.start])` is None: `start` is the first wrong character.
    2. If `find(text[:k], final=False)` is a finding for some k, then so is `f`, with the same `start`, `kind` and
       `rule`: a certain verdict never changes. `end` and `text` may be shorter than those of `f`, because more of the
       wrong stretch may follow.
    3. `find(text[k:], prefix=text[:k])` is a finding with `start` equal to `f.start - k`, for every k up to `f.start`.
       If `f` is None, it is None for every k.
    """

    @property
    def version(self) -> str:
        """Version of the rules, written into every candidate group; it changes whenever a verdict can change."""

    def find(self, text: str, prefix: str = "", final: bool = True) -> Finding | None:
        """Return the first finding in `text`, with indices counted from the start of `text`, or None.

        Args:
            text: the text to judge. Lone surrogates (the bytes of unfinished characters) and U+FFFD are ignored: no
                finding rests on them.
            prefix: the text to the left of `text`: context only; no finding lies in it.
            final: False if `text` may continue. Then only a finding that no continuation can move or remove counts.
        """


class Scan(Protocol):
    """One pass over a text that may still grow."""

    def feed(self, piece: str) -> Finding | None:
        """Append text; return the first finding once it is certain."""

    def close(self) -> Finding | None:
        """Return the first finding in the text, which is now complete."""

    def copy(self) -> Scan:
        """Return an independent scan that continues from the same place."""


@runtime_checkable
class WeighingScan(Scan, Protocol):
    """A scan that can also tell when a text is certainly right, for languages that single words do not decide.

    Without it, what is not wrong after a given number of tokens counts as right.
    """

    def weigh(self) -> bool:
        """Weigh what follows; return False if that is of no use for this language."""

    @property
    def is_own(self) -> bool:
        """Whether what has been fed since `weigh` is certainly right."""


@runtime_checkable
class IncrementalDetector(Protocol):
    """Optional methods of a detector that can read a text in one pass; a detector may have either of them alone.

    Without `scan`, `Stream` searches a growing text again from its beginning with every piece. Without `spans`, the
    function `spans` searches the rest of a text again after every finding. Both cost time but give the same verdicts.
    """

    def scan(self, prefix: str = "") -> Scan:
        """Return a scan of an empty text that has `prefix` to its left."""

    def spans(self, text: str) -> list[Finding]:
        """Return all findings in a text, from left to right, without overlaps."""


@runtime_checkable
class CountsWords(Protocol):
    """Optional members of a detector that can count words, so that pass rates can be reported."""

    @property
    def unchecked(self) -> str | None:
        """What the detector could check but does not, as one line for the user; None if it checks everything."""

    def count(self, text: str) -> Counts:
        """Count the words of a text and those that are wrong.

        Raises:
            MissingExtraError: the library that finds words of this language is not installed.
        """


def find(text: str, detector: Detector, prefix: str = "", final: bool = True) -> Finding | None:
    """Return the first finding in `text`, or None; see `Detector.find`."""
    return detector.find(text, prefix, final)


def spans(text: str, detector: Detector) -> list[Finding]:
    """Return all findings in a text, from left to right, without overlaps.

    A method `spans` of the detector is used if there is one, whether or not it has the other methods of
    `IncrementalDetector`. Otherwise `find` is called again for the text after each finding.
    """
    # Called once per text, so no `isinstance` of a protocol here: it takes several times as long as a short text.
    all_of: Callable[[str], list[Finding]] | None = getattr(detector, "spans", None)
    if all_of is not None:
        return all_of(text)
    findings: list[Finding] = []
    position = 0
    while position < len(text) and (finding := detector.find(text[position:], text[:position])) is not None:
        # At least one character per round: a finding of no length must not be found for ever.
        start, end = position + finding.start, position + max(finding.end, finding.start + 1)
        findings.append(Finding(start, end, text[start:end], finding.kind, finding.rule))
        position = end
    return findings


def count(text: str, detector: CountsWords) -> Counts:
    """Count the words of a text and those that are wrong; see `LanguageDetector.count`.

    Raises:
        MissingExtraError: the library that finds words of this language is not installed.
    """
    return detector.count(text)


def without_unfinished(text: str) -> str:
    """Return `text` without the bytes of an unfinished character at its end."""
    end = len(text)
    while end > 0 and (text[end - 1] == "\ufffd" or "\ud800" <= text[end - 1] <= "\udfff"):
        end -= 1
    return text[:end]
