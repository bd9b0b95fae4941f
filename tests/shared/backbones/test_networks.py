"""Every network of the registry against the figures of its paper, without allocating weights."""

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
