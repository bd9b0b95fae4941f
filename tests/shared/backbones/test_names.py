"""Names of layers in public files: each becomes the layer of ours that has its kernel."""

import keras
import numpy as np
import pytest
from caffe_files import caffe_layer
from comparing import pictures, randomise
from torch_files import save_state_dict

from shared import backbones
from shared.backbones.macs import abstract
from shared.backbones.names import translator

# Modules as torchvision and timm call them, `name channels kernel`; a kernel is square if it is
# one number.
INCEPTION_V3 = {
    "": "Conv2d_1a_3x3 32 3, Conv2d_2a_3x3 32 3, Conv2d_2b_3x3 64 3, Conv2d_3b_1x1 80 1, "
    "Conv2d_4a_3x3 192 3",
    **{
        f"Mixed_5{letter}": "branch1x1 64 1, branch5x5_1 48 1, branch5x5_2 64 5, "
        "branch3x3dbl_1 64 1, branch3x3dbl_2 96 3, branch3x3dbl_3 96 3, "
        f"branch_pool {pool} 1"
        for letter, pool in (("b", 32), ("c", 64), ("d", 64))
    },
    "Mixed_6a": "branch3x3 384 3, branch3x3dbl_1 64 1, branch3x3dbl_2 96 3, branch3x3dbl_3 96 3",
    **{
        f"Mixed_6{letter}": f"branch1x1 192 1, branch7x7_1 {q} 1, branch7x7_2 {q} 1x7, "
        f"branch7x7_3 192 7x1, branch7x7dbl_1 {q} 1, branch7x7dbl_2 {q} 7x1, "
        f"branch7x7dbl_3 {q} 1x7, branch7x7dbl_4 {q} 7x1, branch7x7dbl_5 192 1x7, "
        "branch_pool 192 1"
        for letter, q in (("b", 128), ("c", 160), ("d", 160), ("e", 192))
    },
    "Mixed_7a": "branch3x3_1 192 1, branch3x3_2 320 3, branch7x7x3_1 192 1, "
    "branch7x7x3_2 192 1x7, branch7x7x3_3 192 7x1, branch7x7x3_4 192 3",
    **{
        f"Mixed_7{letter}": "branch1x1 320 1, branch3x3_1 384 1, branch3x3_2a 384 1x3, "
        "branch3x3_2b 384 3x1, branch3x3dbl_1 448 1, branch3x3dbl_2 384 3, "
        "branch3x3dbl_3a 384 1x3, branch3x3dbl_3b 384 3x1, branch_pool 192 1"
        for letter in "bc"
    },
}
INCEPTION_V4 = {
    "": "features.0 32 3, features.1 32 3, features.2 64 3, features.3.conv 96 3, "
    "features.5.conv 192 3",
    "features.4": "branch0.0 64 1, branch0.1 96 3, branch1.0 64 1, branch1.1 64 1x7, "
    "branch1.2 64 7x1, branch1.3 96 3",
    **{
        f"features.{i}": "branch0 96 1, branch1.0 64 1, branch1.1 96 3, branch2.0 64 1, "
        "branch2.1 96 3, branch2.2 96 3, branch3.1 96 1"
        for i in range(6, 10)
    },
    "features.10": "branch0 384 3, branch1.0 192 1, branch1.1 224 3, branch1.2 256 3",
    **{
        f"features.{i}": "branch0 384 1, branch1.0 192 1, branch1.1 224 1x7, branch1.2 256 7x1, "
        "branch2.0 192 1, branch2.1 192 7x1, branch2.2 224 1x7, branch2.3 224 7x1, "
        "branch2.4 256 1x7, branch3.1 128 1"
        for i in range(11, 18)
    },
    "features.18": "branch0.0 192 1, branch0.1 192 3, branch1.0 256 1, branch1.1 256 1x7, "
    "branch1.2 320 7x1, branch1.3 320 3",
    **{
        f"features.{i}": "branch0 256 1, branch1_0 384 1, branch1_1a 256 1x3, branch1_1b 256 3x1, "
        "branch2_0 384 1, branch2_1 448 3x1, branch2_2 512 1x3, branch2_3a 256 1x3, "
        "branch2_3b 256 3x1, branch3.1 256 1"
        for i in range(19, 22)
    },
}
BLOCK8 = "branch0 192 1, branch1.0 192 1, branch1.1 224 1x3, branch1.2 256 3x1, conv2d* 2080 1"
INCEPTION_RESNET_V2 = {
    "": "conv2d_1a 32 3, conv2d_2a 32 3, conv2d_2b 64 3, conv2d_3b 80 1, conv2d_4a 192 3, "
    "conv2d_7b 1536 1",
    "mixed_5b": "branch0 96 1, branch1.0 48 1, branch1.1 64 5, branch2.0 64 1, branch2.1 96 3, "
    "branch2.2 96 3, branch3.1 64 1",
    **{
        f"repeat.{i}": "branch0 32 1, branch1.0 32 1, branch1.1 32 3, branch2.0 32 1, "
        "branch2.1 48 3, branch2.2 64 3, conv2d* 320 1"
        for i in range(10)
    },
    "mixed_6a": "branch0 384 3, branch1.0 256 1, branch1.1 256 3, branch1.2 384 3",
    **{
        f"repeat_1.{i}": "branch0 192 1, branch1.0 128 1, branch1.1 160 1x7, branch1.2 192 7x1, "
        "conv2d* 1088 1"
        for i in range(20)
    },
    "mixed_7a": "branch0.0 256 1, branch0.1 384 3, branch1.0 256 1, branch1.1 288 3, "
    "branch2.0 256 1, branch2.1 288 3, branch2.2 320 3",
    **{f"repeat_2.{i}": BLOCK8 for i in range(9)},
    "block8": BLOCK8,
}
FACE_BLOCK8 = "branch0 192 1, branch1.0 192 1, branch1.1 192 1x3, branch1.2 192 3x1, conv2d* 1792 1"
FACENET = {
    "": "conv2d_1a 32 3, conv2d_2a 32 3, conv2d_2b 64 3, conv2d_3b 80 1, conv2d_4a 192 3, "
    "conv2d_4b 256 3",
    **{
        f"repeat_1.{i}": "branch0 32 1, branch1.0 32 1, branch1.1 32 3, branch2.0 32 1, "
        "branch2.1 32 3, branch2.2 32 3, conv2d* 256 1"
        for i in range(5)
    },
    "mixed_6a": "branch0 384 3, branch1.0 192 1, branch1.1 192 3, branch1.2 256 3",
    **{
        f"repeat_2.{i}": "branch0 128 1, branch1.0 128 1, branch1.1 128 1x7, branch1.2 128 7x1, "
        "conv2d* 896 1"
        for i in range(10)
    },
    "mixed_7a": "branch0.0 256 1, branch0.1 384 3, branch1.0 256 1, branch1.1 256 3, "
    "branch2.0 256 1, branch2.1 256 3, branch2.2 256 3",
    **{f"repeat_3.{i}": FACE_BLOCK8 for i in range(5)},
    "block8": FACE_BLOCK8,
}


def units(modules):
    """Yield the names of convolutions and normalisations, and the kernels of the former."""
    for module, rows in modules.items():
        for row in rows.split(", "):
            name, channels, kernel = row.split()
            sides = kernel.split("x") * (1 if "x" in kernel else 2)
            path = f"{module}.{name}".strip(".").removesuffix("*")
            shape = (*map(int, sides), int(channels))
            if name.endswith("*"):  # a convolution without normalisation
                yield path, shape
            else:
                yield f"{path}.conv", shape
                yield f"{path}.bn", None


@pytest.mark.parametrize(
    ("name", "modules", "ends"),
    [
        ("inception_v3_torch", INCEPTION_V3, ["fc"]),
        ("inception_v4", INCEPTION_V4, ["last_linear"]),
        ("inception_resnet_v2_torch", INCEPTION_RESNET_V2, ["classif"]),
        ("inception_resnet_v1_facenet", FACENET, ["last_linear", "last_bn"]),
    ],
)
def test_every_module_of_timm_has_its_layer(name, modules, ends):
    ours = translator(backbones.spec(name))
    model = abstract(backbones.create, name)
    left = {layer.name: layer for layer in model.layers if layer.weights}
    for foreign, shape in (*units(modules), *((end, None) for end in ends)):
        layer = left.pop(ours(foreign))
        if shape is not None:
            assert (*layer.kernel_size, layer.filters) == shape, foreign
            assert type(layer).__name__ == "Conv2D"
        elif foreign.endswith("bn"):
            assert type(layer).__name__ == "BatchNormalization"
    assert not left


def xception_in_timm():
    """Yield the modules of timm's `legacy_xception` beside our layers."""
    for i in (1, 2):
        yield from ((f"conv{i}", f"block1_conv{i}"), (f"bn{i}", f"block1_conv{i}_bn"))
    for block in range(1, 13):
        ours, first = f"block{block + 1}", 0 if block == 1 else 1
        if block in (1, 2, 3, 12):
            yield f"block{block}.skip", f"{ours}_shortcut"
            yield f"block{block}.skipbn", f"{ours}_shortcut_bn"
        for i in range(2 if block in (1, 2, 3, 12) else 3):
            yield f"block{block}.rep.{first + 3 * i}", f"{ours}_sepconv{i + 1}"
            yield f"block{block}.rep.{first + 3 * i + 1}", f"{ours}_sepconv{i + 1}_bn"
    for i in (3, 4):
        yield f"conv{i}", f"block14_sepconv{i - 2}"
        yield f"bn{i}", f"block14_sepconv{i - 2}_bn"
    yield "fc", "predictions"


def test_separable_convolutions_of_timm_come_in_two_parts(tmp_path, rng):
    options = {"classes": 3, "input_shape": (75, 75, 3), "width": 0.05}
    model = randomise(backbones.create("xception_torch", **options), rng)
    state = {}
    for theirs, ours in xception_in_timm():
        arrays = model.get_layer(ours).get_weights()
        if len(arrays) == 4:
            roles = ("weight", "bias", "running_mean", "running_var")
        elif "sepconv" in ours:
            roles = ("conv1.weight", "pointwise.weight")
            arrays = [arrays[0].transpose(2, 3, 0, 1), arrays[1].transpose(3, 2, 0, 1)]
        else:
            roles = ("weight", "bias")
            axes = (3, 2, 0, 1) if arrays[0].ndim == 4 else (1, 0)
            arrays = [arrays[0].transpose(axes), *arrays[1:]]
        state.update({f"{theirs}.{r}": a for r, a in zip(roles, arrays, strict=False)})
    assert len(state) == 236
    save_state_dict(tmp_path / "a.pth", state)
    loaded = backbones.create("xception_torch", weights=tmp_path / "a.pth", **options)
    for found, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), err_msg=found.path)
    # Pools of torch have a border on all sides, here of an even map.
    places = [model.get_layer(f"block3_{place}").output for place in ("sepconv2_bn", "pool")]
    maps = keras.Model(model.input, places)(pictures(rng, 75, 1), training=False)
    before, after = (keras.ops.convert_to_numpy(found) for found in maps)
    assert before.shape[1] == 18
    around = np.pad(before, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(after, windows.max((-2, -1)))


def bn_inception_in_caffe():
    """Yield the names of BN-Inception's Caffe network beside ours, in the order of the file."""
    yield from (("conv1/7x7_s2", "conv1_1"), ("conv2/3x3_reduce", "conv2_1"))
    yield "conv2/3x3", "conv2_2"
    branches = {
        "1x1": "branch1_1",
        "3x3_reduce": "branch2_1",
        "3x3": "branch2_2",
        "double_3x3_reduce": "branch3_1",
        "double_3x3_1": "branch3_2",
        "double_3x3_2": "branch3_3",
        "pool_proj": "branch4_2",
    }
    for module in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        for theirs, branch in branches.items():
            if module in ("3c", "4e"):
                if theirs in ("1x1", "pool_proj"):
                    continue
                branch = branch.replace("branch2", "branch1").replace("branch3", "branch2")
            yield f"inception_{module}/{theirs}", f"inception_{module}_{branch}"


def test_the_caffe_file_of_bn_inception(tmp_path, rng):
    options = {"classes": 3, "input_shape": (32, 32, 3), "width": 0.05}
    model = randomise(backbones.create("bn_inception_caffe", **options), rng)
    content = b""
    for theirs, ours in bn_inception_in_caffe():
        kernel, bias = model.get_layer(f"{ours}_conv").get_weights()
        content += caffe_layer(theirs, "Convolution", kernel.transpose(3, 2, 0, 1), bias)
        norm = model.get_layer(f"{ours}_bn").get_weights()
        norm = [value.reshape(1, -1, 1, 1) for value in norm]
        content += caffe_layer(f"{theirs}_bn", "BN", *norm)
    kernel, bias = model.get_layer("predictions").get_weights()
    content += caffe_layer("loss3/classifier", "InnerProduct", kernel.T, bias)
    (tmp_path / "a.caffemodel").write_bytes(content)
    loaded = backbones.create("bn_inception_caffe", weights=tmp_path / "a.caffemodel", **options)
    for found, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), err_msg=found.path)
    port = translator(backbones.spec("bn_inception_caffe"))
    for theirs, ours in bn_inception_in_caffe():
        assert port(f"{theirs}_bn".replace("/", "_")) == f"{ours}_bn"


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("squeezenet1.1", {"conv1": "features.0", "fire2_squeeze1x1": "features.3.squeeze",
          "fire9_expand3x3": "features.12.expand3x3", "fire5_expand1x1": "features.7.expand1x1",
          "fire8_squeeze1x1": "features.11.squeeze", "conv10": "classifier.1"}),
        ("squeezenet1.0", {"fire4_squeeze1x1": "features.5.squeeze",
          "fire5_squeeze1x1": "features.7.squeeze", "fire9_expand1x1": "features.12.expand1x1"}),
        ("squeezenet1.1", {"fire2_squeeze1x1": "fire2/squeeze1x1", "conv10": "conv10"}),
        ("densenet121", {"conv1_conv": "features.conv0", "conv1_bn": "features.norm0",
          "conv2_block1_0_bn": "features.denseblock1.denselayer1.norm1",
          "conv5_block16_1_conv": "features.denseblock4.denselayer16.conv1",
          "conv3_block2_1_bn": "features.denseblock2.denselayer2.norm.2",
          "pool2_conv": "features.transition1.conv", "pool4_bn": "features.transition3.norm",
          "bn": "features.norm5", "predictions": "classifier"}),
        ("resnet50_v1.5", {"conv1_bn": "bn1", "conv3_block1_0_bn": "layer2.0.downsample.1",
          "conv5_block3_3_conv": "layer4.2.conv3", "predictions": "fc"}),
        ("resnet101", {"conv1_bn": "bn_conv1", "conv2_block1_0_conv": "res2a_branch1",
          "conv2_block2_3_bn": "bn2b_branch2c", "conv4_block23_2_conv": "res4b22_branch2b",
          "predictions": "fc1000"}),
        ("vgg16_torch", {"block1_conv1": "features.0", "block3_conv2": "features.12",
          "block5_conv3": "features.28", "fc1": "classifier.0", "predictions": "classifier.6"}),
        ("vgg11_torch", {"block2_conv1": "features.3", "block5_conv2": "features.18",
          "fc2": "pre_logits.fc2", "predictions": "head.fc"}),
        ("vgg19", {"block4_conv4": "conv4_4", "fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}),
        ("alexnet_owt", {"conv2": "features.3", "conv5": "features.10", "fc6": "classifier.1",
          "fc8": "classifier.6"}),
        ("nin", {"conv4": "conv4-1024", "cccp8": "cccp8-1024", "cccp1": "cccp1"}),
        ("mobilenet_v2_torch", {"Conv1": "features.0.0", "bn_Conv1": "features.0.1",
          "expanded_conv_depthwise": "features.1.conv.0.0",
          "expanded_conv_project": "features.1.conv.1",
          "expanded_conv_project_BN": "features.1.conv.2",
          "block_1_expand": "features.2.conv.0.0", "block_5_depthwise_BN": "features.6.conv.1.1",
          "block_16_project": "features.17.conv.2", "block_16_project_BN": "features.17.conv.3",
          "Conv_1_bn": "features.18.1", "predictions": "classifier.1"}),
        ("wrn-28-10", {"conv1_conv": "conv1", "conv3_block1_preact_bn": "block2.layer.0.bn1",
          "conv3_block1_0_conv": "block2.layer.0.convShortcut", "post_bn": "bn1",
          "conv4_block4_1_bn": "block3.layer.3.bn2", "conv2_block2_2_conv": "block1.layer.1.conv2",
          "predictions": "fc"}),
        ("googlenet", {"inception_3a_3x3_reduce": "inception_3a/3x3_reduce",
          "loss3_classifier": "loss3/classifier"}),
        ("vgg16_hed", {"block3_conv3": "block3/conv2d_2", "block1_conv1": "block1/conv2d",
          "side4": "dsn4", "fuse": "fuse"}),
    ],
)  # fmt: skip
def test_names_of_other_programs(name, theirs):
    ours = translator(backbones.spec(name))
    layers = {layer.name for layer in abstract(backbones.create, name).layers}
    for layer, foreign in theirs.items():
        assert layer in layers
        assert ours(foreign) == layer
