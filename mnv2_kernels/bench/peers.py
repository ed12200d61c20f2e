"""The engines that `mnv2 bench` compares: one small adapter each, all with the same weights.

An adapter makes a function of an input (of the setting's dtype, on its device) from a subject and a setting.
It imports its library itself, and raises Unsupported for a setting that it has no way to run.
"""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import _native
from ..dtypes import DTYPE_NAMES
from ..nn.deploying import deploy
from ..ops import gpu
from ..processor import forced_isa
from . import BenchError
from .setting import Setting
from .subject import INSTALL, Subject, Unsupported, to_onnx

Function = Callable[[Tensor], Any]

FUSED = "fused"
ALL = "all"
FLOAT32 = ("float32",)
INT8 = "int8"

BY_ITSELF = "what deploy() does by itself"


# --- this package ---


def fused(subject: Subject, setting: Setting) -> nn.Module:
    by_triton = setting.device == "cuda" and gpu.backend() == "triton"
    if by_triton and importlib.util.find_spec("triton") is None:
        raise BenchError("fused runs on this GPU by Triton, which is not installed: pip install triton")
    return copy.deepcopy(subject.trained.fused).to(setting.device, setting.torch_dtype)


def deployed(subject: Subject, setting: Setting) -> Function:
    return deploy(fused(subject, setting))


def deployed_avx2(subject: Subject, setting: Setting) -> Function:
    """By the instruction set of most x86 processors, where this one has a better one."""
    if _native.selected_isa(setting.dtype) == "avx2":
        raise Unsupported(BY_ITSELF)
    if not any(isa["name"] == "avx2" and isa["compiled"] and isa["supported"] for isa in _native.isas()):
        raise Unsupported("no AVX2 here")
    with forced_isa("avx2"):
        return deployed(subject, setting)


def deployed_int8(subject: Subject, setting: Setting) -> Function:
    """Quantised by this package; the stem makes bytes of the images."""
    return subject.trained.int8.deploy()


# --- torch ---


def eager(subject: Subject, setting: Setting) -> Function:
    return subject.model_for(setting)


def eager_channels_last(subject: Subject, setting: Setting) -> Function:
    model = subject.model_for(setting).to(memory_format=torch.channels_last)
    return lambda x: model(x.contiguous(memory_format=torch.channels_last))


def torch_compile(subject: Subject, setting: Setting, **options: Any) -> Function:
    from torch._inductor import config

    torch.compiler.reset()
    function = torch.compile(subject.model_for(setting), **options)
    # Freezing makes constants of the weights, which lets it prepack them. The first call compiles.
    with config.patch(freezing=True):
        function(subject.input_for(setting))
    return function


# --- others on a CPU ---


def onnx_runtime(subject: Subject, setting: Setting, int8: bool = False) -> Function:
    """``int8`` is quantised after training by ONNX Runtime, with photographs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = subject.onnx_int8 if int8 else subject.onnx
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})[0]


def openvino_runtime(
    subject: Subject, setting: Setting, precision: str = "f32", int8: bool = False
) -> Function:
    """``int8`` is quantised after training by NNCF, with photographs; the rest is of the precision."""
    import openvino

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Unsupported("OpenVINO has no bfloat16 on this processor")
    options = {
        "INFERENCE_NUM_THREADS": setting.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    network = core.compile_model(subject.openvino_int8 if int8 else subject.openvino, "CPU", options)
    return lambda x: network(x.float().numpy())[0]


def executorch_xnnpack(subject: Subject, setting: Setting) -> Function:
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(subject.executorch)
    _unsafe_reset_threadpool(setting.threads)
    method = program.load_method("forward")

    def run(x: Tensor, program: Any = program) -> Any:  # which a method does not keep alive
        return method.execute([x])[0]

    return run


def ncnn(subject: Subject, setting: Setting) -> Function:
    import ncnn
    import pnnx

    if setting.batch > 1:
        raise Unsupported("ncnn takes one image a call")
    net = ncnn.Net()
    net.opt.num_threads = setting.threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with tempfile.TemporaryDirectory() as folder:
        torch.jit.trace(subject.model, subject.x).save(f"{folder}/model.pt")
        shape = ",".join(map(str, subject.x.shape))
        command = [str(Path(pnnx.__file__).parent / "pnnx"), "model.pt", f"inputshape=[{shape}]", "fp16=0"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        net.load_param(f"{folder}/model.ncnn.param")
        net.load_model(f"{folder}/model.ncnn.bin")
    (into,), (out,) = net.input_names(), net.output_names()

    def run(x: Tensor) -> Any:
        with net.create_extractor() as extractor:
            extractor.input(into, ncnn.Mat(x[0].numpy()))
            _, y = extractor.extract(out)
            return y.numpy()[None].copy()

    return run


def mnn(subject: Subject, setting: Setting) -> Function:
    import _tools
    import MNN
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        source, converted = f"{folder}/model.onnx", f"{folder}/model.mnn"
        Path(source).write_bytes(subject.onnx)
        arguments = ["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", converted]
        _tools.mnnconvert([*arguments, "--bizCode", "MNN"])
        options = {"backend": 0, "numThread": setting.threads, "precision": "high"}
        runtime = MNN.nn.create_runtime_manager((options,))
        network = MNN.nn.load_module_from_file(
            converted, ["x"], ["linear"], runtime_manager=runtime, shape_mutable=False
        )

    def run(x: Tensor) -> Any:
        image = MNN.expr.const(x.numpy(), list(x.shape), MNN.expr.NCHW, MNN.expr.float)
        return numpy.array(network.forward(image).read())

    return run


# --- others on a GPU ---


def tensorrt(subject: Subject, setting: Setting) -> Function:
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    # The types of the model's tensors are those to compute in.
    typed = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(to_onnx(subject.model_for(setting), subject.input_for(setting))):
        raise RuntimeError(str(parser.get_error(0)))
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    engine = tensorrt.Runtime(logger).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    into, out = (engine.get_tensor_name(index) for index in range(2))

    def run(x: Tensor, engine: Any = engine) -> Tensor:
        y = x.new_empty(tuple(engine.get_tensor_shape(out)))
        context.set_tensor_address(into, x.data_ptr())
        context.set_tensor_address(out, y.data_ptr())
        context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
        return y

    return run


@dataclass(frozen=True)
class Peer:
    """An engine: its name on the command line and in tables, the modules it needs, and what it runs.

    ``accuracy`` is what it computes in where that is less than the setting's dtype.
    """

    name: str
    title: str
    make: Callable[[Subject, Setting], Function]
    modules: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = FLOAT32
    devices: tuple[str, ...] = ("cpu",)
    accuracy: str | None = None

    @property
    def missing_modules(self) -> list[str]:
        return [module for module in self.modules if importlib.util.find_spec(module) is None]

    def obstacle(self, setting: Setting) -> str | None:
        """Why it cannot run a setting, as far as that can be said without trying."""
        if missing := self.missing_modules:
            return f"not installed: {', '.join(missing)} ({INSTALL})"
        if setting.dtype not in self.dtypes:
            return f"runs {' and '.join(self.dtypes)} only"
        return None


ONNX = ("onnx", "onnxscript")
EVERYWHERE = ("cpu", "cuda")
max_autotune = partial(torch_compile, mode="max-autotune")

PEERS: tuple[Peer, ...] = (
    Peer(FUSED, "fused", fused, dtypes=DTYPE_NAMES, devices=EVERYWHERE),
    Peer("deploy", "fused, `deploy()`", deployed, dtypes=DTYPE_NAMES, devices=EVERYWHERE),
    Peer("avx2", "fused, `deploy()`, AVX2", deployed_avx2),
    Peer("int8", "fused, `deploy()`, int8", deployed_int8, accuracy=INT8),
    Peer("eager", "torch eager", eager, dtypes=DTYPE_NAMES, devices=EVERYWHERE),
    Peer("channels_last", "torch eager, channels_last", eager_channels_last, (), DTYPE_NAMES, EVERYWHERE),
    Peer("compile", "torch.compile, freezing", torch_compile, (), DTYPE_NAMES, EVERYWHERE),
    # With CUDA graphs.
    Peer("max-autotune", "torch.compile, max-autotune", max_autotune, (), DTYPE_NAMES, ("cuda",)),
    Peer("onnxruntime", "ONNX Runtime", onnx_runtime, ("onnxruntime", *ONNX)),
    Peer(
        "onnxruntime-int8",
        "ONNX Runtime, int8",
        partial(onnx_runtime, int8=True),
        ("onnxruntime", *ONNX),
        accuracy=INT8,
    ),
    Peer("openvino", "OpenVINO", openvino_runtime, ("openvino",)),
    Peer(
        "openvino-bf16",
        "OpenVINO, bfloat16",
        partial(openvino_runtime, precision="bf16"),
        ("openvino",),
        ("float32", "bfloat16"),
        accuracy="bfloat16",
    ),
    Peer(
        "openvino-int8",
        "OpenVINO, int8",
        partial(openvino_runtime, int8=True),
        ("openvino", "nncf"),
        accuracy=INT8,
    ),
    Peer("executorch", "ExecuTorch, XNNPACK", executorch_xnnpack, ("executorch",)),
    Peer("ncnn", "ncnn", ncnn, ("ncnn", "pnnx")),
    Peer("mnn", "MNN", mnn, ("MNN", *ONNX)),
    Peer("tensorrt", "TensorRT", tensorrt, ("tensorrt", *ONNX), ("float32", "float16"), ("cuda",)),
)


def select_peers(names: Sequence[str], device: str) -> list[Peer]:
    """The peers of these names; where one is "all", those of the device, installed or not.

    The first is always the fused network, which the others are compared with.
    Raises BenchError where a name is unknown, or that of what does not run on the device or is not installed.
    """
    known = {peer.name: peer for peer in PEERS}
    if unknown := [name for name in names if name not in (ALL, *known)]:
        raise BenchError(f"unknown peer {unknown[0]!r}; there are: {', '.join((ALL, *known))}")
    here = [peer for peer in PEERS if device in peer.devices]
    if ALL in names:
        return here
    for peer in (known[name] for name in names):
        if peer not in here:
            raise BenchError(f"peer {peer.name!r} does not run on {device}")
        if missing := peer.missing_modules:
            raise BenchError(f"peer {peer.name!r} is not installed: {', '.join(missing)} ({INSTALL})")
    return [peer for peer in here if peer.name in (FUSED, *names)]
