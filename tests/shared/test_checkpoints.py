"""Readers of foreign weight files: equal to the programs that wrote them, deaf to hostile ones."""

import os
import pickle
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from torch_files import name, numbers, state_dict, storage, tensor, text, torch_legacy, torch_zip

from shared import checkpoints
from shared.checkpoints import torch_state
from shared.errors import WeightsError

VALUES = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_strides_and_offsets_of_tensors_are_honoured(tmp_path, write):
    content = state_dict(
        plain=tensor(storage("a", 12), 0, (3, 4), (4, 1)),
        turned=tensor(storage("a", 12), 0, (4, 3), (1, 4)),
        inner=tensor(storage("a", 12), 5, (2, 2), (4, 1)),
        scalar=tensor(storage("a", 12), 11, (), ()),
        nothing=tensor(storage("a", 12), 0, (0, 4), (4, 1)),
    )
    arrays = checkpoints.read(write(tmp_path / "any.name", content, a=VALUES))
    square = VALUES.reshape(3, 4)
    np.testing.assert_array_equal(arrays["plain"], square)
    np.testing.assert_array_equal(arrays["turned"], square.T)
    np.testing.assert_array_equal(arrays["inner"], square[1:, 1:3])
    assert arrays["scalar"] == 11
    assert arrays["nothing"].shape == (0, 4)


@pytest.mark.backends
@pytest.mark.parametrize("legacy", [False, True])
def test_equal_to_torch_load(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8, 2)
    )
    base = torch.randn(6, 5, 4)
    kinds = ("float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    state = {
        **model.state_dict(),
        "turned": base.permute(2, 0, 1),
        "part": base[1:4, 2:, ::2],
        "shared": base[0],
        "parameter": torch.nn.Parameter(base[2]),
        "empty": torch.zeros(0, 3),
        **{kind: (base * 9).to(getattr(torch, kind)) for kind in kinds},
    }
    file = tmp_path / "model.bin"
    whole = {"state_dict": state, "epoch": 3, "loss": 0.25, "notes": ["x", None, (1, 2)]}
    torch.save(whole, file, _use_new_zipfile_serialization=not legacy)
    expected = torch.load(file, weights_only=True)["state_dict"]
    arrays = checkpoints.read(file)
    assert list(arrays) == list(expected)
    for key, value in expected.items():
        value = value.detach()
        value = value.float() if value.dtype is torch.bfloat16 else value
        assert arrays[key].dtype == value.numpy().dtype, key
        np.testing.assert_array_equal(arrays[key], value.numpy(), err_msg=key)


@pytest.mark.backends
def test_a_state_dict_alone_with_version_numbers_of_modules(tmp_path):
    torch = pytest.importorskip("torch")
    state = torch.nn.BatchNorm2d(4).state_dict()
    assert state._metadata
    torch.save(state, tmp_path / "a.pth")
    assert checkpoints.read(tmp_path / "a.pth").keys() == state.keys()


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrapping", ["bare", "zip", "legacy", "state dict"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, wrapping, protocol):
    marker = tmp_path / "ran"
    evil = pickle.dumps(Evil(marker), protocol)
    file = tmp_path / "weights.pth"
    if wrapping == "bare":
        file.write_bytes(evil)
    elif wrapping == "zip":
        torch_zip(file, evil)
    elif wrapping == "legacy":
        torch_legacy(file, evil)
    else:
        torch_zip(file, state_dict(a=evil.removeprefix(b"\x80\x02").removesuffix(b".")))
    with pytest.raises(WeightsError, match=r"weights\.pth") as error:
        checkpoints.read(file)
    assert "\n" not in str(error.value)
    assert not marker.exists()
    pickle.loads(evil)  # the test itself: it would have run
    assert marker.exists()


def test_the_name_a_hostile_pickle_asks_for_is_told(tmp_path):
    file = torch_zip(tmp_path / "a.pth", pickle.dumps(Evil("/dev/null"), 2))
    with pytest.raises(WeightsError, match=r"asks for `posix\.system`"):
        checkpoints.read(file)


SMALL = tensor(storage("a", 12), 0, (3, 4), (4, 1))
OTHER = name("torch", "FloatStorage") + b"(tR"
TORCH_FAULTS = {
    "beyond": (state_dict(a=tensor(storage("a", 12), 1, (3, 4), (4, 1))), "does not fit"),
    "huge": (state_dict(a=tensor(storage("a", 12), 0, (2**30, 2**30), (0, 0))), "does not fit"),
    "negative stride": (state_dict(a=tensor(storage("a", 12), 11, (3,), (-1,))), "negative"),
    "negative offset": (state_dict(a=tensor(storage("a", 12), -4, (3,), (1,))), "negative"),
    "strides missing": (state_dict(a=tensor(storage("a", 12), 0, (3, 4), (1,))), "damaged"),
    "wrong count": (state_dict(a=tensor(storage("a", 13), 0, (3, 4), (4, 1))), "numbers"),
    "two kinds": (state_dict(a=SMALL, b=tensor(storage("a", 6, "LongStorage"), 0, (), ())), "two"),
    "calls a type": (state_dict(a=OTHER), "storage type"),
    "no tensors": (state_dict(a=text("x")), "no tensors"),
    "no dict": (b"\x80\x02" + SMALL + b".", "no state dict"),
    "cut off": (state_dict(a=SMALL)[:-9], "damaged|cut off"),
    "attributes": (b"\x80\x02" + name("collections", "OrderedDict") + b"}b.", "damaged"),
    "odd key": (b"\x80\x02}" + numbers(1) + b"K\x01s.", "key"),
    "subclass": (b"\x80\x02" + name("collections", "Counter") + b")R.", "collections.Counter"),
    "empty stack": (b"\x80\x02.", "damaged"),
    "view": (state_dict(a=tensor(storage("a", 12, view=numbers(1)), 0, (), ())), "kind of storage"),
}


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize("fault", TORCH_FAULTS)
def test_faulty_torch_files_are_refused(tmp_path, fault, write):
    content, message = TORCH_FAULTS[fault]
    file = write(tmp_path / "a.pth", content, a=VALUES)
    message = message if write is torch_zip else f"{message}|incomplete|damaged|cut off"
    with pytest.raises(WeightsError, match=message):
        checkpoints.read(file)


def test_a_pickle_that_asks_for_ever_more_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_state, "_MAX_INSTRUCTIONS", 1000)
    with pytest.raises(WeightsError, match="too many"):
        checkpoints.read(torch_zip(tmp_path / "a.pth", b"\x80\x02" + b"N" * 2000 + b"."))


# --- Keras ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="input")
    x = keras.layers.Conv2D(4, 3, name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.DepthwiseConv2D(3, name="deep")(x)
    x = keras.layers.Dropout(0.5, seed=1, name="drop")(x)
    x = keras.layers.Flatten(name="flat")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="last")(x), name="whole")
    model.set_weights([np.random.default_rng(0).random(w.shape) for w in model.get_weights()])
    return model


def arrays_of(model):
    return {
        (layer.name, i): keras.ops.convert_to_numpy(variable.value)
        for layer in model.layers
        for i, variable in enumerate(layer.weights)
    }


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_equal_to_what_keras_saved(tmp_path, network, suffix):
    file = tmp_path / f"model{suffix}"
    network.save_weights(file) if suffix == ".weights.h5" else network.save(file)
    file = file.rename(tmp_path / "no_suffix")
    arrays, expected = checkpoints.read(file), arrays_of(network)
    by_layer = {}
    for key, array in arrays.items():
        by_layer.setdefault(key.rpartition("/")[0], []).append(array)
    found = {(layer, i): a for layer, group in by_layer.items() for i, a in enumerate(group)}
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
    if suffix == ".h5":
        assert list(arrays)[:2] == ["first/kernel", "first/bias"]


def keras2(path, layers):
    """Write a weight file as Keras 2 did, with many layer names spread over attributes."""
    with h5py.File(path, "w") as file:
        names = [layer.encode() for layer in layers]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:1], names[1:]
        for layer, variables in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{v}:0".encode() for v in variables]
            for variable, array in variables.items():
                group[f"{layer}/{variable}:0"] = array
    return path


def test_files_of_keras_2(tmp_path):
    layers = {"b": {"kernel": VALUES, "bias": VALUES[:2]}, "a": {"gamma": VALUES[3:]}}
    arrays = checkpoints.read(keras2(tmp_path / "a.h5", layers))
    assert list(arrays) == ["b/kernel", "b/bias", "a/gamma"]
    np.testing.assert_array_equal(arrays["a/gamma"], VALUES[3:])


def test_layers_of_a_model_of_ones_own_go_by_their_path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in (0, 2, 10):
            file[f"block/layers/conv2d_{i}/vars/0"] = VALUES
        file["optimizer/vars/0"] = VALUES
    assert list(checkpoints.read(tmp_path / "a.h5")) == [f"block/conv2d_{i}/0" for i in (0, 2, 10)]


def external_link(file, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        other["0"] = VALUES
    file["layers/a/vars/0"] = h5py.ExternalLink("secret.h5", "/0")


def external_storage(file, folder):
    (folder / "secret.bin").write_bytes(VALUES.tobytes())
    file.create_dataset(
        "layers/a/vars/0", (12,), "<f4", external=[(str(folder / "secret.bin"), 0, 48)]
    )


def virtual(file, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        other["x"] = VALUES
    layout = h5py.VirtualLayout((12,), "<f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "x", (12,))
    file.create_virtual_dataset("layers/a/vars/0", layout)


def soft_link(file, folder):
    file["layers/a/vars/0"] = h5py.SoftLink("/elsewhere")


def cycle(file, folder):
    file.create_group("layers")["again"] = file["/"]


def unallocated(file, folder):
    file.create_dataset("layers/a/vars/0", (2**40,), "<f4", chunks=(1024,))


def bomb(file, folder):
    file.create_dataset("layers/a/vars/0", data=np.zeros(2**22, "f4"), compression="gzip")


def texts(file, folder):
    file["layers/a/vars/0"] = np.array([b"x", b"y"])


def promise(file, folder):
    file.attrs["layer_names"] = [b"a"]


H5_FAULTS = {
    external_link: "link",
    external_storage: "another file",
    virtual: "another file",
    soft_link: "link",
    cycle: "nested",
    unallocated: "claims",
    bomb: "claims",
    texts: "no numbers",
    promise: "does not hold it",
    (lambda file, folder: None): "no weights",
}


@pytest.mark.parametrize("fault", H5_FAULTS, ids=lambda fault: fault.__name__)
def test_faulty_hdf5_files_are_refused(tmp_path, fault):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fault(file, tmp_path)
    with pytest.raises(WeightsError, match=H5_FAULTS[fault]):
        checkpoints.read(tmp_path / "a.h5")


# --- plain arrays ---------------------------------------------------------------------------------


def test_npz_npy_and_safetensors(tmp_path):
    numpy_arrays = {"a/kernel": VALUES.reshape(3, 4), "b": np.float16([1, 2])}
    np.savez_compressed(tmp_path / "a.npz", **numpy_arrays)
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file(numpy_arrays, tmp_path / "a.safetensors")
    for suffix in ("npz", "safetensors"):
        arrays = checkpoints.read(tmp_path / f"a.{suffix}")
        assert arrays.keys() == numpy_arrays.keys()
        for key, array in numpy_arrays.items():
            np.testing.assert_array_equal(arrays[key], array)
    np.save(tmp_path / "a.npy", VALUES)
    np.testing.assert_array_equal(checkpoints.read(tmp_path / "a.npy")["array"], VALUES)


def test_bfloat16_in_safetensors(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file({"a": VALUES.astype(ml_dtypes.bfloat16)}, tmp_path / "a")
    array = checkpoints.read(tmp_path / "a")["a"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, VALUES)


def npy(header: bytes) -> bytes:
    padded = header + b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + bytes(48)


def huge_npy(path):
    path.write_bytes(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"))


def code_in_header(path):
    path.write_bytes(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (exit(),)}"))


def pickled_npy(path):
    np.save(path.with_suffix(".npy"), np.array([{}], object), allow_pickle=True)
    path.with_suffix(".npy").rename(path)


def pickled_npz(path):
    np.savez(path.with_suffix(".npz"), a=np.array([{}], object))
    path.with_suffix(".npz").rename(path)


def npz_bomb(path):
    np.savez_compressed(path.with_suffix(".npz"), a=np.zeros(2**24, np.float32))
    path.with_suffix(".npz").rename(path)


def keras_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**22))


def torch_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", state_dict(a=tensor(storage("a", 2**20), 0, (), ())))
        archive.writestr("x/data/a", bytes(2**22))


def safetensors_header(path):
    path.write_bytes(struct.pack("<Q", 2**50) + b"{}" + bytes(64))


def safetensors_shape(path):
    header = b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))


FILE_FAULTS = {
    huge_npy: "claims",
    code_in_header: "not a readable",
    pickled_npy: "pickle",
    pickled_npz: "pickle",
    npz_bomb: "claims",
    keras_bomb: "claims",
    torch_bomb: "claims",
    safetensors_header: "claims",
    safetensors_shape: "not a readable safetensors file",
    (lambda path: path.write_bytes(b"")): "it is empty",
    (lambda path: path.write_text("no weights at all")): "none of the known formats",
    (lambda path: path.write_text("\nno weights")): "neither a weight file|cut off",
    (lambda path: path.mkdir()): "no such weight file",
    (lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "x")): "not a readable|none of the",
}


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.__name__)
def test_faulty_files_are_refused_in_one_sentence(tmp_path, fault):
    fault(tmp_path / "weights")
    with pytest.raises(WeightsError, match=FILE_FAULTS[fault]) as error:
        checkpoints.read(tmp_path / "weights")
    assert str(error.value).startswith(str(tmp_path / "weights"))
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="no such weight file"):
        checkpoints.read(tmp_path / "weights.h5")


# --- Caffe ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net_parameter():
    """The class of the message, made by the protobuf library."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="caffe_test.proto", package="caffe_test")
    types = descriptor_pb2.FieldDescriptorProto
    kinds = {
        "string": types.TYPE_STRING,
        "int32": types.TYPE_INT32,
        "int64": types.TYPE_INT64,
        "float": types.TYPE_FLOAT,
        "double": types.TYPE_DOUBLE,
    }
    messages = {
        "Shape": (("dim", 1, "int64", True),),
        "Blob": (
            *((side, i, "int32", False) for i, side in enumerate("nchw", 1)),
            ("data", 5, "float", True),
            ("loose", 105, "float", True),
            ("shape", 7, "Shape", False),
            ("double_data", 8, "double", True),
        ),
        "Old": (
            ("bottom", 2, "string", True),
            ("name", 4, "string", False),
            ("type", 5, "int32", False),
            ("blobs", 6, "Blob", True),
        ),
        "Layer": (
            ("name", 1, "string", False),
            ("type", 2, "string", False),
            ("bottom", 3, "string", True),
            ("blobs", 7, "Blob", True),
        ),
        "Net": (
            ("name", 1, "string", False),
            ("layers", 2, "Old", True),
            ("input_dim", 4, "int32", True),
            ("layer", 100, "Layer", True),
        ),
    }
    for message, fields in messages.items():
        target = file.message_type.add(name=message)
        for field, number, kind, repeated in fields:
            entry = target.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in kinds:
                entry.type = kinds[kind]
            else:
                entry.type, entry.type_name = types.TYPE_MESSAGE, f".caffe_test.{kind}"
            if kind in ("float", "double", "int64"):
                entry.options.packed = field != "loose"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe_test.Net"))


def test_caffe_networks_as_protobuf_writes_them(tmp_path, net_parameter):
    net = net_parameter(name="net", input_dim=[1, 3, 8, 8])
    layer = net.layer.add(name="conv", type="Convolution", bottom=["data"])
    layer.blobs.add(shape={"dim": [2, 3, 2, 1]}, data=VALUES)
    layer.blobs.add(shape={"dim": [2]}, double_data=[0.1, 0.2])
    net.layer.add(name="relu", type="ReLU")
    layer = net.layer.add(name="norm", type="BatchNorm")
    for size in (2, 2, 1):
        layer.blobs.add(shape={"dim": [size]}, data=VALUES[1 : size + 1])
    net.layer.add(name="scale", type="Scale").blobs.add(shape={"dim": [12]}, data=VALUES)
    net.layer.add(name="own", type="Octree").blobs.add(shape={"dim": [12]}, data=VALUES)
    (tmp_path / "a").write_bytes(net.SerializeToString())
    arrays = checkpoints.read(tmp_path / "a")
    assert list(arrays) == [
        "conv/weight",
        "conv/bias",
        "norm/mean",
        "norm/variance",
        "norm/factor",
        "scale/gamma",
        "own/0",
    ]
    np.testing.assert_array_equal(arrays["conv/weight"], VALUES.reshape(2, 3, 2, 1))
    np.testing.assert_array_equal(arrays["conv/bias"], [0.1, 0.2])
    assert [layer.type for layer in checkpoints.read_layers(tmp_path / "a")][-1] == "Octree"


def test_old_caffe_networks(tmp_path, net_parameter):
    net = net_parameter()
    layer = net.layers.add(name="conv", type=4)
    layer.blobs.add(n=2, c=3, h=2, w=1, data=VALUES)
    layer.blobs.add(n=1, c=1, h=1, w=2, data=VALUES[:2])
    net.layers.add(name="fc", type=14).blobs.add(n=1, c=1, h=3, w=4, data=VALUES)
    content = net.SerializeToString()
    # Numbers one by one instead of packed, as some old files have them: field 105 for 5.
    loose = net_parameter()
    loose.layers.add(name="fc", type=14).blobs.add(n=1, c=1, h=3, w=4, loose=VALUES)
    wide_key, narrow_key = bytes([0xCD, 0x06]), bytes([5 << 3 | 5])
    blob = loose.layers[0].blobs[0].SerializeToString().replace(wide_key, narrow_key)
    parts = (b"\x22\x02f2", b"\x28\x0e", b"\x32", bytes([len(blob)]), blob)
    layer = b"".join(parts)
    (tmp_path / "a").write_bytes(content + b"\x12" + bytes([len(layer)]) + layer)
    arrays = checkpoints.read(tmp_path / "a")
    assert {key: array.shape for key, array in arrays.items()} == {
        "conv/weight": (2, 3, 2, 1),
        "conv/bias": (2,),
        "fc/weight": (3, 4),
        "f2/weight": (3, 4),
    }
    np.testing.assert_array_equal(arrays["f2/weight"], VALUES.reshape(3, 4))


@pytest.mark.parametrize("dim", [[2**40, 2**40], [13], [-1], []])
def test_sizes_a_caffe_network_claims_are_checked(tmp_path, net_parameter, dim):
    net = net_parameter()
    net.layer.add(name="a", type="Scale").blobs.add(shape={"dim": dim}, data=VALUES)
    (tmp_path / "a").write_bytes(net.SerializeToString())
    with pytest.raises(WeightsError, match="claims the shape"):
        checkpoints.read(tmp_path / "a")


# --- every format, cut off and damaged ------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(tmp_path_factory, network):
    folder = tmp_path_factory.mktemp("samples")
    network.save_weights(folder / "m.weights.h5")
    network.save(folder / "m.keras")
    network.save(folder / "m.h5")
    content = state_dict(a=SMALL)
    torch_zip(folder / "m.zip", content, a=VALUES)
    torch_legacy(folder / "m.pth", content, a=VALUES)
    np.savez(folder / "m.npz", a=VALUES)
    np.save(folder / "m.npy", VALUES)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


SAMPLES = ("m.weights.h5", "m.keras", "m.h5", "m.zip", "m.pth", "m.npz", "m.npy")


@pytest.mark.parametrize("sample", SAMPLES)
def test_truncated_files_are_refused(tmp_path, samples, sample):
    content = samples[sample]
    for length in sorted({1, 4, 20, len(content) // 3, len(content) // 2, len(content) - 1}):
        (tmp_path / "a").write_bytes(content[:length])
        with pytest.raises(WeightsError) as error:
            checkpoints.read(tmp_path / "a")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("sample", SAMPLES)
def test_damaged_files_are_read_or_refused(tmp_path, samples, sample):
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        content = bytearray(samples[sample])
        for place in random.integers(0, min(len(content), 600), 3):
            content[place] = random.integers(256)
        (tmp_path / "a").write_bytes(content)
        try:
            checkpoints.read(tmp_path / "a")
        except WeightsError:
            refused += 1
    assert refused > 0


def test_content_and_not_the_name_tells_the_format(tmp_path, samples):
    formats = ("keras", "keras", "keras", "torch", "torch", "npz", "npy")
    for sample, expected in zip(SAMPLES, formats, strict=True):
        (tmp_path / "picture.jpg").write_bytes(samples[sample])
        assert checkpoints.detect(tmp_path / "picture.jpg") == expected
