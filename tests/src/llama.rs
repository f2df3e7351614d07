//! A small Llama, written as users write it: one product for each weight, one block after another.

use mlxc_ir::graph::{
    Activation, BinaryOp, CompareOp, Function, FunctionBuilder, Literal, Module, Op, ReduceOp, Role, State, SymbolKind,
    TensorType, UnaryOp, ValueId, Weight,
};
use mlxc_ir::{DType, Location, Range, Size};

/// Sizes of the model.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of blocks.
    pub layers: usize,
    /// Features of the residual stream.
    pub features: i64,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub shared: i64,
    /// Features of a head.
    pub head: i64,
    /// Features between the products of the feed-forward part.
    pub inner: i64,
    /// Positions of the caches.
    pub capacity: i64,
    /// Token ids.
    pub vocabulary: i64,
    /// dtype of weights and activations.
    pub dtype: DType,
    /// True for norms, rotations, attention and gates as composites; false for primitives.
    pub composites: bool,
}

/// Sizes small enough for an interpreter, with parts that fill whole panels.
pub const TINY: Config = Config {
    layers: 2,
    features: 32,
    heads: 4,
    shared: 2,
    head: 16,
    inner: 64,
    capacity: 24,
    vocabulary: 40,
    dtype: DType::F32,
    composites: true,
};

fn c(n: i64) -> Size {
    Size::constant(n)
}

/// Builds the module: an entry `prefill` with a symbolic number of tokens and an entry `decode` with one.
pub fn module(config: &Config) -> Module {
    let mut m = Module::default();
    let prefill = entry(&mut m, config, "prefill", true);
    let decode = entry(&mut m, config, "decode", false);
    m.functions = vec![prefill, decode];
    m
}

struct Builder<'a> {
    b: FunctionBuilder,
    m: &'a mut Module,
    line: u32,
}

impl Builder<'_> {
    fn op(&mut self, op: Op, x: &[ValueId]) -> ValueId {
        self.line += 1;
        self.b.node(op, x, Some(Location::new("llama.py", self.line, 0))).expect("the model types")
    }

    fn weight(&mut self, name: &str, dtype: DType, shape: &[i64]) -> ValueId {
        let at = self.m.weights.iter().position(|w| &*w.name == name).unwrap_or_else(|| {
            self.m.weights.push(Weight { name: name.into(), ty: TensorType::constant(dtype, shape) });
            self.m.weights.len() - 1
        });
        self.b.param(name, Role::Weight(at as u32), TensorType::constant(dtype, shape), None)
    }

    fn state(&mut self, name: &str, dtype: DType, shape: &[i64]) -> (u32, ValueId) {
        let at = self.m.states.iter().position(|s| &*s.name == name).unwrap_or_else(|| {
            self.m.states.push(State { name: name.into(), ty: TensorType::constant(dtype, shape) });
            self.m.states.len() - 1
        });
        let v = self.b.param(name, Role::State(at as u32), TensorType::constant(dtype, shape), None);
        (self.b.function().params.len() as u32 - 1, v)
    }

    fn ty(&self, v: ValueId) -> TensorType {
        self.b.function().ty(v).clone()
    }

    fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.ty(a).shape;
        let b = if self.ty(b).shape == shape { b } else { self.op(Op::Broadcast { shape }, &[b]) };
        self.op(Op::Binary(op), &[a, b])
    }

    fn scalar(&mut self, op: BinaryOp, a: ValueId, value: f64) -> ValueId {
        let TensorType { dtype, shape } = self.ty(a);
        let k = self.op(Op::Full { value: Literal::float(value), dtype, shape }, &[]);
        self.op(Op::Binary(op), &[a, k])
    }

    fn linear(&mut self, x: ValueId, w: ValueId) -> ValueId {
        let t = self.op(Op::Transpose { perm: vec![1, 0] }, &[w]);
        self.op(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, t])
    }
}

fn entry(m: &mut Module, g: &Config, name: &str, many: bool) -> Function {
    let mut b = Builder { b: FunctionBuilder::new(name), m, line: 0 };
    let s = match many {
        true => Size::symbol(b.b.symbol("S", Range::new(1, 12), 1, SymbolKind::Size)),
        false => c(1),
    };
    let ids = b.b.param("ids", Role::Input, TensorType { dtype: DType::I32, shape: vec![s.clone()] }, None);
    let (position, symbol) = b.b.scalar("position", Range::new(0, g.capacity - 1), None);
    b.b.require(c(g.capacity) - Size::symbol(symbol) - s.clone());
    let table = b.weight("model.embed_tokens.weight", g.dtype, &[g.vocabulary, g.features]);
    let mut x = b.op(Op::Gather { axis: 0 }, &[table, ids]);
    for layer in 0..g.layers {
        x = block(&mut b, g, layer, x, &s, position);
    }
    let w = b.weight("model.norm.weight", g.dtype, &[g.features]);
    let x = norm(&mut b, g, x, w);
    let head = b.weight("lm_head.weight", g.dtype, &[g.vocabulary, g.features]);
    let logits = b.linear(x, head);
    b.b.result("logits", logits);
    b.b.finish()
}

fn block(b: &mut Builder<'_>, g: &Config, layer: usize, x: ValueId, s: &Size, position: ValueId) -> ValueId {
    let named = |n: &str| format!("model.layers.{layer}.{n}.weight");
    let cache = [1, g.shared, g.capacity, g.head];
    let (pk, kc) = b.state(&format!("model.layers.{layer}.k_cache"), g.dtype, &cache);
    let (pv, vc) = b.state(&format!("model.layers.{layer}.v_cache"), g.dtype, &cache);
    let w = b.weight(&named("input_layernorm"), g.dtype, &[g.features]);
    let xn = norm(b, g, x, w);
    let project = |b: &mut Builder<'_>, n: &str, heads: i64| {
        let w = b.weight(&named(n), g.dtype, &[heads * g.head, g.features]);
        let v = b.linear(xn, w);
        let v = b.op(Op::Reshape { shape: vec![c(1), s.clone(), c(heads), c(g.head)] }, &[v]);
        b.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[v])
    };
    let q = project(b, "self_attn.q_proj", g.heads);
    let k = project(b, "self_attn.k_proj", g.shared);
    let v = project(b, "self_attn.v_proj", g.shared);
    let rope = Op::Rope { dims: g.head as u32, traditional: false, base: 10000.0.into(), scale: 1.0.into() };
    let q = b.op(rope.clone(), &[q, position]);
    let k = b.op(rope, &[k, position]);
    let k = b.op(Op::SliceUpdate { axes: vec![2] }, &[kc, k, position]);
    let v = b.op(Op::SliceUpdate { axes: vec![2] }, &[vc, v, position]);
    b.b.update(pk, k);
    b.b.update(pv, v);
    let o = attention(b, g, [q, k, v], s, position);
    let o = b.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[o]);
    let o = b.op(Op::Reshape { shape: vec![s.clone(), c(g.heads * g.head)] }, &[o]);
    let w = b.weight(&named("self_attn.o_proj"), g.dtype, &[g.features, g.heads * g.head]);
    let o = b.linear(o, w);
    let r = b.binary(BinaryOp::Add, x, o);
    let w = b.weight(&named("post_attention_layernorm"), g.dtype, &[g.features]);
    let xn = norm(b, g, r, w);
    let w = b.weight(&named("mlp.gate_proj"), g.dtype, &[g.inner, g.features]);
    let gate = b.linear(xn, w);
    let w = b.weight(&named("mlp.up_proj"), g.dtype, &[g.inner, g.features]);
    let up = b.linear(xn, w);
    let a = if g.composites {
        b.op(Op::Gated(Activation::Silu), &[gate, up])
    } else {
        let sigmoid = b.op(Op::Unary(UnaryOp::Sigmoid), &[gate]);
        let silu = b.binary(BinaryOp::Multiply, gate, sigmoid);
        b.binary(BinaryOp::Multiply, silu, up)
    };
    let w = b.weight(&named("mlp.down_proj"), g.dtype, &[g.features, g.inner]);
    let down = b.linear(a, w);
    let y = b.binary(BinaryOp::Add, r, down);
    b.b.name(y, format!("layer_{layer}"));
    y
}

fn norm(b: &mut Builder<'_>, g: &Config, x: ValueId, w: ValueId) -> ValueId {
    if g.composites {
        return b.op(Op::RmsNorm { eps: 1e-5.into() }, &[x, w]);
    }
    let wide = b.op(Op::Cast(DType::F32), &[x]);
    let squares = b.op(Op::Unary(UnaryOp::Square), &[wide]);
    let sum = b.op(Op::Reduce { op: ReduceOp::Sum, axes: vec![1], keepdims: true }, &[squares]);
    let mean = b.scalar(BinaryOp::Divide, sum, g.features as f64);
    let shifted = b.scalar(BinaryOp::Add, mean, 1e-5);
    let scale = b.op(Op::Unary(UnaryOp::Rsqrt), &[shifted]);
    let y = b.binary(BinaryOp::Multiply, wide, scale);
    let y = b.op(Op::Cast(g.dtype), &[y]);
    b.binary(BinaryOp::Multiply, y, w)
}

fn attention(b: &mut Builder<'_>, g: &Config, [q, k, v]: [ValueId; 3], s: &Size, position: ValueId) -> ValueId {
    let scale = 1.0 / (g.head as f64).sqrt();
    if g.composites {
        let op = Op::Sdpa { scale: scale.into(), causal: true, mask: false, offset: true, window: None, softcap: None };
        return b.op(op, &[q, k, v, position]);
    }
    let repeated = |b: &mut Builder<'_>, x: ValueId| {
        let group = g.heads / g.shared;
        let (one, many) = ([1, g.shared, 1, g.capacity, g.head], [1, g.shared, group, g.capacity, g.head]);
        let x = b.op(Op::Reshape { shape: one.map(c).to_vec() }, &[x]);
        let x = b.op(Op::Broadcast { shape: many.map(c).to_vec() }, &[x]);
        b.op(Op::Reshape { shape: [1, g.heads, g.capacity, g.head].map(c).to_vec() }, &[x])
    };
    let (k, v) = (repeated(b, k), repeated(b, v));
    let k = b.op(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[k]);
    let scores = b.op(Op::MatMul { transpose_a: false, transpose_b: false }, &[q, k]);
    let scores = b.scalar(BinaryOp::Multiply, scores, scale);
    // Key t is seen by query s while t <= s + position.
    let grid = vec![s.clone(), c(g.capacity)];
    let row = b.op(Op::Iota { dtype: DType::I32, shape: grid.clone(), axis: 0 }, &[]);
    let column = b.op(Op::Iota { dtype: DType::I32, shape: grid, axis: 1 }, &[]);
    let last = b.binary(BinaryOp::Add, row, position);
    let seen = b.op(Op::Compare(CompareOp::LessEqual), &[column, last]);
    let shape = b.ty(scores).shape;
    let seen = b.op(Op::Broadcast { shape: shape.clone() }, &[seen]);
    let low = Op::Full { value: Literal::float(f64::NEG_INFINITY), dtype: g.dtype, shape };
    let low = b.op(low, &[]);
    let scores = b.op(Op::Select, &[seen, scores, low]);
    let weights = b.op(Op::Softmax, &[scores]);
    b.op(Op::MatMul { transpose_a: false, transpose_b: false }, &[weights, v])
}
