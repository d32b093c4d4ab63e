"""Errors in how a detector is requested or configured; every message is one line for the user."""

from __future__ import annotations


class DetectorError(ValueError):
    """Base class of the errors that a detector raises."""


class UnknownLanguageError(DetectorError):
    """The language detector does not support the language."""


class UnknownDetectorError(DetectorError):
    """No detector of that name is installed."""


class SettingError(DetectorError):
    """A detector has no such setting, or the setting does not accept the value."""


class MissingExtraError(DetectorError):
    """An optional library is needed and is not installed."""
