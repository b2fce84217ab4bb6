"""The model as users hold it: calling, predicting, freezing, summarising."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.errors import ConfigError, DataError, GraphError, ShapeError
from fovea.graph.graph import Graph, Ref
from fovea.model import Model
from fovea.ops import Softmax
from tests.model.test_model_file import small_model


def images(n: int, seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_pixels_inside_the_plan_equal_pixels_outside():
    model = small_model()
    batch = images(5)
    outside = model(model.preprocessing.apply_pixels(batch))
    np.testing.assert_allclose(model.logits(batch), outside, rtol=0, atol=1e-5)


def test_chunks_do_not_change_what_comes_out(monkeypatch):
    model = small_model()
    x = np.random.default_rng(1).standard_normal((11, 16, 16, 3)).astype(np.float32)
    whole = model(x)
    monkeypatch.setattr("fovea.inference._CHUNK_BYTES", 3 * model.summary().totals["activation_bytes"])
    np.testing.assert_allclose(small_model()(x), whole, rtol=1e-5, atol=1e-6)


def test_kept_activations_by_name():
    model = small_model()
    x = np.random.default_rng(2).standard_normal((3, 16, 16, 3)).astype(np.float32)
    result = model.forward(x, keep=["stem", "relu1"])
    assert result["stem"].shape == (3, 8, 8, 6)
    assert (result["relu1"] >= 0).all()
    np.testing.assert_allclose(result["outputs"], model(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(GraphError, match="near names: stem"):
        model.forward(x, keep=["sten"])


def test_a_network_that_ends_in_softmax_is_read_as_probabilities():
    """As files of other systems may: softmax of softmax would make all classes alike."""
    plain = small_model()
    soft = Model.from_store(
        Graph.from_nodes(
            [
                *((n.name, n.op, n.inputs) for n in plain.graph.nodes.values()),
                ("last", Softmax(1), plain.graph.outputs),
            ],
            plain.graph.inputs,
            [Ref("last")],
        ),
        plain.store,
        plain.classes,
        plain.preprocessing,
    )
    batch = images(3)
    assert soft.gives_probabilities
    assert not plain.gives_probabilities
    np.testing.assert_allclose(soft(np.zeros((1, 16, 16, 3), np.float32)).sum(), 1, atol=1e-6)
    for ours, expected in zip(soft.predict(batch), plain.predict(batch), strict=True):
        assert dict(ours.top) == pytest.approx(dict(expected.top), abs=1e-6)


def test_predictions_from_arrays_and_files(tmp_path):
    model = small_model()
    batch = images(2, size=40)
    Image.fromarray(batch[0]).save(tmp_path / "a.png")
    Image.fromarray(batch[1]).save(tmp_path / "b.png")
    from_files = model.predict([tmp_path / "a.png", tmp_path / "b.png"], top_k=2)
    from_arrays = model.predict(list(batch), top_k=2)
    assert [p.to_dict() for p in from_files] == [p.to_dict() for p in from_arrays]
    assert model.predict(tmp_path / "a.png")[0].label == from_files[0].label
    assert model.predict(batch[0])[0].label in model.classes
    with pytest.raises(DataError, match="expected a file, found none"):
        model.predict(tmp_path / "c.png")


def test_images_of_pillow_are_what_their_files_would_be(tmp_path):
    model = small_model()
    (pixels,) = images(1, size=40)
    turned = Image.Exif()
    turned[0x112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=turned)
    (from_file,) = model.predict(tmp_path / "a.png")
    opened = Image.open(tmp_path / "a.png")
    assert model.predict(opened)[0] == model.predict([pixels, opened])[1] == from_file
    assert model.predict(Image.fromarray(pixels).convert("RGBA"))[0] == model.predict(pixels)[0] != from_file
    with pytest.raises(DataError, match="F pixels"):
        model.predict(Image.new("F", (8, 8)))


def test_nothing_to_predict_is_no_mistake():
    assert small_model().predict([]) == []
    assert small_model().predict(images(2)[:0]) == []


def test_a_model_without_preprocessing_says_so():
    model = small_model()
    model.preprocessing = None
    with pytest.raises(DataError, match="call model\\(x\\) with float32"):
        model.predict(images(1))


def test_wrong_inputs_are_refused_in_one_line():
    model = small_model()
    with pytest.raises(ShapeError, match="expected input"):
        model(np.zeros((1, 16, 16, 4), np.float32))
    with pytest.raises(ShapeError, match="one image is image\\[None\\]"):
        model(np.zeros((0, 16, 16, 3), np.float32))
    with pytest.raises(ConfigError, match="expected 3 class names"):
        fovea.Model(fovea.Dense(3), (5,), classes=["a", "b"])


def test_freezing_by_path_prefix_and_pattern():
    model = small_model()
    everything = len(model.trainable)
    model.freeze("stem", "*.bias")
    assert not [path for path in model.trainable if path.startswith("stem") or path.endswith("bias")]
    model.unfreeze("head.bias")
    assert "head.bias" in model.trainable
    model.unfreeze()
    assert len(model.trainable) == everything
    with pytest.raises(GraphError, match="which matches nothing"):
        model.freeze("stage9")


def test_summary_counts_what_the_arrays_hold():
    model = small_model()
    summary = model.summary()
    assert summary.totals["parameters"] == sum(array.size for array in model.parameters().values())
    row = next(row for row in summary.rows if row["name"] == "stem")
    assert row["macs"] == 8 * 8 * 9 * 3 * 6
    assert row["receptive_field"] == [3, 3]
    assert "small: " in str(summary)
