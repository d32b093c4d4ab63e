"""Detection while a text is being written."""

from __future__ import annotations

from typing import Protocol

from detectors.detector import Detector
from detectors.find import Confusion, Scan, without_unfinished
from detectors.profile import Profile


class Stream:
    """Says of a growing text what `find` says of the whole, as early as it is certain, however the text is cut.

    >>> from detectors import profile
    >>> stream = Stream(profile("ko"))
    >>> stream.feed("통화는 "), stream.feed("є")
    (None, Confusion(index=4, end=5, text='є', script='Cyrillic', tier='script'))

    The index is that of `find`; `end` and `text` go as far as the text that was fed, unless `close` has found it.

    Args:
        detector: a language profile, or any `Detector`.
        prefix: what stands to the left of the text: context, never itself confused; indices count from behind it.
    """

    def __init__(self, detector: Detector, prefix: str = "") -> None:
        self._scan: _Scan = Scan(detector, prefix) if isinstance(detector, Profile) else _Rescan(detector, prefix)
        self._found: Confusion | None = None

    def feed(self, piece: str) -> Confusion | None:
        """Append text; the first confusion once it is certain, from then on always the same."""
        if self._found is None:
            self._found = self._scan.grow(piece)
        return self._found

    def close(self) -> Confusion | None:
        """The text is complete: what `find` says of it."""
        if self._found is None:
            self._found = self._scan.next(final=True)
        return self._found

    def copy(self) -> Stream:
        """A stream of its own that goes on from here: one context, many continuations."""
        twin = Stream.__new__(Stream)
        twin._scan, twin._found = self._scan.copy(), self._found
        return twin


class _Scan(Protocol):
    def grow(self, piece: str) -> Confusion | None: ...
    def next(self, final: bool) -> Confusion | None: ...
    def copy(self) -> _Scan: ...


class _Rescan:
    """For detectors that only know whole texts: the text so far, again with every piece."""

    def __init__(self, detector: Detector, prefix: str, text: str = "") -> None:
        self._detector = detector
        self._prefix = prefix
        self._text = text

    def grow(self, piece: str) -> Confusion | None:
        self._text += piece
        return self.next(final=False)

    def next(self, final: bool) -> Confusion | None:
        text = self._text if final else without_unfinished(self._text)
        return self._detector.find(text, self._prefix, final)

    def copy(self) -> _Rescan:
        return _Rescan(self._detector, self._prefix, self._text)
