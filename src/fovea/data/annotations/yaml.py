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
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")
_ESCAPED = dict(zip("0abtnvfreN_LP", "\0\a\b\t\n\v\f\r\x1b\x85\xa0\u2028\u2029", strict=True))
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
        bare = [letter for letter, quoted in zip(begins, _quoted(begins), strict=True) if not quoted]
        open_brackets = max(0, open_brackets + sum((c in "[{") - (c in "]}") for c in bare))
    return result


def _quoted(text: str) -> list[bool]:
    """Which letters lie in quotes. A quote begins where a text begins: elsewhere it is a letter of the text."""
    result: list[bool] = []
    quote, before, skip = "", "", False
    for index, letter in enumerate(text):
        result.append(bool(quote))
        if skip:
            skip = False
        elif quote == '"' and letter == "\\":
            skip = True
        elif quote == "'" == letter == text[index + 1 : index + 2]:
            skip = True  # two of them are one letter
        elif quote and letter == quote:
            quote = ""
        elif not quote and letter in "'\"" and _begins(text, index, before):
            quote = letter
            result[-1] = True
        before = before if letter in " \t" else letter
    return result


def _begins(text: str, index: int, before: str) -> bool:
    """Whether a text begins at this letter, ``before`` being the last letter that is no space."""
    spaced = text[index - 1 : index] in (" ", "\t")
    return (
        before in ("", "[", "{", ",") or (before == ":" and spaced) or (before == "-" and text[:index].strip() == "-")
    )


def _uncommented(line: str) -> str:
    if "#" not in line:
        return line
    for index, (letter, quoted) in enumerate(zip(line, _quoted(line), strict=True)):
        if letter == "#" and not quoted and (index == 0 or line[index - 1] in " \t"):
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
    items, start = [], 0
    for index, (letter, quoted) in enumerate(zip(text, _quoted(text), strict=True)):
        if letter == "," and not quoted:
            items.append(text[start:index].strip())
            start = index + 1
    return [item for item in (*items, text[start:].strip()) if item]


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        letters = _ESCAPE.sub(_unescaped, text[1:-1])
        return letters.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs, as JSON writes them
    return "" if text in ("~", "null") else text


def _unescaped(match: re.Match[str]) -> str:
    """What stands for an escape sequence of a text in double quotes (YAML 1.2, section 5.7)."""
    code = match[1]
    if len(code) == 1:
        return _ESCAPED.get(code, code)
    number = int(code[1:], 16)
    return chr(number) if number < 0x110000 else "\N{REPLACEMENT CHARACTER}"
