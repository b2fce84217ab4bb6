"""Where in a JSON file the entries of a list stand: for messages, so it is read a second time only when one is due."""

from __future__ import annotations

import json
import re

__all__ = ["entry_lines"]

_SPACE = re.compile(r"[ \t\r\n]*")


def entry_lines(text: str, key: str) -> list[int]:
    """The line on which each entry of the list ``key`` of the outermost object begins; empty without such a list.

    ``text`` is valid JSON.
    """
    decoder = json.JSONDecoder()
    at = _skip(text, 0) + 1  # behind the {
    while True:
        at = _skip(text, at)
        if text[at : at + 1] != '"':
            return []
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # behind the colon
        if name == key and text[at] == "[":
            return _entries(text, at + 1, decoder)
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at) + 1  # behind the comma, or the }


def _entries(text: str, at: int, decoder: json.JSONDecoder) -> list[int]:
    lines: list[int] = []
    line, seen = 1, 0
    while True:
        at = _skip(text, at)
        if text[at] == "]":
            return lines
        line += text.count("\n", seen, at)
        seen = at
        lines.append(line)
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        at += text[at] == ","


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
