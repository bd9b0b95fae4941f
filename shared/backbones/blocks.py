"""The few steps that most families share; layer names follow `keras.applications`."""

import lazy_loader as lazy

keras = lazy.load("keras")
layers = lazy.load("shared.layers")


def pad(x, size: int, name: str):
    """Pad a map with zeros on all four sides."""
    return keras.layers.ZeroPadding2D(size, name=name)(x) if size else x


def conv_bn(
    x,
    channels: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | str = "same",
    *,
    name: str,
    epsilon: float = 1e-3,
    scale: bool = True,
    bias: bool = False,
    groups: int = 1,
    activation: str | None = "relu",
):
    """Convolution, batch normalisation, activation: `NAME_conv`, `NAME_bn`, `NAME_relu`.

    Args:
        x: `(batch, height, width, channels)`.
        channels: Filters.
        kernel: Side of the kernel, or height and width.
        stride: Step of the kernel.
        padding: `same`, `valid`, or a number of zeros on every side, as Caffe and torch pad.
        name: Prefix of the layer names.
        epsilon: Of the normalisation.
        scale: The normalisation has a gamma.
        bias: The convolution has a bias beside the normalisation, as Keras' ResNets have.
        groups: Of the convolution.
        activation: None leaves it out.
    """
    if isinstance(padding, int):
        x, padding = pad(x, padding, f"{name}_pad"), "valid"
    x = _conv(channels, kernel, stride, padding, groups=groups, use_bias=bias, name=f"{name}_conv")(
        x
    )
    x = keras.layers.BatchNormalization(epsilon=epsilon, scale=scale, name=f"{name}_bn")(x)
    return keras.layers.Activation(activation, name=f"{name}_relu")(x) if activation else x


def bn_relu(x, *, name: str, epsilon: float = 1e-3):
    """Normalise and rectify in front of a convolution: `NAME_bn`, `NAME_relu`."""
    x = keras.layers.BatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def conv_relu(
    x,
    channels: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | str = "same",
    *,
    name: str,
    groups: int = 1,
):
    """Convolution with bias and ReLU in one layer called NAME; arguments as in `conv_bn`."""
    if isinstance(padding, int):
        x, padding = pad(x, padding, f"{name}_pad"), "valid"
    return _conv(channels, kernel, stride, padding, groups=groups, activation="relu", name=name)(x)


def _conv(*shape, groups: int, **options):
    """Return a convolution, of Keras' own class where there is one group."""
    if groups == 1:
        return keras.layers.Conv2D(*shape, **options)
    return layers.GroupedConv2D(*shape, groups=groups, **options)


def classifier(x, classes: int, *, name: str = "predictions", dropout: float = 0.0):
    """Yield the usual end of a network: global average, logits, probabilities.

    The softmax runs in float32 whatever precision the network has.
    """
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    yield "penultimate", x
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(classes, name=name)(x)
    yield "logits", x
    yield "probs", keras.layers.Activation("softmax", dtype="float32", name="probs")(x)


def class_maps(x):
    """Yield the end of a network whose last convolution makes one map per class: means, softmax."""
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    yield "logits", x
    yield "probs", keras.layers.Activation("softmax", dtype="float32", name="probs")(x)
