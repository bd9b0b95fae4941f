"""Projections against explicit NumPy loops, hand-made networks, closed forms."""

import itertools

import cv2
import keras
import numpy as np
import pytest
from keras import ops

from shared import backbones, backend
from shared.backbones import look, visualise
from shared.backbones.macs import layer_table
from shared.backbones.visualise import GradCam, Projector, Unit, occlusion, strongest_units
from shared.errors import ConvsuiteError


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def toy(rng, *, activation="relu"):
    """Convolution, 2x2 maximum, convolution; on 9 x 9 x 2 pictures."""
    inputs = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(3, 2, padding="valid", activation=activation, name="first")(inputs)
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Conv2D(4, 3, padding="valid", activation=activation, name="second")(x)
    model = keras.Model(inputs, x)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    return model


def correlate(x, kernel, bias):
    size = x.shape[0] - kernel.shape[0] + 1
    out = np.zeros((size, size, kernel.shape[3]))
    for i, j in itertools.product(range(size), repeat=2):
        window = x[i : i + kernel.shape[0], j : j + kernel.shape[1]]
        out[i, j] = np.tensordot(window, kernel, 3) + bias
    return out


def transposed(signal, kernel):
    k = kernel.shape[0]
    size = signal.shape[0] + k - 1
    out = np.zeros((size, size, kernel.shape[2]))
    for i, j in itertools.product(range(signal.shape[0]), repeat=2):
        out[i : i + k, j : j + k] += kernel @ signal[i, j]
    return out


def by_hand(model, picture, unit, method):
    """Zeiler and Fergus, section 2.1, step by step, and the two relatives."""
    k1, b1, k2, b2 = (numpy(w).astype("float64") for w in model.weights)
    before1 = correlate(picture.astype("float64"), k1, b1)
    map1 = np.maximum(before1, 0)
    blocks = map1.reshape(4, 2, 4, 2, 3).transpose(0, 2, 1, 3, 4).reshape(4, 4, 4, 3)
    switches, pooled = blocks.argmax(2), blocks.max(2)
    before2 = correlate(pooled, k2, b2)

    def backwards(signal, before):
        if method != "gradient":
            signal = np.maximum(signal, 0)
        return signal if method == "deconvnet" else signal * (before > 0)

    signal = np.zeros_like(before2)
    signal[unit.row, unit.column, unit.channel] = unit.value if method == "deconvnet" else 1
    signal = transposed(backwards(signal, before2), k2)
    unpooled = np.zeros((4, 4, 4, 3))
    np.put_along_axis(unpooled, switches[:, :, None], signal[:, :, None], axis=2)
    signal = unpooled.reshape(4, 4, 2, 2, 3).transpose(0, 2, 1, 3, 4).reshape(8, 8, 3)
    return transposed(backwards(signal, before1), k1)


@pytest.mark.backends
@pytest.mark.parametrize("method", visualise.METHODS)
def test_projections_equal_an_explicit_implementation(method, rng):
    model = toy(rng)
    pictures = rng.normal(size=(3, 9, 9, 2)).astype("float32")
    maps = numpy(model(pictures))
    units = [max(row, key=lambda unit: unit.value) for row in strongest_units(maps)]
    signal = Projector(model, method)(pictures, units, maps.shape[1:])
    for picture, unit, found in zip(pictures, units, signal, strict=True):
        expected = by_hand(model, picture, unit, method)
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_without_rectifiers_the_methods_agree_up_to_the_seed(rng):
    model = toy(rng, activation=None)
    picture = rng.normal(size=(1, 9, 9, 2)).astype("float32")
    unit = strongest_units(numpy(model(picture)))[0][1]
    shape = model.output_shape[1:]
    found = {m: Projector(model, m)(picture, [unit], shape) for m in visualise.METHODS}
    np.testing.assert_allclose(found["guided"], found["gradient"], rtol=1e-5)
    np.testing.assert_allclose(found["deconvnet"], unit.value * found["gradient"], rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "weight", "expected"),
    [
        # y = weight * relu(x) with x = 3 and x = -2: who lets which signal pass?
        ("gradient", 1.0, [1, 0]),
        ("gradient", -1.0, [-1, 0]),
        ("guided", 1.0, [1, 0]),
        ("guided", -1.0, [0, 0]),
        ("deconvnet", 1.0, [1, 1]),
        ("deconvnet", -1.0, [0, 0]),
    ],
)
def test_one_rectifier_by_hand(method, weight, expected):
    inputs = keras.Input((1, 2, 1))
    x = keras.layers.ReLU()(inputs)
    x = keras.layers.Conv2D(1, (1, 2), use_bias=False, name="sum")(x)
    model = keras.Model(inputs, x)
    model.set_weights([np.full((1, 2, 1, 1), weight, "float32")])
    picture = np.array([3.0, -2.0], "float32").reshape(1, 1, 2, 1)
    signal = Projector(model, method)(picture, [Unit(0, 0, 0, 0, 1.0)], (1, 1, 1))
    assert signal.ravel().tolist() == expected


def test_the_ceiling_of_relu6_stops_gradients_and_not_the_deconvnet():
    inputs = keras.Input((1, 1, 1))
    model = keras.Model(inputs, keras.layers.ReLU(max_value=6.0)(inputs))
    picture = np.full((1, 1, 1, 1), 9.0, "float32")
    unit = [Unit(0, 0, 0, 0, 1.0)]
    found = {m: Projector(model, m)(picture, unit, (1, 1, 1)).item() for m in visualise.METHODS}
    assert found == {"deconvnet": 1.0, "gradient": 0.0, "guided": 0.0}


def test_local_normalisation_is_left_out_backwards(rng):
    from shared import layers

    inputs = keras.Input((3, 3, 8))
    x = layers.LRN(size=5, alpha=0.5, beta=0.75, k=1.0)(inputs)
    x = keras.layers.Conv2D(1, 3, use_bias=False)(x)
    model = keras.Model(inputs, x)
    picture = rng.normal(size=(1, 3, 3, 8)).astype("float32")
    kernel = numpy(model.weights[0])[..., 0]
    unit = [Unit(0, 0, 0, 0, 1.0)]
    deconvnet = Projector(model, "deconvnet")(picture, unit, (1, 1, 1))[0]
    gradient = Projector(model, "gradient")(picture, unit, (1, 1, 1))[0]
    np.testing.assert_allclose(deconvnet, kernel, rtol=1e-6)
    assert np.abs(gradient - kernel).max() > 0.1


def test_the_original_network_is_left_alone(rng):
    model = toy(rng)
    picture = rng.normal(size=(1, 9, 9, 2)).astype("float32")
    before = numpy(model(picture))
    visualise.with_rule(model, "guided")
    np.testing.assert_array_equal(numpy(model(picture)), before)
    assert model.get_layer("first").activation is keras.activations.relu
    with pytest.raises(ConvsuiteError, match="deconvnet, gradient, guided"):
        visualise.with_rule(model, "smoothgrad")


@pytest.mark.parametrize("seed", range(12))
def test_receptive_fields_are_the_support_of_the_gradient(seed):
    random = np.random.default_rng(seed)
    size = int(random.integers(16, 30))
    inputs = x = keras.Input((size, size, 1))
    for _ in range(int(random.integers(1, 4))):
        stride = int(random.integers(1, 3))
        kernel = int(random.integers(stride, 5))  # smaller ones leave holes between windows
        padding = str(random.choice(["same", "valid"]))
        if random.random() < 0.3:
            x = keras.layers.ZeroPadding2D(1)(x)
        if random.random() < 0.3:
            x = keras.layers.AveragePooling2D(kernel, stride, padding)(x)
        else:
            x = keras.layers.Conv2D(1, kernel, stride, padding, use_bias=False)(x)
    model = keras.Model(inputs, x)
    model.set_weights([np.ones(w.shape, "float32") for w in model.get_weights()])
    shape = model.output_shape[1:]
    unit = Unit(0, 0, int(random.integers(shape[0])), int(random.integers(shape[1])), 1.0)
    projector = Projector(model, "gradient")
    signal = projector(np.ones((1, size, size, 1), "float32"), [unit], shape)[0, ..., 0]
    rows, columns = projector.box(unit, (size, size))
    found = np.argwhere(signal != 0)
    assert found.min(0).tolist() == [rows.start, columns.start]
    assert (found.max(0) + 1).tolist() == [rows.stop, columns.stop]
    assert layer_table(model)[-1].receptive_field >= rows.stop - rows.start


def test_strongest_units_and_the_best_pictures_of_each_channel(rng):
    maps = rng.normal(size=(30, 4, 5, 3)).astype("float32")
    best = visualise.top_units(lambda batch: batch, np.split(maps, 6), count=4)
    for channel, units in enumerate(best):
        order = np.argsort(-maps[..., channel].max((1, 2)))[:4]
        assert [unit.picture for unit in units] == order.tolist()
        for unit in units:
            assert maps[unit.picture, unit.row, unit.column, channel] == np.float32(unit.value)


def test_occlusion_finds_the_object_and_covers_every_pixel():
    seen = np.zeros((32, 32), bool)

    def forward(batch):
        for picture in batch:
            seen[:] |= picture[..., 0] == -1
        bright = np.maximum(batch[..., :1] - 0.5, 0)
        share = bright.mean((1, 2, 3)) / bright[0].mean() if bright[0].any() else np.zeros(1)
        chance = np.clip(share, 0, 1)
        return bright, np.stack([1 - chance, chance], 1)

    picture = np.zeros((32, 32, 1), "float32")
    picture[20:26, 5:11] = 1

    def one(batch):  # each picture for itself, as a network does
        pairs = [forward(np.stack([picture, p])) for p in batch]
        return np.stack([m[1] for m, _ in pairs]), np.stack([c[1] for _, c in pairs])

    result = occlusion(one, picture, np.array([-1.0], "float32"), label=1)
    row, column = result.centre_of_minimum(8)
    assert abs(row - 23) <= 4
    assert abs(column - 8) <= 4
    assert result.whole == pytest.approx(1)
    assert result.probability.min() == pytest.approx(0, abs=1e-6)
    assert result.activation.min() == pytest.approx(0, abs=1e-6)
    assert result.labels.max() == 1
    assert seen.all()


@pytest.mark.backends
def test_gradcam_equals_the_class_activation_map_of_an_average_pooled_network(rng):
    inputs = keras.Input((16, 16, 3))
    maps = keras.layers.Conv2D(6, 3, 4, "same", activation="relu")(inputs)
    logits = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(inputs, [maps, logits])
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    picture = rng.random((16, 16, 3)).astype("float32")
    answers = numpy(model(picture[None])[0])[0] @ numpy(model.layers[-1].kernel)
    label = int(answers.max((0, 1)).argmax())
    expected = np.maximum(answers[..., label], 0)
    found = GradCam(model)(picture, label)
    assert expected.max() > 0
    enlarged = cv2.resize(expected, (16, 16), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(found, enlarged / enlarged.max(), atol=1e-5)


@pytest.mark.backends
def test_value_and_gradient_of_a_function_with_an_auxiliary_result():
    run = backend.value_and_grad(lambda x, y: (ops.sum(x * x * y), x + 1))
    (value, more), gradient = run(np.array([1.0, 2.0], "float32"), np.array([3.0, 4.0], "float32"))
    assert value == pytest.approx(19)
    assert more.tolist() == [2, 3]
    assert gradient.tolist() == [6, 16]


def test_gradcam_goes_by_the_last_convolution(monkeypatch):
    names = {"vgg16": "conv5_3", "alexnet": "conv5", "lenet5": "conv2", "resnet50": "stage4"}
    assert {name: look.last_maps(name) for name in names} == names
    inner = backbones.create("resnet20", features=["stage1", "logits"])
    GradCam(inner)
    lite = backbones.create("efficientnet_lite0", features=["x6", "logits"])
    with pytest.raises(ConvsuiteError, match="all signals pass"):
        GradCam(lite)


def test_areas_are_coloured_by_class_and_the_rare_ones_are_grey():
    labels = np.repeat([[7, 7, 7, 3], [1, 2, 4, 5], [7, 3, 3, 6]], 2, axis=0)
    picture = np.zeros((60, 40, 3), "uint8")
    shown, legend = visualise.areas(labels, picture, share=1.0)
    assert [(colour, one) for colour, one, _ in legend[:3]] == [
        ("blue", 7),
        ("orange", 3),
        ("green", 1),
    ]
    assert legend[-1][:2] == ("grey", None)
    assert [share for *_, share in legend] == pytest.approx([4 / 12, 3 / 12, *[1 / 12] * 3, 2 / 12])
    assert shown.shape == picture.shape
    assert tuple(shown[0, 0]) == (0, 114, 178)
    assert tuple(shown[0, 39]) == (230, 159, 0)
    assert tuple(shown[59, 39]) == (128, 128, 128)
    assert len(visualise.areas(np.full((2, 2), 9), picture)[1]) == 1


def test_sheets_have_white_gaps_and_signals_have_grey_zeros():
    shown = visualise.centred(np.array([[[-2.0], [0.0], [1.0]]]))
    assert shown.ravel().tolist() == [0, 128, 191]
    sheet = visualise.tiles([np.zeros((4, 4, 3), "uint8")] * 5, zoom=2, gap=2)
    assert sheet.shape == (18, 28, 3)
    assert (sheet[8:10] == 255).all()
