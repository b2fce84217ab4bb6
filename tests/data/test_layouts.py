"""Every layout of data on disk is found by itself and gives the samples and labels that were put in."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from fovea.data import load
from fovea.data.load import dataset
from fovea.errors import DataError
from tests.data import builders


def labels_of(split) -> list[str]:
    return [split.classes[target] for target in split.targets]


def test_class_folders_with_splits(tmp_path: Path) -> None:
    for name, count in (("train", 4), ("val", 2), ("test", 3)):
        builders.class_folders(tmp_path / name, {"cat": count, "dog": count}, start=len(name) * 77)
    data = dataset(tmp_path)
    assert (data.kind, data.task, data.classes) == ("image", "classification", ("cat", "dog"))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "val": 4, "test": 6}
    assert data.input_shape == (12, 12, 3)
    assert data.validation == "its own split"
    assert data.train.inputs.dtype == np.uint8
    assert labels_of(data.train) == [name.split("/")[1] for name in data.train.ids]
    red = data.train.inputs[data.train.targets == 0].mean(axis=(0, 1, 2))
    assert red[0] > 150 > red[1], "cats are red"


def test_class_folders_without_splits_give_a_stratified_validation(tmp_path: Path) -> None:
    data = dataset(builders.class_folders(tmp_path, {"cat": 40, "dog": 20}))
    assert data.test is None
    assert data.val is not None
    assert data.val.class_counts().tolist() == [4, 2]
    assert data.train.class_counts().tolist() == [36, 18]
    assert "6 of 60 training samples (10%), stratified, seed 0" in data.validation
    assert not set(data.train.ids) & set(data.val.ids)
    assert sorted([*data.train.indices, *data.val.indices]) == list(range(60))
    again = dataset(tmp_path)
    assert again.val is not None
    assert again.val.ids == data.val.ids
    other = dataset(tmp_path, seed=1)
    assert other.val is not None
    assert other.val.ids != data.val.ids
    assert dataset(tmp_path, val_fraction=0).val is None


def test_surrounding_folders_names_with_spaces_and_unicode(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "my photos" / "inner", {"großer Hund": 3, "猫 cat": 3})
    data = dataset(tmp_path, val_fraction=0)
    assert data.classes == ("großer Hund", "猫 cat")
    assert len(data.train) == 6


def test_integer_class_names_are_in_numeric_order(tmp_path: Path) -> None:
    data = dataset(builders.class_folders(tmp_path, {str(number): 2 for number in (10, 9, 2)}))
    assert data.classes == ("2", "9", "10")


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "elsewhere", {"cat": 3})
    home = builders.class_folders(tmp_path / "home", {"dog": 3})
    (home / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (home / "dog" / "round").symlink_to(home)
    (home / "hound").symlink_to(home / "dog")
    (home / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = dataset(home, val_fraction=0, max_bad=0.2)
    assert data.classes == ("cat", "dog", "hound")
    assert len(data.train) == 9
    assert [item.path for item in data.quarantined] == ["dog/gone.png", "hound/gone.png"]


def test_litter_and_empty_classes_are_noted(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "owl").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "cat" / "readme.txt").write_text("x")
    data = dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert "1 files of other types are ignored" in data.notes
    assert "class folder 'owl' is empty" in data.notes


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz", "all.zip"])
def test_an_archive_is_the_folder_that_it_holds(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    builders.class_folders(folder / "train", {"cat": 3, "dog": 3})
    builders.class_folders(folder / "test", {"cat": 2, "dog": 2}, start=500)
    plain = dataset(folder)
    from_archive = dataset(builders.packed(folder, tmp_path / name))
    assert from_archive.train.ids == plain.train.ids
    assert np.array_equal(from_archive.train.inputs, plain.train.inputs)
    assert from_archive.fingerprint == plain.fingerprint, "contents count, not where they lie"


def test_a_folder_of_train_and_test_archives(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "a" / "train", {"cat": 5, "dog": 5})
    builders.class_folders(tmp_path / "b", {"cat": 2, "dog": 2}, start=300)
    home = tmp_path / "home"
    home.mkdir()
    builders.packed(tmp_path / "a", home / "pets_train.tar.gz")
    builders.packed(tmp_path / "b", home / "pets_test.tar")
    np.savez(home / "extra.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))
    data = dataset(home)
    assert {name: split.listed for name, split in data.splits.items()} == {"train": 9, "val": 1, "test": 4}
    assert data.classes == ("cat", "dog")
    assert any("extra.npz" in note for note in data.notes)


def test_members_that_climb_out_of_an_archive_are_not_samples(tmp_path: Path) -> None:
    import io
    import tarfile

    image = builders.encoded(builders.picture((1, 2, 3), 0))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "../../a/evil.png"):
            member = tarfile.TarInfo(name)
            member.size = len(image)
            archive.addfile(member, io.BytesIO(image))
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "secret.png"
        archive.addfile(link)
    assert dataset(tmp_path / "x.tar", val_fraction=0).train.ids == ("a/1.png", "a/2.png", "b/1.png", "b/2.png")


def test_csv_of_labels(tmp_path: Path) -> None:
    builders.class_folders(tmp_path / "images", {"cat": 3, "dog": 3})
    rows = [
        f"images/{label}/{index:03d}.png,{label},{'test' if index == 2 else 'train'}"
        for label in ("cat", "dog")
        for index in range(3)
    ]
    table = tmp_path / "labels.csv"
    table.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    for path in (tmp_path, table):
        data = dataset(path, val_fraction=0)
        assert data.classes == ("cat", "dog")
        assert {name: len(split) for name, split in data.splits.items()} == {"train": 4, "test": 2}


def test_csv_of_values_is_regression(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 5})
    (tmp_path / "ages.csv").write_text(
        "file,value\n" + "".join(f"cat/{index:03d}.png,{index / 2}\n" for index in range(5))
    )
    data = dataset(tmp_path / "ages.csv", val_fraction=0.2)
    assert (data.task, data.classes, data.num_classes) == ("regression", (), 1)
    assert data.train.targets.shape == (4, 1)
    assert data.train.targets.dtype == np.float32
    assert data.val is not None
    assert sorted([*data.train.targets[:, 0], *data.val.targets[:, 0]]) == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_csv_without_header(tmp_path: Path) -> None:
    builders.class_folders(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "x.csv").write_text("cat/000.png,c\ncat/001.png,c\ndog/000.png,d\ndog/001.png,d\n")
    assert dataset(tmp_path / "x.csv", val_fraction=0).train.class_counts().tolist() == [2, 2]


def test_csv_of_files_without_suffix_and_of_missing_ones(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"{index}").write_bytes(builders.encoded(builders.picture((9, 9, 9), index)))
    (tmp_path / "x.csv").write_text("path,label\n" + "".join(f"{index},{index % 2}\n" for index in range(31)))
    data = dataset(tmp_path / "x.csv", val_fraction=0)
    assert (data.kind, len(data.train)) == ("image", 30)
    assert [(item.path, item.reason) for item in data.quarantined] == [
        ("30", "cannot be read: No such file or directory")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "needs columns path,label"),
        ("path,label\n", "has no rows"),
        ("path,label\ncat/000.png\n", "line 2] has 1 columns, 2 are expected"),
        ("path,label\n,cat\n", "line 2] has no path"),
        ("path,label\ncat/000.png,\n", "line 2] has no label"),
        ("path,value\ncat/000.png,1\ncat/001.png,nan\n", "line 3] has the value 'nan', a finite number is expected"),
        ("path,label,split\ncat/000.png,cat,holdout\n", "has the split 'holdout'"),
    ],
)
def test_bad_tables_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    builders.class_folders(tmp_path, {"cat": 2})
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError) as error:
        dataset(tmp_path / "x.csv")
    assert message in str(error.value)


def test_a_csv_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("path,label\nx.png,Bär\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        dataset(tmp_path / "x.csv")


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files(tmp_path: Path, zipped: bool) -> None:
    images, labels = builders.idx_folder(tmp_path, packed_too=zipped)
    data = dataset(tmp_path, val_fraction=0)
    assert data.input_shape == (6, 5, 1)
    assert np.array_equal(data.train.inputs[..., 0], images)
    assert np.array_equal(data.train.targets, labels)
    assert data.test is not None
    assert len(data.test) == 10
    one = dataset(tmp_path / f"train-images-idx3-ubyte{'.gz' if zipped else ''}", val_fraction=0)
    assert len(one.train) == 40


def test_several_idx_sets_in_one_folder(tmp_path: Path) -> None:
    builders.idx_folder(tmp_path, packed_too=False)
    for path in list(tmp_path.iterdir()):
        for prefix in ("emnist-letters", "emnist-digits"):
            (tmp_path / f"{prefix}-{path.name}").write_bytes(path.read_bytes())
        path.unlink()
    with pytest.raises(DataError, match=r"several IDX sets \(emnist-digits, emnist-letters\)"):
        dataset(tmp_path)
    data = dataset(tmp_path / "emnist-letters-train-images-idx3-ubyte")
    assert data.train.ids[0].startswith("emnist-letters-train-images")
    assert data.test is not None


def test_cifar_binary_and_pickles_hold_the_same(tmp_path: Path) -> None:
    binary, pickles = tmp_path / "bin", tmp_path / "py"
    binary.mkdir()
    pickles.mkdir()
    for number, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        images, labels = builders.cifar_batch(15, number)
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], builders.planes(images)], axis=1)
        (binary / f"{name}.bin").write_bytes(rows.tobytes())
        content = {b"data": builders.planes(images), b"labels": labels, b"batch_label": b"x"}
        (pickles / name).write_bytes(pickle.dumps(content, protocol=2 + number))
    first, second = dataset(binary, val_fraction=0), dataset(pickles, val_fraction=0)
    images, labels = builders.cifar_batch(15, 0)
    for data in (first, second):
        assert data.classes[3] == "cat"
        assert np.array_equal(data.train.inputs[:15], images)
        assert data.train.targets[:15].tolist() == labels
        assert data.test is not None
        assert len(data.test) == 15
    assert np.array_equal(first.train.inputs, second.train.inputs)


def test_npz_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (12, 7, 9, 3), dtype=np.uint8), np.arange(12) % 3
    np.savez_compressed(
        tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4], class_names=["a", "b", "c"]
    )
    for path in (tmp_path, tmp_path / "d.npz"):
        data = dataset(path, val_fraction=0)
        assert data.classes == ("a", "b", "c")
        assert data.input_shape == (7, 9, 3)
        assert np.array_equal(data.train.inputs, x)
        assert np.array_equal(data.train.targets, y)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "input_shape"),
    [
        ((6, 20), np.float32, "signal", (20, 1)),
        ((6, 20, 2), np.float64, "signal", (20, 2)),
        ((6, 4, 5, 6), np.float32, "volume", (4, 5, 6, 1)),
        ((6, 3, 8, 8, 3), np.uint8, "clip", (3, 8, 8, 3)),
        ((6, 8, 8), np.uint8, "image", (8, 8, 1)),
    ],
)
def test_npz_kinds_by_shape(tmp_path: Path, shape, dtype, kind: str, input_shape) -> None:
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    np.savez(tmp_path / "d.npz", images=values, labels=np.arange(6) % 2)
    data = dataset(tmp_path / "d.npz", val_fraction=0)
    assert data.kind == kind
    assert data.input_shape == input_shape
    assert data.train.inputs.shape == (6, *input_shape)


def test_npz_of_float_images_says_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 8, 8, 3), np.float32), labels=np.arange(4))
    with pytest.raises(DataError, match="make them uint8, or say kind='volume'"):
        dataset(tmp_path / "d.npz")


def test_npz_with_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.array([{"a": 1}], dtype=object), labels=np.arange(1))
    with pytest.raises(DataError, match="not plain numbers"):
        dataset(tmp_path / "d.npz")


def test_npz_without_the_expected_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", foo=np.zeros(3))
    with pytest.raises(DataError, match="holds foo; x_train and y_train, or images and labels, are expected"):
        dataset(tmp_path / "d.npz")
    with pytest.raises(DataError, match="holds foo; x_train"):
        dataset(tmp_path)


def test_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no layout that is known: one sub-folder per class"):
        dataset(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no files"):
        dataset(empty)
    builders.class_folders(tmp_path / "flat", {"cat": 2})
    with pytest.raises(DataError, match="no sub-folder per class"):
        dataset(tmp_path / "flat" / "cat")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_DATA", str(tmp_path))
    builders.idx_folder(tmp_path / "fashion-mnist")
    data = dataset("fashion-mnist")
    assert data.classes[9] == "Ankle boot"
    assert dataset("Fashion_MNIST").fingerprint == data.fingerprint
    builders.wav_files(tmp_path / "fsdd")
    assert dataset("fsdd").test is not None, "the name brings its pattern and its test rule"
    with pytest.raises(DataError, match=r"did you mean .*fashion-mnist"):
        dataset("fashon-mnist")
    monkeypatch.delenv("FOVEA_DATA")
    with pytest.raises(DataError, match="FOVEA_DATA is not set"):
        dataset("no such thing")


def test_digits_come_with_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    data = dataset("digits")
    assert data.input_shape == (8, 8, 1)
    assert {name: split.listed for name, split in data.splits.items()} == {"train": 1294, "val": 144, "test": 359}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "picture"}, "'picture' is not one of image, signal, volume, clip"),
        ({"task": "guess"}, "'guess' is not one of classification, regression"),
        ({"val_fraction": 1.5}, "must be at least 0 and below 1"),
        ({"max_bad": 7}, "must be a share from 0 to 1"),
        ({"size": 0}, "must be positive integers"),
        ({"size": (4, 4, 4)}, "one number or (height, width)"),
        ({"length": 100}, "is for signals and clips"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    builders.class_folders(tmp_path, {"cat": 2, "dog": 2})
    with pytest.raises(DataError) as error:
        load.dataset(tmp_path, **options)  # type: ignore[arg-type]
    assert message in str(error.value)
