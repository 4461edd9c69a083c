"""The TensorRT runner and builder against strict doubles of every version, over pycuda and over ctypes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import sha256_file
from edge_bench.agent import engine_builder
from edge_bench.agent.arguments import complete
from edge_bench.agent.runners import cuda, tensors
from edge_bench.agent.runners.base import check_batch
from edge_bench.agent.runners.tensorrt import TensorRtRunner

HERE = Path(__file__).parent
TABLE = HERE / "data" / "tensorrt_api_by_version.csv"
VERSIONS = [name for name in next(csv.reader(TABLE.open())) if name != "name" and not name.startswith("rtx")]


def forget(*names):
    driver = sys.modules.get("pycuda.driver")
    assert driver is None or not driver.stack, "the context stack was not empty"
    for name in list(sys.modules):
        if name.split(".")[0] in names:
            del sys.modules[name]


@pytest.fixture(scope="session")
def cudart(tmp_path_factory):
    """A folder with the stand-in for libcudart."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to build the stand-in for libcudart")
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, HERE / "fake_cudart.c"], check=True)
    return path


@pytest.fixture
def use(monkeypatch, tmp_path):
    """Function that makes one version of the double importable, with pycuda or without."""
    def choose(version, pycuda=True):
        monkeypatch.setenv("TENSORRT_DOUBLE", version)
        monkeypatch.syspath_prepend(str(HERE / "doubles"))
        if pycuda:
            monkeypatch.syspath_prepend(str(HERE / "doubles_pycuda"))
            monkeypatch.setattr(cuda, "_load_library", lambda: None)
        forget("tensorrt", "pycuda")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield choose
    forget("tensorrt", "pycuda")


def net(folder, batch=-1, **extra):
    path = folder / "net.onnx"
    path.write_text(json.dumps({"inputs": {"x": [batch, 3, 8, 8]}, "outputs": {"y": [batch, 10]}, "ms": 0.5, **extra}))
    return path


def request(folder, **given):
    made = complete({"model": str(folder / "net.onnx"), "runner": "tensorrt", **given})
    return {**made, "engine": str(folder / "net.engine"), "workspace_bytes": 1 << 28}


def build_and_open(folder, **given):
    wanted = request(folder, **given)
    built = engine_builder.build_engine(wanted)
    return built, TensorRtRunner.open(wanted)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_builds_and_runs(use, tmp_path, version):
    use(version)
    net(tmp_path)
    built, runner = build_and_open(tmp_path, batch=4)
    assert built["tensorrt"].startswith(version) and built["device"] == "sm_62" and built["batch"] == 4
    assert built["precision"] == ("as in the graph" if version.startswith("11") else "fp16")
    for _ in range(3):
        runner.infer()
        runner.synchronise()
    assert runner.compute_ms() > 0.4
    told = runner.describe()
    assert told["batch"] == 4 and told["inputs"] == [{"name": "x", "dtype": "float32", "shape": [4, 3, 8, 8]}]
    assert told["outputs"][0]["shape"] == [4, 10] and told["origin_unknown"] is True
    assert told["device_bytes"] == 1_000_000 + 4 * (4 * 192 + 4 * 10) and told["engine_bytes"] > 0
    assert [layer["name"] for layer in runner.layer_times_ms()] == ["conv1", "fc"]
    runner.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_double_is_strict(use, version):
    use(version)
    import tensorrt

    table = {row["name"]: row[version] == "1" for row in csv.DictReader(TABLE.open())}
    assert hasattr(tensorrt.BuilderFlag, "FP16") == table["BuilderFlag.FP16"]
    assert hasattr(tensorrt.ICudaEngine, "num_bindings") == table["ICudaEngine.num_bindings"]
    assert hasattr(tensorrt.IExecutionContext, "execute_async_v3") == table["IExecutionContext.execute_async_v3"]
    assert hasattr(tensorrt.IBuilderConfig, "set_memory_pool_limit") == table["IBuilderConfig.set_memory_pool_limit"]


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_ctypes_on_libcudart_does_the_same(use, tmp_path, cudart, monkeypatch, version):
    use(version, pycuda=False)
    monkeypatch.setattr(cuda, "_LIBRARIES", (str(cudart),))
    net(tmp_path)
    _, runner = build_and_open(tmp_path, batch=2)
    runner.infer()
    runner.synchronise()
    assert runner.describe()["cuda"] == "ctypes" and runner.compute_ms() > 0.4
    runner.close()


def test_pycuda_is_not_imported_where_libcudart_is(use, cudart, monkeypatch, tmp_path):
    """It imports numpy, which kills the process on a JetPack 4.6 as it comes."""
    use("8.2.1", pycuda=False)
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda/__init__.py").write_text("import sys\nsys.exit('killed by SIGILL')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cuda, "_LIBRARIES", (str(cudart),))
    assert cuda.open_cuda().name == "ctypes"


def test_pipelined_waits_for_the_inference_before(use, tmp_path):
    use("8.2.1")
    net(tmp_path)
    _, runner = build_and_open(tmp_path, batch=1, pipelined=True)
    for _ in range(5):
        runner.infer()
        runner.synchronise()
    assert runner.pipelined and runner.compute_ms() > 0.4
    runner.close()


@pytest.mark.parametrize("broken", ["CUDA_DOUBLE_BROKEN", "CUDA_DOUBLE_EMPTY"])
def test_without_cuda_tensorrt_is_not_touched(use, tmp_path, cudart, monkeypatch, broken):
    use("8.2.1", pycuda=False)
    monkeypatch.setattr(cuda, "_LIBRARIES", (str(cudart),))
    monkeypatch.setenv(broken, "1")
    net(tmp_path)
    with pytest.raises(CannotMeasure, match="CUDA"):
        engine_builder.build_engine(request(tmp_path))
    assert "tensorrt" not in sys.modules


def test_without_any_cuda_the_sentence_says_so(use, tmp_path, monkeypatch):
    use("8.2.1", pycuda=False)
    monkeypatch.setattr(cuda, "_LIBRARIES", ("libnothing.so",))
    monkeypatch.setattr(cuda.glob, "glob", lambda pattern: [])
    with pytest.raises(CannotMeasure, match="neither libcudart nor pycuda"):
        cuda.open_cuda()


@pytest.mark.parametrize("spoil", [lambda data: b"junk", lambda data: data[:len(data) // 2], lambda data: data[20:]])
def test_a_damaged_engine_is_one_sentence(use, tmp_path, spoil):
    use("8.2.1")
    net(tmp_path)
    wanted = request(tmp_path)
    engine_builder.build_engine(wanted)
    path = tmp_path / "net.engine"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match="magicTag"):
        TensorRtRunner.open(wanted)


def test_a_tensorrt_before_8_is_refused_in_a_sentence(use, tmp_path, monkeypatch):
    use("8.2.1")
    import tensorrt

    net(tmp_path)
    engine_builder.build_engine(request(tmp_path))
    monkeypatch.delattr(tensorrt.Builder, "build_serialized_network")
    monkeypatch.delattr(tensorrt.IBuilderConfig, "create_timing_cache")
    monkeypatch.setattr(tensorrt, "__version__", "7.1.3.0")
    for work in (engine_builder.build_engine, TensorRtRunner.open):
        with pytest.raises(CannotMeasure, match=r"TensorRT 7.1.3.0 is too old: 8.0 or newer"):
            work(request(tmp_path))


def test_an_engine_of_another_tensorrt_gives_the_reason(use, tmp_path):
    use("8.0.1")
    net(tmp_path)
    wanted = request(tmp_path)
    engine_builder.build_engine(wanted)
    use("8.2.1")
    with pytest.raises(UserError, match="not compatible with this version"):
        TensorRtRunner.open(wanted)


@pytest.mark.parametrize("built_by", ["8.2.1", "8.2.1.8"])
def test_three_numbers_of_a_version_tell_whether_an_engine_is_foreign(use, tmp_path, built_by):
    use("8.2.1")
    net(tmp_path)
    wanted = request(tmp_path)
    assert engine_builder.build_engine(wanted)["tensorrt"] == "8.2.1.8"
    (tmp_path / "net.engine.json").write_text(json.dumps({"schema": "edgesynth.engine/1", "tensorrt": built_by}))
    TensorRtRunner.open(wanted).close()


@pytest.mark.parametrize("sidecar, words", [({"tensorrt": "8.0.1"}, "built by TensorRT 8.0.1"),
                                            ({"tensorrt": "8.2.1", "device": "sm_53"}, "built on a sm_53 device")])
def test_the_sidecar_refuses_a_foreign_engine_before_it_is_loaded(use, tmp_path, sidecar, words):
    use("8.2.1")
    net(tmp_path)
    wanted = request(tmp_path)
    engine_builder.build_engine(wanted)
    (tmp_path / "net.engine.json").write_text(json.dumps({"schema": "edgesynth.engine/1", **sidecar}))
    with pytest.raises(CannotMeasure, match=words):
        TensorRtRunner.open(wanted)


def test_a_sidecar_of_another_engine_is_not_believed(use, tmp_path):
    use("8.2.1")
    net(tmp_path)
    wanted = request(tmp_path)
    engine_builder.build_engine(wanted)
    said = {"schema": "edgesynth.engine/1", "tensorrt": "8.0.1", "precision": "int8", "engine_sha256": "0" * 64}
    (tmp_path / "net.engine.json").write_text(json.dumps(said))
    runner = TensorRtRunner.open(wanted)
    assert runner.describe()["origin_unknown"] is True and runner.describe()["precision"] is None
    runner.close()
    own = {**said, "tensorrt": "8.2.1", "board": "tx2", "engine_sha256": sha256_file(tmp_path / "net.engine")}
    (tmp_path / "net.engine.json").write_text(json.dumps(own))
    runner = TensorRtRunner.open(wanted)
    told = runner.describe()
    assert (told["origin_unknown"], told["precision"], told["built_on"]) == (False, "int8", "tx2")
    runner.close()


def test_a_batch_outside_the_profile_is_refused(use, tmp_path):
    use("8.6.1")
    net(tmp_path)
    engine_builder.build_engine(request(tmp_path, batch=4))
    with pytest.raises(UserError, match="build the engine for it"):
        TensorRtRunner.open(request(tmp_path, batch=8))
    runner = TensorRtRunner.open(request(tmp_path))  # no --batch: what the engine was built for
    assert runner.batch == 4
    runner.close()


def test_a_fixed_batch_is_refused_at_build_and_run(use, tmp_path):
    use("8.2.1")
    net(tmp_path, batch=1)
    with pytest.raises(UserError, match="built for batch 1, not 2"):
        engine_builder.build_engine(request(tmp_path, batch=2))


@pytest.mark.parametrize("declared, requested, batch", [
    ([8, 8], 8, 8), ([8, 8], None, 8), ([8, 1], 8, 8), ([8, None], 4, 4), ([None, None], 4, 4), ([None], None, 1),
    ([8], 4, None), ([8, 8], 4, None), ([8, 1], 4, None)])
def test_a_batch_that_no_input_has_is_refused_however_many_there_are(declared, requested, batch):
    inputs = {str(number): [size, 3] for number, size in enumerate(declared)}
    if batch is not None:
        assert check_batch(requested, inputs, {}, "m") == batch
        return
    with pytest.raises(UserError, match=r"built for batch .*8, not 4"):
        check_batch(requested, inputs, {}, "m")


@pytest.mark.parametrize("inputs, given, batch", [
    ({"image": [-1, 3, 8, 8], "anchors": [9, 4]}, {}, 1),
    ({"anchors": [9, 4], "image": [-1, 3, 8, 8]}, {"batch": 4}, 4),
    ({"anchors": [9, 4], "image": [-1, 3, 8, 8]}, {"shape": ["image=8x3x8x8"]}, 8),
    ({"scale": [1], "image": [8, 3, 8, 8]}, {}, 8),
    ({"image": [8, 3, 8, 8], "mask": [-1, 8, 8]}, {}, 8)])
def test_the_batch_is_that_of_the_images(use, tmp_path, inputs, given, batch):
    use("8.6.1")
    net(tmp_path, inputs=inputs, outputs={"y": [1, 10]})
    built, runner = build_and_open(tmp_path, **given)
    assert built["batch"] == runner.batch == batch
    runner.close()


def test_a_batch_that_the_inputs_do_not_tell_is_asked_for(use, tmp_path):
    use("8.6.1")
    net(tmp_path, inputs={"left": [8, 3, 8, 8], "mean": [1, 3, 1, 1]}, outputs={"y": [8, 10]})
    with pytest.raises(UserError, match="its inputs begin with 1 and 8: say with --batch how many images"):
        engine_builder.build_engine(request(tmp_path))
    built, runner = build_and_open(tmp_path, batch=8)
    assert built["batch"] == runner.batch == 8
    runner.close()


def test_a_builder_or_runtime_that_cannot_be_made_says_why(use, tmp_path, monkeypatch):
    use("10.3.0")
    net(tmp_path)
    monkeypatch.setenv("TENSORRT_DOUBLE_NULL", "Builder")
    with pytest.raises(CannotMeasure, match=r"10\.3\.0 cannot make its builder here \(Unable to load library: lib"):
        build_and_open(tmp_path)
    monkeypatch.setenv("TENSORRT_DOUBLE_NULL", "Runtime")
    built = engine_builder.build_engine(request(tmp_path))  # an engine, of which the layers are not known
    assert built["layers"] is None and "Unable to load library" in built["layers_note"]
    with pytest.raises(CannotMeasure, match=r"cannot make its runtime here \(Unable to load library: libnvinfer"):
        TensorRtRunner.open(request(tmp_path))


@pytest.mark.parametrize("extra, given, error, words", [
    ({"unbuildable": True}, {}, CannotMeasure, "no implementation for a node"),
    ({"too_large": True}, {}, CannotMeasure, "no memory"),
    ({"dtypes": {"x": "FP8"}}, {}, UserError, "cannot be filled"),
    ({}, {"precision": "int8"}, UserError, "no INT8"),
    ({}, {"shape": ["z=1x2"]}, UserError, "no input is called 'z'"),
    ({"inputs": {"x": [-1, 3, -1, -1]}}, {}, UserError, r"--shape x=1x3x\?x\?"),
])
def test_what_cannot_be_built_or_run_says_why(use, tmp_path, extra, given, error, words):
    use("8.6.1")
    net(tmp_path, **extra)
    with pytest.raises(error, match=words):
        build_and_open(tmp_path, **given)


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_a_shape_tensor_is_refused(use, tmp_path, version):
    use(version)
    net(tmp_path, inputs={"x": [1, 3, 8, 8], "size": [2]}, dtypes={"size": "INT32"}, shape_tensors=["size"])
    with pytest.raises(UserError, match="tensor 'size' is a shape that the network computes with"):
        build_and_open(tmp_path)


def test_precision_flags_are_gone_in_11(use, tmp_path):
    use(VERSIONS[-1])
    net(tmp_path)
    with pytest.raises(UserError, match="takes the precision from the graph"):
        engine_builder.build_engine(request(tmp_path, precision="fp16"))


@pytest.mark.parametrize("dtype, size", [("float32", 4), ("float16", 2), ("bfloat16", 2), ("int8", 1), ("uint8", 1),
                                         ("int32", 4), ("int64", 8), ("bool", 1)])
def test_inputs_are_filled_to_the_byte(dtype, size):
    for count in (0, 1, 7, 4096, 10001):
        assert len(tensors.content(dtype, count, 0)) == count * size
    assert tensors.content(dtype, 100, 0) == tensors.content(dtype, 100, 0)
