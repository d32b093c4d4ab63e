"""What may be asked wrongly of a detector; every message is one line for its user."""

from __future__ import annotations


class DetectorError(ValueError):
    """The root."""


class UnknownLanguageError(DetectorError):
    """There is no detector for the language."""


class UnknownDetectorError(DetectorError):
    """No detector of that name is installed."""


class SettingError(DetectorError):
    """A detector does not take a setting, or not this value."""


class MissingExtraError(DetectorError):
    """A library is needed that is not installed."""
