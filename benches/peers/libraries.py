"""The libraries beside which mlxc is measured: each gives the ops of `workloads.py` and compiles one workload."""

import importlib.util


class Unsupported(Exception):
    """The peer cannot compute the workload in its dtype."""


def numbers(shape, dtype, seed, scale=1.0):
    """Numbers between -scale and scale."""
    import ml_dtypes
    import numpy as np

    x = np.random.default_rng(seed).uniform(-scale, scale, shape).astype(np.float32)
    return x.astype(ml_dtypes.bfloat16) if dtype == "bf16" else x


def arguments(w):
    """Inputs and weights of a workload by name. Weights are scaled so that no result grows."""
    inputs = {n: numbers(s, w.dtype, i) for i, (n, s) in enumerate(w.inputs.items())}
    weights = {n: numbers(s, w.dtype, 99 + i, s[-1] ** -0.5) for i, (n, s) in enumerate(w.weights.items())}
    return inputs, weights


def rotations(position, s, d, base):
    """Cosines and sines of shape [s, d] for halves that rotate."""
    import numpy as np

    angles = np.outer(np.arange(position, position + s), base ** (-np.arange(0, d, 2) / d))
    both = np.concatenate([angles, angles], axis=1).astype(np.float32)
    return np.cos(both), np.sin(both)


class Peer:
    """Ops of a library, and a function that takes one step of a workload."""

    modules = ()
    groups = "ABCDE"

    @classmethod
    def missing(cls):
        """Modules that cannot be imported."""
        return [m for m in cls.modules if importlib.util.find_spec(m) is None]

    def __init__(self, threads):
        """Imports the library and sets its threads."""

    def number(self, x):
        return x

    def step(self, w):
        """Compiles a workload. The result computes it once, from inputs and weights that are there already."""


# --- PyTorch ----------------------------------------------------------------------------------------------------


class Torch(Peer):
    """Eager, with its own fused functions."""

    modules = ("torch",)

    def __init__(self, threads):
        import torch
        import torch.nn.functional as F

        torch.set_num_threads(threads)
        self.torch, self.F = torch, F
        self.silu, self.tanh, self.linear, self.matmul = F.silu, torch.tanh, F.linear, torch.matmul

    def rms_norm(self, x, w):
        return self.F.rms_norm(x, w.shape, w, 1e-5)

    def layer_norm(self, x, w, b):
        return self.F.layer_norm(x, w.shape, w, b, 1e-5)

    def softmax(self, x):
        return self.torch.softmax(x, -1)

    def attention(self, q, k, v, causal):
        return self.F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])

    def split(self, x, sizes):
        return x.split(sizes, -1)

    def heads(self, x, s, n, d):
        return x.view(1, s, n, d).transpose(1, 2)

    def merge(self, x, s, width):
        return x.transpose(1, 2).reshape(s, width)

    def append(self, past, new):
        return self.torch.cat([past, new], 2)

    def rope(self, x, position, s, d, base):
        if not self.tables:
            self.tables = [self.torch.from_numpy(t).to(x.dtype) for t in rotations(position, s, d, base)]
        cos, sin = self.tables
        first, second = x.chunk(2, -1)
        return x * cos + self.torch.cat([-second, first], -1) * sin

    def tensor(self, x):
        t = self.torch.from_numpy(x.astype("float32"))
        return t.to(self.torch.bfloat16) if x.dtype.name == "bfloat16" else t

    def step(self, w):
        torch, ops = self.torch, self
        self.tables = []

        class Model(torch.nn.Module):
            def __init__(self, weights):
                super().__init__()
                for name, x in weights.items():
                    self.register_parameter(name, torch.nn.Parameter(ops.tensor(x), requires_grad=False))

            def forward(self, *inputs):
                given = dict(zip(w.inputs, inputs))
                return w.compute(ops, **given, **dict(self.named_parameters()))

        inputs, weights = arguments(w)
        inputs = [self.tensor(x) for x in inputs.values()]
        model = self.compiled(Model(weights).eval())

        def step():
            with torch.inference_mode():
                return model(*inputs)

        return step

    def compiled(self, model):
        return model


class TorchCompile(Torch):
    """Inductor with frozen weights, which it packs for its products."""

    def compiled(self, model):
        import torch._inductor.config as config

        config.freezing = True
        self.torch._dynamo.reset()
        self.torch.set_grad_enabled(False)
        return self.torch.compile(model, dynamic=False)


# --- JAX --------------------------------------------------------------------------------------------------------


class Jax(Peer):
    """Compiled ahead of the first step."""

    modules = ("jax",)

    def __init__(self, threads):
        import jax
        import jax.numpy as jnp

        self.jax, self.np = jax, jnp
        self.silu, self.tanh, self.matmul = jax.nn.silu, jnp.tanh, jnp.matmul

    def linear(self, x, w):
        return self.jax.lax.dot_general(x, w, (((1,), (1,)), ((), ())))

    def rms_norm(self, x, w):
        y = x.astype("float32")
        y = y * self.jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)
        return y.astype(x.dtype) * w

    def layer_norm(self, x, w, b):
        y = x.astype("float32")
        y = y - y.mean(-1, keepdims=True)
        y = y * self.jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)
        return y.astype(x.dtype) * w + b

    def softmax(self, x):
        return self.jax.nn.softmax(x, -1)

    def attention(self, q, k, v, causal):
        q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
        return self.jax.nn.dot_product_attention(q, k, v, is_causal=causal).transpose(0, 2, 1, 3)

    def split(self, x, sizes):
        return self.np.split(x, [sizes[0], sizes[0] + sizes[1]], -1)

    def heads(self, x, s, n, d):
        return x.reshape(1, s, n, d).transpose(0, 2, 1, 3)

    def merge(self, x, s, width):
        return x.transpose(0, 2, 1, 3).reshape(s, width)

    def append(self, past, new):
        return self.np.concatenate([past, new], 2)

    def rope(self, x, position, s, d, base):
        cos, sin = (self.np.asarray(t, x.dtype) for t in rotations(position, s, d, base))
        first, second = self.np.split(x, 2, -1)
        return x * cos + self.np.concatenate([-second, first], -1) * sin

    def step(self, w):
        inputs, weights = arguments(w)
        given = {n: self.np.asarray(x) for n, x in (inputs | weights).items()}
        compiled = self.jax.jit(lambda given: w.compute(self, **given)).lower(given).compile()
        return lambda: self.jax.block_until_ready(compiled(given))


# --- OpenVINO ---------------------------------------------------------------------------------------------------


class OpenVino(Peer):
    """With the precision of its arithmetic said."""

    modules = ("openvino",)

    def __init__(self, threads):
        import openvino
        from openvino import opset13

        self.ov, self.set, self.threads = openvino, opset13, threads
        self.tanh = opset13.tanh

    def silu(self, x):
        return self.set.swish(x, self.constant(1.0, x))

    def constant(self, x, like):
        """A constant: of integers, or of a value's dtype."""
        import numpy as np

        if like is None:
            return self.set.constant(np.asarray(x, np.int64))
        return self.set.constant(x, like.get_element_type())

    def number(self, x):
        return self.set.constant(x, self.ov.Type.f32)

    def linear(self, x, w):
        return self.set.matmul(x, w, False, True)

    def matmul(self, x, y):
        return self.set.matmul(x, y, False, False)

    def mean(self, x):
        return self.set.reduce_mean(x, self.constant([-1], None), True)

    def normed(self, x):
        return x / self.set.sqrt(self.mean(x * x) + self.constant(1e-5, x))

    def rms_norm(self, x, w):
        return self.normed(x) * w

    def layer_norm(self, x, w, b):
        return self.set.mvn(x, self.constant([-1], None), True, 1e-5, "INSIDE_SQRT") * w + b

    def softmax(self, x):
        return self.set.softmax(x, -1)

    def attention(self, q, k, v, causal):
        heads, shared = q.get_output_shape(0)[1], k.get_output_shape(0)[1]
        k, v = (self.repeated(x, heads // shared) for x in (k, v))
        return self.set.scaled_dot_product_attention(q, k, v, causal=causal)

    def repeated(self, x, n):
        """Each head n times, as the plug-in knows grouped queries."""
        if n == 1:
            return x
        _, h, s, d = x.get_output_shape(0)
        shape = self.constant([1, h, n, s, d], None)
        x = self.set.broadcast(self.set.unsqueeze(x, self.constant(2, None)), shape, "BIDIRECTIONAL")
        return self.set.reshape(x, self.constant([1, h * n, s, d], None), False)

    def split(self, x, sizes):
        return self.set.variadic_split(x, self.constant(-1, None), self.constant(sizes, None)).outputs()

    def heads(self, x, s, n, d):
        x = self.set.reshape(x, self.constant([1, s, n, d], None), False)
        return self.set.transpose(x, self.constant([0, 2, 1, 3], None))

    def merge(self, x, s, width):
        x = self.set.transpose(x, self.constant([0, 2, 1, 3], None))
        return self.set.reshape(x, self.constant([s, width], None), False)

    def append(self, past, new):
        return self.set.concat([past, new], 2)

    def rope(self, x, position, s, d, base):
        cos, sin = (self.constant(t, x) for t in rotations(position, s, d, base))
        first, second = self.set.split(x, self.constant(-1, None), 2).outputs()
        return x * cos + self.set.concat([self.set.negative(second), first], -1) * sin

    def step(self, w):
        ov = self.ov
        dtype = ov.Type.bf16 if w.dtype == "bf16" else ov.Type.f32
        inputs, weights = arguments(w)

        def tensor(x):
            return ov.Tensor(x, x.shape, dtype) if w.dtype == "f32" else ov.Tensor(x.view("float16"), x.shape, dtype)

        given = {n: self.set.parameter(x.shape, dtype, n) for n, x in inputs.items()}
        held = {n: self.set.constant(tensor(x)) for n, x in weights.items()}
        results = w.compute(self, **given, **held)
        model = ov.Model(list(results) if isinstance(results, tuple) else [results], list(given.values()))
        config = {
            "INFERENCE_PRECISION_HINT": w.dtype,
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
        tensors = [tensor(x) for x in inputs.values()]
        for i, t in enumerate(tensors):
            request.set_input_tensor(i, t)
        # Tensors and constants are views of these.
        self.kept = inputs, weights, tensors
        return lambda: request.infer(share_outputs=True)


# --- ONNX Runtime -----------------------------------------------------------------------------------------------


class OnnxValue:
    """A value of a graph that is being written."""

    def __init__(self, peer, name):
        self.peer, self.name = peer, name

    def __add__(self, other):
        return self.peer.node("Add", self, other)

    def __sub__(self, other):
        return self.peer.node("Sub", self, other)

    def __mul__(self, other):
        return self.peer.node("Mul", self, other)


class OnnxRuntime(Peer):
    """Results stay in buffers that are bound once."""

    modules = ("onnx", "onnxruntime")

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.ort, self.threads = onnx, onnxruntime, threads

    def node(self, op, *inputs, domain="", outputs=1, **attributes):
        names = [x.name if isinstance(x, OnnxValue) else "" if x is None else self.constant(x).name for x in inputs]
        out = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, names, out, domain=domain, **attributes))
        values = [OnnxValue(self, n) for n in out]
        return values[0] if outputs == 1 else values

    def constant(self, x, name=None):
        import numpy as np

        x = np.asarray(x, np.float32) if isinstance(x, float) else x
        name = name or f"c{len(self.held)}"
        self.held.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(x), name))
        return OnnxValue(self, name)

    def integers(self, x):
        import numpy as np

        return self.constant(np.asarray(x, np.int64))

    def silu(self, x):
        return x * self.node("Sigmoid", x)

    def tanh(self, x):
        return self.node("Tanh", x)

    def linear(self, x, w):
        # The transposed weight is constant, so it is folded and packed when the session is made.
        return self.node("MatMul", x, self.node("Transpose", w, perm=[1, 0]))

    def matmul(self, x, y):
        return self.node("MatMul", x, y)

    def rms_norm(self, x, w):
        return self.node("SimplifiedLayerNormalization", x, w, axis=-1, epsilon=1e-5)

    def layer_norm(self, x, w, b):
        return self.node("LayerNormalization", x, w, b, axis=-1, epsilon=1e-5)

    def softmax(self, x):
        return self.node("Softmax", x, axis=-1)

    def attention(self, q, k, v, causal):
        return self.node("Attention", q, k, v, is_causal=int(causal))

    def split(self, x, sizes):
        return self.node("Split", x, self.integers(sizes), outputs=len(sizes), axis=-1)

    def heads(self, x, s, n, d):
        return self.node("Transpose", self.node("Reshape", x, self.integers([1, s, n, d])), perm=[0, 2, 1, 3])

    def merge(self, x, s, width):
        return self.node("Reshape", self.node("Transpose", x, perm=[0, 2, 1, 3]), self.integers([s, width]))

    def append(self, past, new):
        return self.node("Concat", past, new, axis=2)

    def rope(self, x, position, s, d, base):
        cos, sin = (self.constant(t[:, : d // 2].copy()) for t in rotations(position, s, d, base))
        positions = self.integers([list(range(s))])
        return self.node("RotaryEmbedding", x, positions, cos, sin, domain="com.microsoft")

    def step(self, w):
        if w.dtype == "bf16":
            raise Unsupported("the CPU provider has no bf16 kernels")
        helper, f32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        self.nodes, self.held = [], []
        inputs, weights = arguments(w)
        given = {n: OnnxValue(self, n) for n in inputs}
        held = {n: self.constant(x, n) for n, x in weights.items()}
        results = w.compute(self, **given, **held)
        results = results if isinstance(results, tuple) else (results,)
        info = [helper.make_tensor_value_info(n, f32, x.shape) for n, x in inputs.items()]
        out = [helper.make_tensor_value_info(r.name, f32, None) for r in results]
        graph = helper.make_graph(self.nodes, "workload", info, out, self.held)
        sets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=sets, ir_version=10)
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        session = self.ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        binding = session.io_binding()
        for n, x in inputs.items():
            binding.bind_cpu_input(n, x)
        # Results of a first step are where the others write.
        for r in results:
            binding.bind_output(r.name)
        session.run_with_iobinding(binding)
        for r, value in zip(results, binding.get_outputs()):
            binding.bind_ortvalue_output(r.name, value)
        self.kept = binding, inputs
        return lambda: session.run_with_iobinding(binding)


LIBRARIES = {
    "torch": Torch,
    "torch.compile": TorchCompile,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "jax": Jax,
}
