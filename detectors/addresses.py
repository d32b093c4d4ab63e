"""Where an address ends if text follows without a space: in Markdown, or with a particle behind it."""

from __future__ import annotations

import re
import unicodedata

from detectors.scripts import script_of

PATH_STOPS = r"\s<>\"'`|*\[\]\\^、。，；！？：（）「」『』【】《》〈〉〔〕؟،؛…“”„«»"
"""Characters that end an address, for a class."""
DOMAIN_ENDS = (
    "com|org|net|edu|gov|mil|int|info|io|ai|app|dev|co|biz|me|tv|kr|jp|cn|tw|hk|de|fr|uk|us|eu|ru|ae|sa|eg|be|nl|ch|br|"
    "py|js|ts|java|cpp|json|csv|tsv|txt|md|html|htm|css|xml|yaml|yml|toml|sql|sh|pdf|docx|xlsx|png|jpg|jpeg|gif|svg|mp3|"
    "mp4|zip|exe"
)
"""Last parts of host names and of file names that are recognised without a scheme, for a pattern."""

_BEFORE_LETTER = frozenset("/?=&#%_+-~(")
"""Characters of an address behind which a letter beyond ASCII belongs to it. Behind a letter or a dot, it is text."""
_PLAIN = re.compile(rf"[^{PATH_STOPS}\x80-\U0010ffff()]+")
_PLAIN_LABEL = re.compile(r"[A-Za-z0-9@:_%-]+")
_KNOWN_END = re.compile(rf"(?:{DOMAIN_ENDS})\Z")
_JAPANESE = ("Hiragana", "Katakana", "Han")


def address_end(text: str, start: int, *, is_host: bool) -> int:
    """Return the end of the address that is being read at `start`.

    It ends at white space, a quotation mark, an asterisk or a bracket that closes one before the address; and at a
    letter beyond ASCII, unless the letter begins a part of the address (`/wiki/서울`, `пример.рф`) or continues one in
    the same script.

    Args:
        text: the text.
        start: index behind the part that is certainly an address.
        is_host: whether the host name begins at `start`; if not, it ends there.
    """
    end = _host_end(text, start) if is_host else start
    return _path_end(text, end) if text[end : end + 1] in ("/", "?", "#") else end


def _host_end(text: str, start: int) -> int:
    """Return the end of a host name, whose parts may be in any script, with its port."""
    end = start
    while (label_end := _label_end(text, end)) > end:
        is_last = _KNOWN_END.match(text, end, label_end) is not None
        end = label_end
        behind = text[end + 1 : end + 2]
        if end + 1 == len(text) and text[end] == ".":
            return end + 1  # more of the name may follow
        # "example.com.Подробно": the sentence has ended, and a new one begins.
        if text[end : end + 1] != "." or (is_last and not behind.isascii()) or _label_end(text, end + 1) == end + 1:
            break
        end += 1
    return end


def _label_end(text: str, start: int) -> int:
    label = _PLAIN_LABEL.match(text, start)
    return _letters_end(text, start) if label is None else label.end()


def _path_end(text: str, start: int) -> int:
    """Return the end of path, query and fragment. A bracket that opens in them closes in them: /wiki/Python_(язык)."""
    end, depth = start, 0
    while end < len(text):
        if (plain := _PLAIN.match(text, end)) is not None:
            end = plain.end()
        elif text[end] == "(":
            depth, end = depth + 1, end + 1
        elif text[end] == ")" and depth:
            depth, end = depth - 1, end + 1
        elif text[end - 1] in _BEFORE_LETTER and (letters := _letters_end(text, end)) > end:
            end = letters
        else:
            break
    return end


def _letters_end(text: str, start: int) -> int:
    """Return the end of the letters beyond ASCII that begin at `start` and are of one script."""
    end, script = start, None
    while end < len(text) and text[end] > "\x7f" and (text[end].isalpha() or unicodedata.category(text[end])[0] == "M"):
        found = "Han" if (found := script_of(text[end])) in _JAPANESE else found
        if found != "Common":  # a mark, which belongs to any script
            if script not in (None, found):
                break
            script = found
        end += 1
    return end
