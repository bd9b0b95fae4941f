"""GoogLeNet, the first Inception network (Szegedy et al. 2014)."""

import lazy_loader as lazy

from shared import layers

from .blocks import classifier, conv_relu
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

# Module: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection.
_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLS = {"3b": "pool3", "4e": "pool4"}
_AUXILIARY = {"4a": "loss1", "4d": "loss2"}


def googlenet(x, classes, *, aux=False, third_kernel=5):
    """Yield the taps of GoogLeNet; layer names as in its Caffe model, `_` for `/`.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifiers.
        aux: Add the two auxiliary classifiers for training. `probs` is then a list: of the main
            classifier, of the one at 4a, of the one at 4d; the paper weighs their losses 1, .3, .3.
        third_kernel: 5 as in the paper, or 3 as in the ports that took over a known mistake; the
            layer is called `5x5` all the same.
    """
    x = conv_relu(x, 64, 7, 2, 3, name="conv1_7x7_s2")
    yield "conv1", x
    x = layers.CeilPool(3, 2, name="pool1_3x3_s2")(x)
    yield "pool1", x
    x = _norm(x, "pool1_norm1")
    yield "norm1", x
    x = conv_relu(x, 64, 1, name="conv2_3x3_reduce")
    yield "conv2_1", x
    x = conv_relu(x, 192, 3, name="conv2_3x3")
    yield "conv2_2", x
    x = _norm(x, "conv2_norm2")
    yield "norm2", x
    x = layers.CeilPool(3, 2, name="pool2_3x3_s2")(x)
    yield "pool2", x
    side = []
    for module, channels in _MODULES.items():
        name = f"inception_{module}"
        x = _inception(x, *channels, third_kernel, name)
        yield name, x
        if module in _AUXILIARY:
            side.append((_AUXILIARY[module], x))
        if pool := _POOLS.get(module):
            x = layers.CeilPool(3, 2, name=f"{pool}_3x3_s2")(x)
            yield pool, x
    for tap, end in classifier(x, classes, name="loss3_classifier", dropout=0.4):
        if tap == "probs" and aux:
            end = [end, *(_auxiliary_probs(x, classes, name) for name, x in side)]
        yield tap, end


def _norm(x, name):
    return layers.LRN(5, 1e-4, 0.75, k=1.0, normalize_by_n=True, name=name)(x)


def _inception(x, one, three_reduce, three, five_reduce, five, projection, third_kernel, name):
    second = conv_relu(x, three_reduce, 1, name=f"{name}_3x3_reduce")
    third = conv_relu(x, five_reduce, 1, name=f"{name}_5x5_reduce")
    fourth = keras.layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    branches = [
        conv_relu(x, one, 1, name=f"{name}_1x1"),
        conv_relu(second, three, 3, name=f"{name}_3x3"),
        conv_relu(third, five, third_kernel, name=f"{name}_5x5"),
        conv_relu(fourth, projection, 1, name=f"{name}_pool_proj"),
    ]
    return keras.layers.Concatenate(name=f"{name}_output")(branches)


def _auxiliary_probs(x, classes, name):
    x = layers.CeilPool(5, 3, mode="avg", name=f"{name}_ave_pool")(x)
    x = conv_relu(x, 128, 1, name=f"{name}_conv")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    x = keras.layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = keras.layers.Dropout(0.7, name=f"{name}_drop_fc")(x)
    x = keras.layers.Dense(classes, name=f"{name}_classifier")(x)
    return keras.layers.Activation("softmax", dtype="float32", name=f"{name}_probs")(x)


def _taps():
    yield from (Tap("conv1", 2, 64), Tap("pool1", 4, 64), Tap("norm1", 4, 64))
    yield from (Tap("conv2_1", 4, 64), Tap("conv2_2", 4, 192), Tap("norm2", 4, 192))
    yield Tap("pool2", 8, 192)
    total = 8
    for module, (one, _, three, _, five, projection) in _MODULES.items():
        channels = one + three + five + projection
        yield Tap(f"inception_{module}", total, channels)
        if module in _POOLS:
            total *= 2
            yield Tap(_POOLS[module], total, channels)
    yield from vector_taps(1024)


SPECS = (
    Spec(
        name="googlenet",
        build=googlenet,
        paper="Szegedy et al. 2014, arXiv:1409.4842",
        table="table 1",
        size=224,
        preprocessing="caffe_rounded",
        parameters=6_998_552,
        gmacs=1.583,
        body="inception_5b",
        taps=tuple(_taps()),
        minimum=31,
        note="The 5x5 kernels and the response normalisation of the paper, with the constants of "
        "Caffe. `aux=True` adds the two training classifiers (13,378,280 parameters); "
        "`third_kernel=3` is the network of torchvision and TensorFlow without their batch "
        "normalisation.",
    ),
)
