"""Every network of the registry against the figures of its paper, without allocating weights."""

import keras
import pytest

from shared import backbones
from shared.backbones.macs import abstract, layer_table
from shared.errors import ConvsuiteError

NAMES = backbones.list_networks()
# Half a minute each for the 1,202 layers, which are those of its smaller relatives, repeated.
QUICK = [
    pytest.param(name, marks=pytest.mark.slow) if name == "resnet1202" else name for name in NAMES
]


@pytest.mark.parametrize("name", QUICK)
def test_parameters_multiply_adds_and_taps_are_those_of_the_spec(name):
    spec = backbones.spec(name)
    names = [tap.name for tap in spec.taps]
    shape = (spec.size, spec.size, spec.channels)
    model = abstract(backbones.create, name, features=names, input_shape=shape)
    rows = layer_table(model)
    assert sum(row.parameters for row in rows) == spec.parameters
    assert sum(row.statistics for row in rows) == spec.statistics
    assert sum(row.macs for row in rows) / 1e9 == pytest.approx(spec.gmacs, rel=5e-3)
    by_name = {row.name: row for row in rows}
    for tap, tensor in zip(spec.taps, model.outputs, strict=True):
        row = by_name[tensor._keras_history.operation.name]
        assert (tap.name, row.stride, tensor.shape[-1]) == (tap.name, tap.stride, tap.channels)
    assert spec.body in names


@pytest.mark.parametrize("name", QUICK)
def test_the_minimal_size_is_the_smallest_that_works(name):
    spec = backbones.spec(name)
    shape = (spec.minimum, spec.minimum, spec.channels)
    model = abstract(backbones.create, name, input_shape=shape, top=False)
    assert min(model.output.shape[1:]) >= 1
    with pytest.raises(ConvsuiteError, match=f"at least {spec.minimum} x {spec.minimum}"):
        backbones.create(name, input_shape=(spec.minimum - 1, 400, spec.channels), top=False)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(ConvsuiteError, match="vgg16"):
        backbones.spec("vgg15")
    with pytest.raises(ConvsuiteError, match="conv3_3"):
        backbones.create("vgg16", features=["conv3_7"])
    with pytest.raises(ConvsuiteError, match="classes"):
        backbones.create("vgg16", classes=0)
    with pytest.raises(ConvsuiteError, match="variant"):
        backbones.create("vgg16", flavour="caffe")


@pytest.mark.parametrize(
    ("name", "layer", "tap"),
    [
        ("vgg19", "block3_conv1", "conv3_1"),
        ("vgg16", "block2_pool", "pool2"),
        ("vgg16", "fc2", "penultimate"),
        ("vgg16", "predictions", "probs"),
        ("resnet50_keras", "conv4_block6_out", "stage3.block6"),
        ("resnet50v2", "conv4_block5_out", "stage3.block5"),
        ("mobilenet_v1", "conv_pw_12_relu", "stage4.block1"),
        ("mobilenet_v2", "block_13_expand_relu", None),
        ("densenet121", "conv5_block16_concat", "stage4.block16"),
        ("xception", "block14_sepconv2_act", "stage4"),
    ],
)
def test_names_of_layers_of_keras_are_taps_too(name, layer, tap):
    spec = backbones.spec(name)
    theirs = abstract(getattr(keras.applications, spec.twin), weights=None).get_layer(layer)
    if tap is None:
        with pytest.raises(ConvsuiteError, match=f"no tap {layer}"):
            backbones.create(name, features=[layer])
        return
    shape = (spec.size, spec.size, 3)
    model = abstract(backbones.create, name, features=[layer, tap], input_shape=shape)
    assert model.outputs[0] is model.outputs[1]
    assert model.outputs[0].shape == theirs.output.shape
