import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from shared import assets, weights, weights_cli
from shared.errors import WeightsError
from shared.weights import Card


@keras.saving.register_keras_serializable("convsuite")
class Doubling(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def small_network(width=4):
    inputs = keras.Input((None, None, 3), name="picture")
    features = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(inputs)
    features = keras.layers.BatchNormalization()(Doubling()(features))
    return keras.Model(inputs, keras.layers.Conv2D(3, 1, dtype="float32", name="out")(features))


def network_of_several_inputs():
    # Names out of alphabetical order and equal shapes: a mix-up changes the result.
    first = keras.Input((None, None, 3), name="zeta")
    second = keras.Input((None, None, 3), name="alpha")
    scale = keras.Input((4,), name="scale")
    left = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(first)
    right = keras.layers.Conv2D(4, 3, padding="same")(second)
    gain = keras.layers.Reshape((1, 1, 4))(keras.layers.Dense(4)(scale))
    mixed = keras.layers.BatchNormalization()(left + 2 * right + gain)
    return keras.Model([first, second, scale], [mixed, keras.layers.GlobalAveragePooling2D()(left)])


def picture(height=8, width=6):
    return np.random.default_rng(0).random((1, height, width, 3), np.float32)


def predict(network, *inputs):
    return keras.ops.convert_to_numpy(network(*inputs, training=False))


def card(name="look", **changes):
    return Card(app="enhance", name=name, licence="MIT", **changes)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "look.keras"
    weights.save_model(small_network(), path, card())
    return path


@pytest.fixture
def saved(original, tmp_path):
    return shutil.copytree(original.parent, tmp_path / "files") / original.name


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two empty roots of installed weights: (shipped, of the user)."""
    shipped, user = tmp_path / "shipped", tmp_path / "user"
    monkeypatch.setattr(assets, "weights_dir", lambda: shipped)
    monkeypatch.setattr(weights, "user_dir", lambda: user)
    return shipped, user


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def refused(path, app="enhance"):
    """Return the one sentence with which a file is refused."""
    with pytest.raises(WeightsError) as caught:
        weights.load_model(path, app)
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    return message


def repack(path, target, change):
    """Write an archive whose members went through `change`, with a card that fits it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)
    weights.write_card(target, card(target.stem))
    return target


def with_config(path, target, change):
    def change_members(members):
        config = json.loads(members["config.json"])
        change(config)
        return members | {"config.json": json.dumps(config)}

    return repack(path, target, change_members)


@pytest.mark.backends
def test_saved_network_computes_the_same(tmp_path):
    network = small_network()
    weights.save_model(network, tmp_path / "look.keras", card())
    loaded = weights.load_model(tmp_path / "look.keras", "enhance")
    np.testing.assert_array_equal(predict(loaded, picture()), predict(network, picture()))


def test_card_is_filled_in(saved):
    written = weights.read_card(saved)
    content = saved.read_bytes()
    assert written.sha256 == hashlib.sha256(content).hexdigest()
    assert (written.file, written.bytes) == ("look.keras", len(content))
    assert written == weights.read_card(saved.with_suffix(".json"))
    assert sorted(file.name for file in saved.parent.iterdir()) == ["look.json", "look.keras"]


def test_optimizer_is_left_out(tmp_path):
    network = small_network()
    network.compile("adam", "mse")
    network.optimizer.build(network.trainable_variables)
    weights.save_model(network, tmp_path / "look.keras", card())
    with (
        zipfile.ZipFile(tmp_path / "look.keras") as archive,
        archive.open("model.weights.h5") as stream,
        h5py.File(stream) as store,
    ):
        names = []
        store.visit(names.append)
    assert not [name for name in names if "optimizer" in name]
    assert network.optimizer is not None


def test_killed_save_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        weights.save_model(small_network(), saved, card())
    assert saved.read_bytes() == before
    assert weights.verify(saved) == []


def test_mixed_precision_follows_the_policy_in_force(tmp_path, policy):
    policy("mixed_bfloat16")
    weights.save_model(small_network(), tmp_path / "look.keras", card())
    policy("float32")
    layers = weights.load_model(tmp_path / "look.keras", "enhance").layers[1:]
    assert {layer.compute_dtype for layer in layers} == {"float32"}
    policy("mixed_bfloat16")
    layers = weights.load_model(tmp_path / "look.keras", "enhance").layers[1:]
    assert [layer.compute_dtype for layer in layers] == ["bfloat16"] * (len(layers) - 1) + [
        "float32"
    ]


def test_weights_of_another_application(saved):
    assert "belong to enhance, not to track" in refused(saved, "track")


def test_missing_card(saved):
    saved.with_suffix(".json").unlink()
    assert "card look.json is missing" in refused(saved)


def test_missing_file(saved):
    saved.unlink()
    assert "weight file is missing" in refused(saved)


def test_changed_file(saved):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    assert "checksum differs" in refused(saved)
    assert len(weights.verify(saved)) == 1


@pytest.mark.parametrize("kept", [0, 1, 100, -30, -1])
def test_truncated_archive(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    weights.write_card(saved, card())
    assert "not a readable .keras file" in refused(saved)


def test_pickle_in_disguise(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "look.keras"
    path.write_bytes(pickle.dumps(Payload()))
    weights.write_card(path, card())
    assert "not a readable .keras file" in refused(path)
    assert not (tmp_path / "executed").exists()


def test_lambda_layer(tmp_path):
    inputs = keras.Input((4,))
    network = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs))
    path = tmp_path / "look.keras"
    network.save(path)
    weights.write_card(path, card())
    assert "Lambda, which runs code" in refused(path)
    with pytest.raises(WeightsError, match="Lambda"):
        weights.save_model(network, tmp_path / "other.keras", card("other"))


@pytest.mark.parametrize("class_name", ["TFSMLayer", "TorchModuleWrapper", "JaxLayer"])
def test_layers_that_hold_code(saved, class_name):
    def change(config):
        config["config"]["layers"][1]["class_name"] = class_name

    hostile = with_config(saved, saved.with_name("hostile.keras"), change)
    assert "runs code" in refused(hostile)


@pytest.mark.parametrize(
    ("module", "class_name", "registered_name"),
    [("os", "system", None), ("os", "system", "os>system"), ("subprocess", "Popen", "Popen")],
)
def test_foreign_module(saved, module, class_name, registered_name):
    def change(config):
        config["config"]["layers"][1] |= {
            "module": module,
            "class_name": class_name,
            "registered_name": registered_name,
            "config": "true",
        }

    hostile = with_config(saved, saved.with_name("hostile.keras"), change)
    assert f"code from the module {module}" in refused(hostile)


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "keras.utils", "class_name": "get_file", "registered_name": None},
        {"module": "os", "class_name": "system", "registered_name": "convsuite>system"},
        {"module": "keras.src.utils.io_utils", "class_name": "print_msg", "registered_name": None},
    ],
)
def test_entries_that_keras_refuses(saved, entry):
    def change(config):
        config["config"]["layers"][1] |= entry

    hostile = with_config(saved, saved.with_name("hostile.keras"), change)
    assert "Keras cannot load it" in refused(hostile)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "/tmp/evil.txt",
        "assets/evil.txt",
        "assets/layers/../evil.txt",
        "assets/layers/words/evil.py",
    ],
)
def test_foreign_members(saved, name):
    hostile = repack(
        saved, saved.with_name("hostile.keras"), lambda members: members | {name: b"evil"}
    )
    assert "must hold exactly" in refused(hostile)


def test_member_that_unpacks_to_more_than_the_file(saved):
    hostile = saved.with_name("bomb.keras")
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(hostile, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content + bytes(10**7) if name.endswith(".h5") else content)
    weights.write_card(hostile, card("bomb"))
    assert "unpack to more than the file holds" in refused(hostile)


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 200_000, b'{"class_name": []}']
)
def test_damaged_configuration(saved, config):
    hostile = repack(
        saved,
        saved.with_name("damaged.keras"),
        lambda members: members | {"config.json": config},
    )
    refused(hostile)


def test_weights_of_another_shape(saved, tmp_path):
    other = tmp_path / "wide.keras"
    weights.save_model(small_network(width=5), other, card("wide"))
    with zipfile.ZipFile(other) as archive:
        store = archive.read("model.weights.h5")
    hostile = repack(
        saved,
        saved.with_name("mixed.keras"),
        lambda members: members | {"model.weights.h5": store},
    )
    assert "Keras cannot load it" in refused(hostile)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: b"", "not a readable card"),
        (lambda _: b"{'app': 1}", "not a readable card"),
        (lambda _: b"\xff\x00", "not a readable card"),
        (lambda _: b"[" * 100_000, "not a readable card"),
        (lambda _: b" " * (2 << 20), "too large for a card"),
        (lambda _: b"[]", "holds no object"),
        (lambda entries: entries | {"colour": 1}, "colour is unknown"),
        (lambda entries: {**entries, "bytes": "12"}, "bytes must be of type int"),
        (lambda entries: {**entries, "bytes": True}, "bytes must be of type int"),
        (lambda entries: {**entries, "settings": []}, "settings must be of type dict"),
        (lambda entries: {**entries, "kind": "pickle"}, "kind must be one of keras, cube"),
        (lambda entries: {**entries, "file": "../../look.keras"}, "file may hold only"),
        (lambda entries: {**entries, "file": "look.pkl"}, "file must end in .keras"),
        (lambda entries: {k: v for k, v in entries.items() if k != "app"}, "app is missing"),
    ],
)
def test_damaged_card(saved, change, reason):
    file = saved.with_suffix(".json")
    changed = change(json.loads(file.read_text()))
    file.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
    assert reason in refused(saved)


values = st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e9, 1e9)


@settings(deadline=None, max_examples=30)
@given(st.text(), st.dictionaries(st.text(), values))
def test_cards_survive_writing(tmp_path_factory, summary, entries):
    path = tmp_path_factory.mktemp("cards") / "film.cube"
    path.write_bytes(b"LUT")
    given_card = Card(app="enhance", name="film", kind="cube", summary=summary, settings=entries)
    written = weights.write_card(path, given_card)
    assert weights.read_card(path) == written
    assert dataclasses.replace(written, file="", sha256="", bytes=0, convsuite="") == given_card


def test_one_card_does_not_describe_two_files(saved):
    table = saved.with_suffix(".cube")
    table.write_text("LUT_3D_SIZE 2")
    with pytest.raises(WeightsError, match="belongs to another weight file"):
        weights.write_card(table, card(kind="cube"))
    with pytest.raises(WeightsError, match=r"describes look\.keras, not look\.cube"):
        weights.read_card(table)


def test_a_colour_table_is_not_a_network(tmp_path):
    path = tmp_path / "film.cube"
    path.write_text("LUT_3D_SIZE 2")
    weights.write_card(path, card("film", kind="cube"))
    assert "this is a cube file" in refused(path)


def test_suffix_of_saved_networks(tmp_path):
    with pytest.raises(WeightsError, match=r"must end in \.keras"):
        weights.save_model(small_network(), tmp_path / "look.h5", card())


def test_find(installed, saved):
    shipped, user = installed
    with pytest.raises(WeightsError, match="installed: none"):
        weights.find("enhance", "look")
    for root, name in ((shipped, "clahe"), (user, "mine")):
        weights.save_model(small_network(), root / "enhance" / f"{name}.keras", card(name))
    assert weights.find("enhance", "clahe") == shipped / "enhance" / "clahe.keras"
    assert weights.find("enhance", "mine") == user / "enhance" / "mine.keras"
    assert weights.find("enhance", saved) == saved
    with pytest.raises(WeightsError, match="installed: clahe, mine"):
        weights.find("enhance", "tone")
    with pytest.raises(WeightsError, match="no such weight file"):
        weights.find("enhance", "nowhere/clahe.keras")
    with pytest.raises(WeightsError, match="installed: none"):
        weights.find("track", "clahe")


def test_a_file_in_this_folder_does_not_hide_a_name(installed, tmp_path, monkeypatch):
    weights.save_model(small_network(), installed[0] / "enhance" / "clahe.keras", card("clahe"))
    (tmp_path / "clahe").write_text("something else")
    monkeypatch.chdir(tmp_path)
    assert weights.find("enhance", "clahe").suffix == ".keras"


def test_damaged_cards_are_left_out_of_lists_but_verified(installed, saved):
    weights.save_model(small_network(), installed[0] / "enhance" / "clahe.keras", card("clahe"))
    (installed[0] / "enhance" / "bad.json").write_text("{")
    assert [found.name for found in weights.cards()] == ["clahe"]
    assert weights.cards("track") == []
    bad, good = weights.card_files("enhance")
    assert weights.verify(good) == []
    assert "not a readable card" in weights.verify(bad)[0]


def test_import(installed, saved):
    target = weights.import_weights(saved)
    assert target.read_bytes() == saved.read_bytes()
    assert weights.find("enhance", "look") == target
    with pytest.raises(WeightsError, match="installed already"):
        weights.import_weights(saved)
    saved.write_bytes(b"")
    with pytest.raises(WeightsError, match="checksum"):
        weights.import_weights(saved)


@pytest.mark.parametrize("format", weights.EXPORT_SUFFIXES)
def test_export(tmp_path, format):
    pytest.importorskip("tensorflow")
    if format in ("onnx", "openvino"):
        pytest.importorskip({"onnx": "onnxruntime"}.get(format, format))
    path = tmp_path / f"network{weights.EXPORT_SUFFIXES[format]}"
    assert weights.export_model(network_of_several_inputs(), path, format) < 1e-5
    made = {"network.bin", "network.xml"} if format == "openvino" else {path.name}
    assert {file.name for file in tmp_path.iterdir()} == made


def test_export_that_computes_something_else(tmp_path, monkeypatch):
    def run_badly(path, inputs):
        return [np.full((1, 64, 64, 3), np.nan, np.float32)]

    monkeypatch.setitem(weights._RUNNERS, "saved_model", run_badly)
    with pytest.raises(WeightsError, match="not written, since the exported network differs"):
        weights.export_model(small_network(), tmp_path / "network", "saved_model")
    assert list(tmp_path.iterdir()) == []


def test_export_names(tmp_path):
    with pytest.raises(WeightsError, match=r"needs a name with \.onnx"):
        weights.export_model(small_network(), tmp_path / "network.keras", "onnx")
    with pytest.raises(WeightsError, match="exists already"):
        weights.export_model(small_network(), tmp_path, "saved_model")


def test_export_that_fails(tmp_path):
    inputs = keras.Input((4,), name="global")  # no name for a Python parameter
    network = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(WeightsError, match="export failed"):
        weights.export_model(network, tmp_path / "network.tflite", "litert")
    assert list(tmp_path.iterdir()) == []


def call(*arguments):
    return CliRunner().invoke(weights_cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def clahe(installed):
    path = installed[0] / "enhance" / "clahe.keras"
    details = card(
        "clahe",
        training={"data": "34 photographs", "seed": 1},
        results={"psnr_db": np.float32(26.84), "ssim": 0.9},
    )
    weights.save_model(small_network(), path, details)
    return path


def test_list_verb(clahe):
    shown = call("list").stdout
    assert "clahe" in shown
    assert "34 photographs" in shown
    assert "psnr_db 26.84" in shown
    found = json.loads(call("list", "--json").stdout)["weights"]
    assert [entry["name"] for entry in found] == ["clahe"]


def test_list_verb_without_weights(installed):
    result = call("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(call("list", "--json").stdout) == {"weights": []}


def test_info_verb(clahe):
    by_name, by_path = call("info", "enhance/clahe"), call("info", clahe)
    assert by_name.stdout == by_path.stdout
    assert "34 photographs" in by_name.stdout
    entries = json.loads(call("info", "enhance/clahe", "--json").stdout)
    assert entries == dataclasses.asdict(weights.read_card(clahe))
    assert isinstance(call("info", "clahe").exception, WeightsError)


def test_verify_verb(clahe):
    for arguments in ((), ("all",), ("enhance/clahe",), (clahe,)):
        assert call("verify", *arguments).exit_code == 0
    clahe.write_bytes(b"")
    result = call("verify", "--json")
    assert result.exit_code == 1
    assert "checksum" in json.loads(result.stdout)["problems"][str(clahe.with_suffix(".json"))][0]


def test_import_verb(installed, saved):
    target = json.loads(call("import", saved, "--json").stdout)["file"]
    assert Path(target) == weights.find("enhance", "look")


def test_export_verb(clahe, tmp_path, monkeypatch):
    monkeypatch.setattr(weights_cli, "_import_classes", lambda app: None)
    target = tmp_path / "exported"
    result = call("export", "enhance/clahe", "--format", "saved_model", "-o", target, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["largest_difference"] <= weights.EXPORT_TOLERANCE
    assert target.is_dir()
    assert call("export", "enhance/clahe", "--format", "gif", "-o", "x.gif").exit_code == 2


def test_export_of_a_backbone(tmp_path):
    target = tmp_path / "digits.onnx"
    result = call("export", "backbones/lecun1989", "-o", target, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["largest_difference"] <= weights.EXPORT_TOLERANCE
    assert target.is_file()


def test_classes_of_no_application():
    with pytest.raises(WeightsError, match="no application nonsense"):
        weights_cli._import_classes("nonsense")
