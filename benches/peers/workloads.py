"""The workloads of groups A to E of `mlxc bench --suite`, written once over a small set of ops.

Names, shapes and expressions are those of `compiler/src/bench/suite/workloads.rs`. A peer gives the ops (see
`libraries.py`): values have the operators of Python, everything else is a method of the peer.
"""

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any, Callable


@dataclass(frozen=True)
class Workload:
    group: str
    name: str
    dtype: str  # "f32" or "bf16"
    inputs: dict[str, tuple[int, ...]]
    weights: dict[str, tuple[int, ...]]
    # Takes the peer, then inputs and weights by name; gives one value or a tuple.
    compute: Callable[..., Any]


def elementwise():
    n = (4096, 4096)

    def gated(ops, x, w, b, z):
        return ops.silu(x * w + b) * z

    def gelu(ops, x):
        n = ops.number
        inner = (x + x * x * x * n(0.044715)) * n(sqrt(2 / pi))
        return x * n(0.5) * (ops.tanh(inner) + n(1.0)) * n(1.5) + n(0.25)

    yield Workload("A", "silu(x*w+b)*z, 16M f32", "f32", dict(x=n, w=n, b=n, z=n), {}, gated)
    yield Workload("A", "silu(x*w+b)*z, w and b of a row", "f32", dict(x=n, w=n[1:], b=n[1:], z=n), {}, gated)
    yield Workload("A", "gelu by tanh, 12 ops, 16M f32", "f32", dict(x=n), {}, gelu)


def norms():
    shape = (4096, 2048)
    for dtype in ("f32", "bf16"):
        yield Workload("B", f"RMSNorm [4096, 2048], {dtype}", dtype, dict(x=shape), dict(w=shape[1:]),
                       lambda ops, x, w: ops.rms_norm(x, w))
        yield Workload("B", f"layer norm [4096, 2048], {dtype}", dtype, dict(x=shape), dict(w=shape[1:], b=shape[1:]),
                       lambda ops, x, w, b: ops.layer_norm(x, w, b))


def softmax_and_attention():
    yield Workload("C", "softmax [4096, 2048], f32", "f32", dict(x=(4096, 2048)), {}, lambda ops, x: ops.softmax(x))
    for s in (512, 4096):
        for dtype in ("f32", "bf16"):
            shape = (1, 32, s, 64)
            yield Workload("C", f"causal attention 32 x {s} x 64, {dtype}", dtype, dict(q=shape, k=shape, v=shape), {},
                           lambda ops, q, k, v: ops.attention(q, k, v, causal=True))


def products():
    for dtype in ("f32", "bf16"):
        for m, n in [(1024, 1024)] + [(m, 4096) for m in (1, 4, 16, 64, 512)]:
            yield Workload("D", f"matmul {m} x {n} x {n}, {dtype}", dtype, dict(x=(m, n)), dict(w=(n, n)),
                           lambda ops, x, w: ops.linear(x, w))
        square = (1024, 1024)
        yield Workload("D", f"matmul 1024 x 1024 x 1024 of two inputs, {dtype}", dtype, dict(x=square, y=square), {},
                       lambda ops, x, y: ops.matmul(x, y))


def blocks():
    hidden, heads, shared, d, inner = 2048, 32, 8, 64, 8192
    weights = dict(norm1=(hidden,), norm2=(hidden,), qkv=((heads + 2 * shared) * d, hidden), out=(hidden, heads * d),
                   gate=(inner, hidden), up=(inner, hidden), down=(hidden, inner))

    def block(ops, x, norm1, norm2, qkv, out, gate, up, down, past_k=None, past_v=None):
        s = 128 if past_k is None else 1
        position = 0 if past_k is None else 512
        # Siblings are one product, as a runtime's loader may make them; its parts are slices.
        y = ops.linear(ops.rms_norm(x, norm1), qkv)
        q, k, v = ops.split(y, [heads * d, shared * d, shared * d])
        q, k, v = ops.heads(q, s, heads, d), ops.heads(k, s, shared, d), ops.heads(v, s, shared, d)
        q, k = ops.rope(q, position, s, d, 500_000.0), ops.rope(k, position, s, d, 500_000.0)
        if past_k is not None:
            k, v = ops.append(past_k, k), ops.append(past_v, v)
        h = x + ops.linear(ops.merge(ops.attention(q, k, v, causal=past_k is None), s, heads * d), out)
        y = ops.rms_norm(h, norm2)
        return h + ops.linear(ops.silu(ops.linear(y, gate)) * ops.linear(y, up), down), k, v

    for dtype in ("f32", "bf16"):
        past = dict(past_k=(1, shared, 512, d), past_v=(1, shared, 512, d))
        prompt, token = dict(x=(128, hidden)), dict(x=(1, hidden), **past)
        yield Workload("E", f"Llama block, prefill 128, {dtype}", dtype, prompt, weights, block)
        yield Workload("E", f"Llama block, decode 1 at 512, {dtype}", dtype, token, weights, block)


def workloads(groups: str) -> list[Workload]:
    everything = [elementwise, norms, softmax_and_attention, products, blocks]
    return [w for make in everything for w in make() if w.group in groups]
