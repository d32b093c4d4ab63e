"""Detection while a text is being written."""

from __future__ import annotations

from collections.abc import Callable

from detectors.detector import Detector, Scan, without_unfinished
from detectors.finding import Finding


class Stream:
    """Reports of a growing text what `find` reports of the complete text, as soon as that is certain.

    The result does not depend on how the text is cut into pieces.

    >>> from detectors import language
    >>> stream = Stream(language("ko"))
    >>> stream.feed("통화는 "), stream.feed("є")
    (None, Finding(start=4, end=5, text='є', kind='Cyrillic', rule='script'))

    `start` is that of `find`. `end` and `text` reach as far as the text that had been fed by then.

    Args:
        detector: any `Detector`; one with the method `scan` of `IncrementalDetector` reads the text only once.
        prefix: text to the left: context only; no finding lies in it. Indices count from its end.
    """

    def __init__(self, detector: Detector, prefix: str = "") -> None:
        # One stream is made per candidate, so no `isinstance` of a protocol here: it takes as long as ten short pieces.
        scan: Callable[[str], Scan] | None = getattr(detector, "scan", None)
        self._scan: Scan = _Rescan(detector, prefix) if scan is None else scan(prefix)
        self._first: Finding | None = None

    def feed(self, piece: str) -> Finding | None:
        """Append text; return the first finding once it is certain, and the same one from then on."""
        if self._first is None:
            self._first = self._scan.feed(piece)
        return self._first

    def close(self) -> Finding | None:
        """Return what `find` returns for the text, which is now complete."""
        if self._first is None:
            self._first = self._scan.close()
        return self._first

    def weigh(self) -> bool:
        """Weigh what follows; return whether that can decide anything (`WeighingScan`)."""
        weigh: Callable[[], bool] | None = getattr(self._scan, "weigh", None)
        return weigh is not None and weigh()

    @property
    def is_decided(self) -> bool:
        """Whether what has been fed since `weigh` is certainly wrong, or certainly right."""
        return self._first is not None or bool(getattr(self._scan, "is_own", False))

    def copy(self) -> Stream:
        """Return an independent stream that continues from here: one context, many continuations."""
        twin = Stream.__new__(Stream)
        twin._scan, twin._first = self._scan.copy(), self._first
        return twin


class _Rescan:
    """The scan of a detector that can only judge a text from its beginning: it does so again with every piece."""

    def __init__(self, detector: Detector, prefix: str, text: str = "") -> None:
        self._detector = detector
        self._prefix = prefix
        self._text = text

    def feed(self, piece: str) -> Finding | None:
        self._text += piece
        # Bytes of an unfinished character become one character with the next piece, so they are withheld until then.
        return self._detector.find(without_unfinished(self._text), self._prefix, False)

    def close(self) -> Finding | None:
        return self._detector.find(self._text, self._prefix, True)

    def copy(self) -> _Rescan:
        return _Rescan(self._detector, self._prefix, self._text)
