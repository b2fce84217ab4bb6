"""The same rows by Ray Data, on a cluster of this machine; and the words where Ray is not installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fovea.bulk.cluster import predict_on_ray
from fovea.bulk.predict import predict_files
from fovea.errors import ConfigError, DataError, MissingExtra
from tests.bulk.test_bulk_predict import network, rows_of
from tests.data.builders import class_folders
from tests.data.shard_sets import written

pytest.importorskip("pyarrow")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    yield ray
    ray.shutdown()


@needs_ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_rows_are_those_of_one_process(cluster: Any, tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", {"cat": 8, "dog": 7})
    (photos / "dog" / "004.png").write_bytes(b"torn")
    shards = written(tmp_path / "set", 20, per_shard=6)
    model = network().save(tmp_path / "model.safetensors")
    found = predict_on_ray(model, [photos, shards], tmp_path / "ray.parquet", top_k=2, batch_size=8)
    assert (found["rows"], found["unreadable"]) == (15 + 29, 1)
    predict_files(model, [photos, shards], tmp_path / "one.parquet", top_k=2)
    ours, theirs = ({row["path"]: row for row in rows_of(tmp_path / f"{name}.parquet")} for name in ("one", "ray"))
    assert set(ours) == set(theirs)
    for path, row in ours.items():
        assert (theirs[path]["label"], theirs[path]["error"]) == (row["label"], row["error"])
        if row["error"] is None:
            assert theirs[path]["probability"] == pytest.approx(row["probability"], rel=1e-5)


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_relative_names_and_names_that_are_no_text(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = class_folders(tmp_path / "photos", {"cat": 2})
    (photos / "cat" / "000.png").rename(photos / "cat" / os.fsdecode(b"\xff.png"))
    network().save(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.parquet").mkdir()  # empty: as good as none
    assert predict_on_ray("model.safetensors", "photos", "out.parquet")["rows"] == 2
    rows = rows_of(tmp_path / "out.parquet")
    assert {row["path"] for row in rows} == {"photos/cat/001.png", "photos/cat/\ufffd.png"}
    assert {row["error"] for row in rows} == {None}


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_a_tar_file_that_breaks_off_is_a_row(cluster: Any, tmp_path: Path) -> None:
    """What comes before the tear has rows of its own. The model may be one in memory."""
    whole = written(tmp_path / "set", 3, per_shard=3)
    shard = next(path for path in sorted(whole.iterdir()) if path.suffix == ".tar")
    torn = tmp_path / "torn-000000.tar"
    # a sample is an image and a label, each a header and a block of 512 bytes: the second image breaks off
    torn.write_bytes(shard.read_bytes()[: 2048 + 520])
    found = predict_on_ray(network(), [torn], tmp_path / "out.parquet", workers=1)
    (reason,) = (row for row in rows_of(tmp_path / "out.parquet") if row["error"] is not None)
    assert (reason["path"], found["rows"], found["unreadable"]) == (str(torn), 2, 1)
    assert reason["error"].startswith("cannot be read as a tar file to its end")


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_wrong_input_is_told_before_the_cluster_works(cluster: Any, tmp_path: Path) -> None:
    model = network().save(tmp_path / "model.safetensors")
    photos = class_folders(tmp_path / "photos", {"cat": 2})
    with pytest.raises(ConfigError, match=r"expected a name that ends in .parquet for Ray, got '.*out.csv'"):
        predict_on_ray(model, photos, tmp_path / "out.csv")
    with pytest.raises(DataError, match="expected a new folder, got one that holds something"):
        predict_on_ray(model, photos, photos.rename(tmp_path / "there.parquet"))
    with pytest.raises(DataError, match="expected a file, found none"):
        predict_on_ray(model, tmp_path / "nothing", tmp_path / "out.parquet")


def test_a_missing_ray_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"needs the extra 'ray'; install it with: pip install 'fovea\[ray\]'"):
        predict_on_ray("model.safetensors", tmp_path, tmp_path / "out.parquet")
