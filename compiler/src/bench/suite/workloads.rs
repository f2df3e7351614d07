//! The suite's workloads as model code: what each computes, and the bytes and operations that cannot be avoided.

use crate::error::Errors;
use crate::nn::{Attention, AttentionConfig, MLP, MLPConfig, RMSNorm, RoPE};
use crate::trace::{Array, Context, trace};
use mlxc_ir::DType;
use mlxc_ir::graph::{Activation, Module};
use std::collections::BTreeMap;

/// Bandwidth that bounds a workload where operations do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bandwidth {
    /// Several streams read and one written.
    Triad,
    /// One stream read and one written.
    Copy,
    /// Weights or states read.
    Read,
}

/// One workload.
pub struct Workload {
    /// Letter of its group.
    pub group: char,
    /// What it is.
    pub name: String,
    /// The model.
    pub module: Module,
    /// Values of the entry's symbols.
    pub sizes: BTreeMap<&'static str, i64>,
    /// Bytes that must be moved.
    pub bytes: f64,
    /// Operations on f32 that must be done, a multiply-add counting as two.
    pub f32_flops: f64,
    /// Operations of bf16 products.
    pub bf16_flops: f64,
    /// Which bandwidth.
    pub bandwidth: Bandwidth,
}

/// Makes the workloads of some groups; all where none is named.
///
/// # Errors
/// None for this model code.
pub fn workloads(groups: &[char]) -> Result<Vec<Workload>, Errors> {
    let mut out = Vec::new();
    let wanted = |g: char| groups.is_empty() || groups.contains(&g);
    if wanted('A') {
        elementwise(&mut out)?;
    }
    if wanted('B') {
        norms(&mut out)?;
    }
    if wanted('C') {
        softmax_and_attention(&mut out)?;
    }
    if wanted('D') {
        products(&mut out)?;
    }
    if wanted('E') {
        blocks(&mut out)?;
    }
    Ok(out)
}

/// Adds a workload; operations are of f32 or of bf16 products by the dtype.
fn add(
    out: &mut Vec<Workload>,
    (group, name): (char, String),
    dtype: DType,
    (bytes, flops): (f64, f64),
    bandwidth: Bandwidth,
    sizes: &[(&'static str, i64)],
    model: impl FnOnce(&Context),
) -> Result<(), Errors> {
    let module = trace("main", model)?;
    let (f32_flops, bf16_flops) = if dtype == DType::BF16 { (0.0, flops) } else { (flops, 0.0) };
    let sizes = sizes.iter().copied().collect();
    out.push(Workload { group, name, module, sizes, bytes, f32_flops, bf16_flops, bandwidth });
    Ok(())
}

const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

fn elementwise(out: &mut Vec<Workload>) -> Result<(), Errors> {
    let shape = [4096i64, 4096];
    let n = (shape[0] * shape[1]) as f64;
    let input = |cx: &Context, name: &str| cx.input(name, DType::F32, shape);
    let silu = |x: &Array, w: &Array, b: &Array, z: &Array| (x * w + b).silu() * z;
    let f32 = DType::F32;
    let row = |name: &str| ('A', name.to_string());
    add(out, row("silu(x*w+b)*z, 16M f32"), f32, (20.0 * n, 0.0), Bandwidth::Triad, &[], |cx| {
        let [x, w, b, z] = ["x", "w", "b", "z"].map(|name| input(cx, name));
        cx.output("y", &silu(&x, &w, &b, &z));
    })?;
    add(out, row("silu(x*w+b)*z, w and b of a row"), f32, (12.0 * n, 0.0), Bandwidth::Triad, &[], |cx| {
        let [w, b] = ["w", "b"].map(|name| cx.input(name, DType::F32, [shape[1]]));
        cx.output("y", &silu(&input(cx, "x"), &w, &b, &input(cx, "z")));
    })?;
    add(out, row("gelu by tanh, 12 ops, 16M f32"), f32, (8.0 * n, 0.0), Bandwidth::Copy, &[], |cx| {
        let x = input(cx, "x");
        let inner = (&x + &x * &x * &x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
        cx.output("y", &(&x * 0.5 * (inner.tanh() + 1.0) * 1.5 + 0.25));
    })
}

fn norms(out: &mut Vec<Workload>) -> Result<(), Errors> {
    let (rows, width) = (4096i64, 2048i64);
    for dtype in DTYPES {
        let bytes = 2.0 * (rows * width) as f64 * dtype.bytes() as f64;
        let input = |cx: &Context| cx.input("x", dtype, [rows, width]);
        let weight = |cx: &Context, name: &str| cx.weight(name, dtype, [width]);
        let row = |name: &str| ('B', format!("{name} [4096, 2048], {dtype}"));
        add(out, row("RMSNorm"), DType::F32, (bytes, 0.0), Bandwidth::Copy, &[], |cx| {
            let x = input(cx);
            cx.output("y", &(&x * (x.square().mean(-1, true) + 1e-5).rsqrt() * weight(cx, "w")));
        })?;
        add(out, row("layer norm"), DType::F32, (bytes, 0.0), Bandwidth::Copy, &[], |cx| {
            let x = input(cx);
            let centred = &x - x.mean(-1, true);
            let y = &centred * (centred.square().mean(-1, true) + 1e-5).rsqrt();
            cx.output("y", &(y * weight(cx, "w") + weight(cx, "b")));
        })?;
    }
    Ok(())
}

fn softmax_and_attention(out: &mut Vec<Workload>) -> Result<(), Errors> {
    let n = (4096 * 2048) as f64;
    let row = ('C', "softmax [4096, 2048], f32".to_string());
    add(out, row, DType::F32, (8.0 * n, 0.0), Bandwidth::Copy, &[], |cx| {
        let x = cx.input("x", DType::F32, [4096, 2048]);
        let e = (&x - x.max(-1, true)).exp();
        cx.output("y", &(&e / e.sum(-1, true)));
    })?;
    let (heads, d) = (32i64, 64i64);
    for s in [512i64, 4096] {
        for dtype in DTYPES {
            // Half of the scores, two products of them.
            let flops = (heads * s * (s + 1) / 2 * d * 4) as f64;
            let bytes = 4.0 * (heads * s * d) as f64 * dtype.bytes() as f64;
            let row = ('C', format!("causal attention {heads} x {s} x {d}, {dtype}"));
            add(out, row, dtype, (bytes, flops), Bandwidth::Read, &[], |cx| {
                let [q, k, v] = ["q", "k", "v"].map(|name| cx.input(name, dtype, [1, heads, s, d]));
                let scores = q.matmul(&k.transpose([0, 1, 3, 2])) * (1.0 / (d as f64).sqrt());
                let (i, j) = (cx.arange(s, DType::I32).reshape([s, 1]), cx.arange(s, DType::I32).reshape([1, s]));
                let seen = i.greater_equal(&j);
                let masked = seen.choose(&scores, scores.full_like(f64::NEG_INFINITY));
                cx.output("y", &masked.softmax().matmul(&v));
            })?;
        }
    }
    Ok(())
}

fn products(out: &mut Vec<Workload>) -> Result<(), Errors> {
    let mut shapes = vec![(1024i64, 1024i64)];
    shapes.extend([1i64, 4, 16, 64, 512].map(|m| (m, 4096)));
    for dtype in DTYPES {
        for (m, n) in &shapes {
            let (m, n) = (*m, *n);
            let flops = (2 * m * n * n) as f64;
            let bytes = (n * n + 2 * m * n) as f64 * dtype.bytes() as f64;
            let row = ('D', format!("matmul {m} x {n} x {n}, {dtype}"));
            add(out, row, dtype, (bytes, flops), Bandwidth::Read, &[], |cx| {
                let x = cx.input("x", dtype, [m, n]);
                cx.output("y", &x.matmul(&cx.weight("w", dtype, [n, n]).t()));
            })?;
        }
        let row = ('D', format!("matmul 1024 x 1024 x 1024 of two inputs, {dtype}"));
        let bytes = 3.0 * (1i64 << 20) as f64 * dtype.bytes() as f64;
        add(out, row, dtype, (bytes, 2.0 * (1i64 << 30) as f64), Bandwidth::Read, &[], |cx| {
            let [x, y] = ["x", "y"].map(|name| cx.input(name, dtype, [1024, 1024]));
            cx.output("z", &x.matmul(&y));
        })?;
    }
    Ok(())
}

/// One Llama layer: 2048 wide, 32 heads over 8, feed-forward 8192.
fn blocks(out: &mut Vec<Workload>) -> Result<(), Errors> {
    let (hidden, heads, shared, d, inner, context) = (2048i64, 32i64, 8i64, 64i64, 8192i64, 1024i64);
    let weights = hidden * (heads + 2 * shared) * d + heads * d * hidden + 3 * hidden * inner;
    for dtype in DTYPES {
        for (name, s, position) in [("prefill 128", 128i64, 0i64), ("decode 1 at 512", 1, 512)] {
            let keys = position * s + s * (s + 1) / 2;
            let flops = (2 * s * weights + 4 * heads * d * keys) as f64;
            let bytes = (weights + 2 * shared * d * (position + s)) as f64 * dtype.bytes() as f64;
            let row = ('E', format!("Llama block, {name}, {dtype}"));
            let sizes = [("S", s), ("position", position)];
            add(out, row, dtype, (bytes, flops), Bandwidth::Read, &sizes, |cx| {
                let most = if s == 1 { 1 } else { 128 };
                let x = cx.input("x", dtype, (cx.dim("S", 1..=most), hidden));
                let position = cx.scalar("position", 0..=context - most);
                let config = AttentionConfig::new(hidden, heads, shared, d, RoPE::new(d as u32, 500_000.0), context);
                let attention = Attention::new(cx, "self_attn", &config, dtype);
                let gated = MLPConfig { hidden, inner, bias: false, fused: false, activation: Activation::Silu };
                let mlp = MLP::new(cx, "mlp", &gated, dtype);
                let norm = |name: &str| RMSNorm::new(cx, name, hidden, 1e-5, dtype);
                let h = &x + attention.forward(cx, &norm("norm1").forward(&x), &position);
                cx.output("y", &(&h + mlp.forward(&norm("norm2").forward(&h))));
            })?;
        }
    }
    Ok(())
}
