"""Pieces of a page: text that is safe to show, tables, sections, the page around them. Nothing here knows of runs."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fovea.report.style import CSS

__all__ = ["Section", "count", "keys", "numbers", "page", "percent", "short", "table", "text"]


@dataclass(frozen=True)
class Section:
    """One part of the page: the anchor, the heading (what it shows), and its HTML."""

    anchor: str
    title: str
    body: str


def text(value: Any) -> str:
    """A value as HTML text: escaped, with characters that no browser shows replaced."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def short(value: Any) -> str:
    """A number as a person reads it: integers whole, others with four significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return count(value)
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def count(value: int) -> str:
    """An integer with thin spaces between groups of three digits."""
    return f"{value:,}".replace(",", "\u2009")


def percent(share: float, digits: int = 2) -> str:
    """A share as per cent."""
    return f"{100 * share:.{digits}f} %" if math.isfinite(share) else "n/a"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1, wide: bool = True) -> str:
    """A table; the first `left` columns are text, the others numbers on the right. Cells are escaped."""
    names = [f' class="{"number" if index >= left else "name"}"' for index in range(len(head))]
    top = "".join(f"<th{name}>{text(cell)}</th>" for name, cell in zip(names, head, strict=True))
    body = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td{name}>{text(short(cell))}</td>" for name, cell in zip(names[1:], rest, strict=True))
        body.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    kind = ' class="wide"' if wide else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def keys(pairs: Mapping[str, Any]) -> str:
    """A table of names and values, nested mappings flattened to dotted names."""
    rows = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(_plain(value))}</td></tr>' for name, value in _flat(pairs)
    )
    return f'<div class="scroll"><table class="keys"><tbody>{rows}</tbody></table></div>'


def _flat(pairs: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in pairs.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _plain(value: Any) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return "\u2013"
    if isinstance(value, (list, tuple)):
        shown = ", ".join(short(item) for item in list(value)[:40])
        return shown + (f", ... ({len(value)} in all)" if len(value) > 40 else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def numbers(items: Sequence[tuple[str, str, str]]) -> str:
    """The few numbers that matter most, as (what, value, remark)."""
    cells = "".join(
        f"<div><dt>{text(what)}</dt><dd>{text(value)}{f'<small>{text(remark)}</small>' if remark else ''}</dd></div>"
        for what, value, remark in items
    )
    return f'<dl class="numbers">{cells}</dl>'


def page(title: str, head: str, sections: Sequence[Section], foot: str) -> str:
    """The whole file. `head` and `foot` are HTML; everything it needs is inside."""
    links = "".join(f'<a href="#{section.anchor}">{text(section.title)}</a> ' for section in sections)
    body = "".join(
        f'<section><h2 id="{part.anchor}">{text(part.title)}</h2>{part.body}</section>\n' for part in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{text(title)}</title>\n<style>{CSS}</style></head>\n'
        f"<body><main><header>{head}</header>\n<nav>{links}</nav>\n{body}<footer>{foot}</footer></main></body></html>\n"
    )
