"""The part of YAML that a ``data.yaml`` needs: keys with texts, numbers, lists and one level of nested keys.

Read line by line, no tags, no anchors, nothing constructed; what is not understood (blocks of text, deeper nesting) is
passed over.
"""

from __future__ import annotations

import re

from fovea.errors import DataError

__all__ = ["Value", "read_yaml"]

Value = str | list[str] | dict[str, str]
_KEY = re.compile(r"""(?P<key>"[^"]*"|'[^']*'|[^\s#:'"\[\]{},-][^:#]*?)\s*:(?:\s+(?P<value>.*))?""")
_MAX_BYTES = 1 << 20


def read_yaml(data: bytes, name: str) -> dict[str, Value]:
    """Top-level keys -> text, list of texts, or texts by key. Raises DataError for what is no text, or is too long."""
    if len(data) > _MAX_BYTES:
        raise DataError(name, f"has {len(data):,} bytes; at most {_MAX_BYTES:,} are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(name, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    result: dict[str, Value] = {}
    key = ""
    lines = _joined(text.splitlines())
    for line in lines:
        indented = line[0] in " \t"
        line = line.strip()
        if line.startswith("- ") or line == "-":
            held = result.get(key)
            if key and (held == "" or isinstance(held, list)):
                result[key] = [*(held or []), _scalar(line[1:])]
            continue
        match = _KEY.fullmatch(line)
        if match is None:
            continue
        name_, value = _scalar(match["key"]), (match["value"] or "").strip()
        if not indented:
            key = name_
            result[key] = _value(value)
        elif key:
            above = result.get(key)
            if above == "" or isinstance(above, dict):
                result[key] = {**(above if isinstance(above, dict) else {}), name_: _scalar(value)}
    return result


def _joined(lines: list[str]) -> list[str]:
    """Lines without comments and blanks; ``[`` and ``{`` go on until they are closed; blocks of text are left out."""
    result: list[str] = []
    open_brackets, block = 0, False
    for raw in lines:
        line = _uncommented(raw).rstrip()
        if not line.strip() or line.strip() in ("---", "..."):
            continue
        if block and line[0] in " \t":
            continue
        block = bool(re.search(r":\s*[|>][+-]?\d?$", line))
        if open_brackets:
            result[-1] += " " + line.strip()
        else:
            result.append(re.sub(r"[|>][+-]?\d?$", "", line) if block else line)
        begins = line if open_brackets else (re.search(r"(?::|^)\s*([\[{].*)$", line) or [""])[0]
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", begins)
        open_brackets = max(0, open_brackets + sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}"))
    return result


def _uncommented(line: str) -> str:
    quote = ""
    for index, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and (index == 0 or line[index - 1] in " \t[{,:-"):
            quote = letter
        elif letter == "#" and (index == 0 or line[index - 1] in " \t"):
            return line[:index]
    return line


def _value(text: str) -> Value:
    if text.startswith("[") and text.endswith("]"):
        return [_scalar(item) for item in _items(text[1:-1])]
    if text.startswith("{") and text.endswith("}"):
        pairs = (item.partition(":") for item in _items(text[1:-1]))
        return {_scalar(key): _scalar(value) for key, _, value in pairs}
    return _scalar(text)


def _items(text: str) -> list[str]:
    """What commas separate, outside of quotes."""
    items = re.findall(r"""\s*((?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,])+)""", text)
    return [item.strip() for item in items if item.strip()]


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return "" if text in ("~", "null") else text
