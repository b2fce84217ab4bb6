"""Damaged and hostile annotation files give a data set or one line of error, never anything else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea.data.annotations.lines import entry_lines
from fovea.data.annotations.xml import read_voc
from fovea.data.annotations.yaml import read_yaml
from fovea.errors import DataError, FoveaError
from tests.data.boxes_on_disk import coco, shots, voc, voc_text, yolo

WRITERS = {"voc": voc, "coco": coco, "yolo": yolo}
PIECES = (
    b"", b"\x00", b"\xff\xfe", b"<", b">", b"</object>", b"&a;", b"[", b"]", b"{", b"}", b",", b'"', b"1e999", b"-1",
    b"NaN", b"null", b"99999999999999999999999999", b"\n", b" ", b":", b"- ", b"#", b"id", b"1 0.5 0.5",
    b"9" * 5000, b"[" * 3000, b"<a>" * 100,
)  # fmt: skip


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a few pieces cut out, doubled or put in."""
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(data) + 1))
        end = min(len(data), at + int(rng.integers(0, 30)))
        choice = int(rng.integers(0, 4))
        piece = PIECES[int(rng.integers(0, len(PIECES)))]
        if choice == 0:
            data = data[:at] + data[end:]
        elif choice == 1:
            data = data[:end] + data[at:]
        else:
            data = data[:at] + piece + data[end if choice == 2 else at :]
    return data


@pytest.mark.parametrize("layout", WRITERS)
def test_damaged_annotations(layout: str, tmp_path: Path) -> None:
    folder = WRITERS[layout](tmp_path / "set", {"train": shots(3, 81), "val": shots(2, 82, "v")})
    files = [path for path in folder.rglob("*") if path.suffix in (".xml", ".json", ".txt", ".yaml")]
    rng = np.random.default_rng(83)
    outcomes = {"read": 0, "refused": 0}
    messages: list[str] = []
    for _ in range(60):
        path = files[int(rng.integers(0, len(files)))]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        try:
            data = fovea.dataset(folder, val_fraction=0.2)
            assert data.task in ("detection", "classification")
            for split in data.splits.values():
                if data.task == "detection":
                    assert np.isfinite(split.targets).all()
                    assert (split.targets[..., 2:4] >= split.targets[..., :2]).all()
            outcomes["read"] += 1
        except FoveaError as error:
            outcomes["refused"] += 1
            messages.append(str(error))
        path.write_bytes(whole)
    assert outcomes["read"] > 5, outcomes
    assert all(message.startswith("[") and "\n" not in message for message in messages)


def test_xml_that_would_grow_is_refused_at_once() -> None:
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "x">{entities}]><annotation><filename>&e12;</filename></annotation>'
    began = time.perf_counter()
    with pytest.raises(DataError, match="line 1 has a DOCTYPE"):
        read_voc(bomb.encode(), "bomb.xml")
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotation>&b;</annotation>'
    with pytest.raises(DataError, match="has a DOCTYPE"):
        read_voc(outside.encode(), "outside.xml")
    with pytest.raises(DataError, match="nested 64 deep"):
        read_voc(b"<annotation>" + b"<a>" * 100, "deep.xml")
    with pytest.raises(DataError, match="bytes; an annotation has at most"):
        read_voc(b" " * ((1 << 24) + 1), "long.xml")
    with pytest.raises(DataError, match="is not XML"):
        read_voc(b'<?xml version="1.0" encoding="none-such"?><annotation/>', "odd.xml")
    assert read_voc(b"<other/>", "other.xml") is None
    assert time.perf_counter() - began < 5


def test_voc_in_other_encodings() -> None:
    text = '<?xml version="1.0" encoding="{}"?>' + voc_text(shots(1, 84)[0], filename="Bär.png")
    for encoding in ("utf-8", "iso-8859-1", "utf-16"):
        found = read_voc(text.format(encoding).encode(encoding), "a.xml")
        assert found is not None
        assert found.filename == "Bär.png"
        assert found.stated == (48, 64)
        assert len(found.objects) == len(shots(1, 84)[0].objects)


def as_texts(value: Any) -> Any:
    """What a full reader gives, as this one gives it: texts, lists of texts, texts by key."""
    if isinstance(value, list):
        return [as_texts(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_texts(item) for key, item in value.items()}
    return "" if value is None else str(value)


DOCUMENTS = (
    "path: ../datasets/coco8 # root\ntrain: images/train\nval: images/val\ntest:\nnames:\n  0: person\n  1: bicycle\n",
    "train: ../train/images\nnc: 3\nnames: ['a b', \"c, d\", 'it''s']\n",
    "names: [one,\n  two, # the second\n  three]\ntrain: a\n",
    "names: {0: ant, 1: 'b: c', 2: \"d # e\"}\n",
    "train:\n- images/a\n- images/b\nval:\n  - images/c\nnames:\n- x y\n- 'z'\n",
    "---\n# all\ntrain: a#b\nval: 'c # d'   # e\n",
    'names:\n    0: two words\n    10: "quo\\"ted"\n',
)


def test_configurations_read_as_a_full_reader_reads_them() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is the judge")
    for document in DOCUMENTS:
        assert read_yaml(document.encode(), "data.yaml") == as_texts(yaml.safe_load(document)), document
    rng = np.random.default_rng(85)
    letters = list("abcXYZ _-.'\"#:,&*!?äß1")
    for _ in range(200):
        names = ["".join(rng.choice(letters, int(rng.integers(1, 9)))).strip() or "a" for _ in range(4)]
        content = {"train": f"images/{names[0].replace(' ', '')}", "val": [names[1], "b"], "nc": 4,
                   "names": dict(enumerate(names)) if rng.random() < 0.5 else names}  # fmt: skip
        for flow in (True, False, None):
            text = yaml.safe_dump(content, default_flow_style=flow, allow_unicode=True, width=60)
            if flow is True:
                continue  # the whole in braces: nobody writes it so
            assert read_yaml(text.encode(), "data.yaml") == as_texts(content), text


def test_escaped_letters_are_the_letters_themselves() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is the judge")
    names = ["猫", "café", "a\tb", "😀", 'q"\\', "\x07\x85\u2028", "plain"]
    for text in (yaml.safe_dump({"names": names}), f"names: {json.dumps(names)}\n"):
        assert text.isascii()
        assert read_yaml(text.encode(), "data.yaml") == {"names": names}
    assert read_yaml(rb'names: ["\ud83d", "\U00110000", "\ux"]', "data.yaml")["names"] == ["\ufffd", "\ufffd", "ux"]


def test_what_is_not_understood_is_passed_over() -> None:
    text = "download: |\n  names: [wrong]\n  train: wrong\nexport:\n  a:\n    b: c\nnames: [a]\nodd line\n? x\n"
    found = read_yaml(text.encode(), "data.yaml")
    assert found["names"] == ["a"]
    assert found["download"] == ""
    with pytest.raises(DataError, match="at most"):
        read_yaml(b" " * ((1 << 20) + 1), "data.yaml")
    began = time.perf_counter()
    for nasty in (
        b"a: [" * 50_000,
        b"'" * 100_000,
        b"a" * 300_000 + b":",
        b"- " * 100_000,
        b'names: ["' + b"\\" * 200_000,
    ):
        read_yaml(nasty, "data.yaml")
    assert time.perf_counter() - began < 10


def test_lines_of_entries_in_any_form_of_json() -> None:
    content = {"info": {"annotations": [1, 2]}, "annotations": [{"a": [1, {"b": "]"}]}, 7, "x\n", None], "images": []}
    for indent in (None, 0, 2):
        text = json.dumps(content, indent=indent)
        found = entry_lines(text, "annotations")
        assert len(found) == 4
        lines = text.split("\n")
        if indent is not None:
            assert [lines[number - 1].strip(" ,") for number in found] == ["{", "7", '"x\\n"', "null"]
        else:
            assert found == [1, 1, 1, 1]
        assert entry_lines(text, "images") == []
        assert entry_lines(text, "nothing") == []
