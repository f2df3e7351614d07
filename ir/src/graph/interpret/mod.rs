//! The meaning of the Graph IR: plain loops, no cleverness.
//!
//! Two modes: [`Mode::Reference`] computes floats in f64 and rounds only what is stored outside (inputs, weights and
//! states); [`Mode::Stated`] rounds every op's result to its dtype. A backend passes when its error against the
//! reference is at most the stated mode's own error plus a few ulp.

mod elementwise;
mod indexed;
pub mod random;
mod tensor;

pub use elementwise::{erf, erfinv};
pub use tensor::{Data, Tensor, count, each_index, round_float, strides, wrap_int};

use crate::diagnostic::Diagnostic;
use crate::graph::op::{ArgOp, Dense, Literal, Op, ReduceOp};
use crate::graph::types::{Function, Module, Node, Role, TensorType};
use crate::quantize::{Scheme, code_at, round_int8};
use mlxc_package::{DType, Size};

/// How floats are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In f64.
    Reference,
    /// Every op's result is rounded to its dtype.
    Stated,
}

/// What a run gives back.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Results, in the function's order.
    pub results: Vec<Tensor>,
    /// Last versions of updated states: (parameter, value).
    pub updates: Vec<(u32, Tensor)>,
    /// How many data-dependent indices had to be clamped.
    pub clamped: usize,
}

/// Runs a function on one tensor for each parameter. Symbols take their values from the inputs' shapes and from
/// host scalars.
///
/// # Errors
/// `MLXC0230` an argument of the wrong type, `MLXC0231` a symbol out of its bounds or given twice with different
/// values, `MLXC0232` a requirement that does not hold.
pub fn run(module: &Module, f: &Function, args: &[Tensor], mode: Mode) -> Result<Outcome, Diagnostic> {
    let symbols = bind(f, args)?;
    Run { module, f, symbols, mode, clamped: 0 }.run(args)
}

/// Symbol values that fit the arguments.
///
/// # Errors
/// As [`run`].
pub fn bind(f: &Function, args: &[Tensor]) -> Result<Vec<i64>, Diagnostic> {
    if args.len() != f.params.len() {
        return Err(Diagnostic::new(230, format!("`{}` has another number of arguments", f.name))
            .expected(f.params.len().to_string())
            .found(args.len().to_string()));
    }
    let mut values: Vec<Option<i64>> = vec![None; f.symbols.len()];
    for (p, a) in f.params.iter().zip(args) {
        if a.dtype != p.ty.dtype || a.shape.len() != p.ty.rank() {
            return Err(wrong_type(f, p, a));
        }
        if let Role::Scalar(id) = p.role {
            set(f, &mut values, id.0 as usize, a.int(0))?;
        }
        for (d, n) in p.ty.shape.iter().zip(&a.shape) {
            if let Some(id) = d.as_symbol() {
                set(f, &mut values, id.0 as usize, *n as i64)?;
            }
        }
    }
    let values: Vec<i64> = values.into_iter().zip(&f.symbols).map(|(v, s)| v.unwrap_or(s.range.lo)).collect();
    for (p, a) in f.params.iter().zip(args) {
        let want: Vec<i64> = p.ty.shape.iter().map(|d| d.eval(&values)).collect();
        if want.iter().zip(&a.shape).any(|(w, n)| *w != *n as i64) {
            return Err(wrong_type(f, p, a));
        }
    }
    for fact in &f.requires {
        if fact.eval(&values) < 0 {
            let text = fact.display(&|id| f.symbols[id.0 as usize].name.to_string()).to_string();
            return Err(Diagnostic::new(232, format!("a requirement of `{}` does not hold", f.name))
                .expected(format!("{text} >= 0"))
                .found(fact.eval(&values).to_string()));
        }
    }
    Ok(values)
}

fn wrong_type(f: &Function, p: &crate::graph::types::Param, a: &Tensor) -> Diagnostic {
    Diagnostic::new(230, format!("argument `{}` of `{}` has the wrong type", p.name, f.name))
        .expected(p.ty.display(&f.symbols).to_string())
        .found(format!("{}{:?}", a.dtype, a.shape))
}

fn set(f: &Function, values: &mut [Option<i64>], id: usize, n: i64) -> Result<(), Diagnostic> {
    let s = &f.symbols[id];
    if n < s.range.lo || n > s.range.hi || n % s.multiple != 0 || values[id].is_some_and(|v| v != n) {
        let known = values[id].map(|v| format!(", and {v} elsewhere")).unwrap_or_default();
        return Err(Diagnostic::new(231, format!("`{}` of `{}` is out of bounds", s.name, f.name))
            .expected(format!("{}..={} in multiples of {}", s.range.lo, s.range.hi, s.multiple))
            .found(format!("{n}{known}")));
    }
    values[id] = Some(n);
    Ok(())
}

struct Run<'a> {
    module: &'a Module,
    f: &'a Function,
    symbols: Vec<i64>,
    mode: Mode,
    clamped: usize,
}

impl Run<'_> {
    fn run(mut self, args: &[Tensor]) -> Result<Outcome, Diagnostic> {
        let f = self.f;
        let mut values: Vec<Vec<Tensor>> = Vec::with_capacity(f.nodes.len());
        for node in &f.nodes {
            let inputs: Vec<&Tensor> = node.inputs.iter().map(|v| &values[v.node as usize][v.index as usize]).collect();
            let made = match &node.op {
                Op::Param(p) => vec![args[*p as usize].clone()],
                Op::Call { function, .. } => {
                    let g = &self.module.functions[*function as usize];
                    let args: Vec<Tensor> = inputs.into_iter().cloned().collect();
                    // A block has its caller's symbols, which its arguments need not mention.
                    let inner =
                        Run { module: self.module, f: g, symbols: self.symbols.clone(), mode: self.mode, clamped: 0 };
                    let out = inner.run(&args)?;
                    self.clamped += out.clamped;
                    out.results.into_iter().chain(out.updates.into_iter().map(|(_, t)| t)).collect()
                }
                _ => vec![self.node(node, &inputs)],
            };
            values.push(made);
        }
        let get = |v: crate::graph::ValueId| values[v.node as usize][v.index as usize].clone();
        Ok(Outcome {
            results: f.results.iter().map(|r| get(r.value)).collect(),
            updates: f.updates.iter().map(|(p, v)| (*p, get(*v))).collect(),
            clamped: self.clamped,
        })
    }

    fn rounds(&self) -> bool {
        self.mode == Mode::Stated
    }

    fn shape(&self, shape: &[Size]) -> Vec<usize> {
        shape.iter().map(|d| d.eval(&self.symbols).max(0) as usize).collect()
    }

    fn finish(&self, dtype: DType, shape: Vec<usize>, values: Vec<f64>) -> Tensor {
        if self.rounds() {
            Tensor::floats(dtype, &shape, &values)
        } else {
            Tensor { dtype, shape, data: Data::Float(values) }
        }
    }

    fn node(&mut self, node: &Node, x: &[&Tensor]) -> Tensor {
        let ty: &TensorType = &node.types[0];
        let shape = self.shape(&ty.shape);
        let rounds = self.rounds();
        match &node.op {
            Op::Param(_) | Op::Call { .. } => unreachable!("handled by the caller"),
            Op::Full { value, .. } => full(ty.dtype, &shape, *value),
            Op::Constant(d) => constant(d),
            Op::Iota { axis, .. } => {
                let mut v = Vec::with_capacity(count(&shape));
                each_index(&shape, |at| v.push(at[*axis as usize] as i64));
                from_ints(ty.dtype, &shape, &v)
            }
            Op::FromSize { size, .. } => from_ints(ty.dtype, &shape, &[size.eval(&self.symbols)]),
            Op::Unary(op) => elementwise::unary(*op, x[0], ty.dtype, rounds),
            Op::Binary(op) => elementwise::binary(*op, x[0], x[1], rounds),
            Op::Compare(op) => elementwise::compare(*op, x[0], x[1]),
            Op::Cast(to) => elementwise::cast(x[0], *to, rounds),
            Op::Bitcast(to) => x[0].bitcast(*to),
            Op::Gated(a) => {
                let gate = elementwise::unary(a.unary(), x[0], ty.dtype, rounds);
                elementwise::binary(crate::graph::BinaryOp::Multiply, &gate, x[1], rounds)
            }
            Op::Select => {
                let pick = |i: usize| x[0].int(i) != 0;
                let data = match (&x[1].data, &x[2].data) {
                    (Data::Float(a), Data::Float(b)) => {
                        Data::Float((0..a.len()).map(|i| if pick(i) { a[i] } else { b[i] }).collect())
                    }
                    (Data::Int(a), Data::Int(b)) => {
                        Data::Int((0..a.len()).map(|i| if pick(i) { a[i] } else { b[i] }).collect())
                    }
                    _ => unreachable!("inference wants operands of one dtype"),
                };
                Tensor { dtype: ty.dtype, shape, data }
            }
            Op::Reshape { .. } => Tensor { dtype: ty.dtype, shape, data: x[0].data.clone() },
            Op::Concat { axis } => concat(x, *axis as usize, ty.dtype, shape),
            Op::Gather { axis } => self.gather(x[0], x[1], *axis as usize, shape),
            Op::TakeAlong { axis } => self.take_along(x[0], x[1], *axis as usize),
            Op::GatherNd { axes } => self.gather_nd(x[0], &x[1..], axes, shape),
            Op::Scatter { axes, reduce } => self.scatter(x[0], x[1], &x[2..], axes, *reduce),
            Op::ScatterAlong { axis, reduce } => self.scatter_along(x, *axis as usize, *reduce),
            Op::Scan { op, axis, reverse, exclusive } => {
                let steps = indexed::Steps { axis: *axis as usize, reverse: *reverse, exclusive: *exclusive };
                indexed::scan(x[0], *op, steps, ty.dtype, rounds)
            }
            Op::ArgSort { axis } => indexed::argsort(x[0], *axis as usize),
            Op::RandomBits { shape: one, width } => random::bits(x[0], ty.dtype, shape, one.len(), *width as usize),
            Op::SliceUpdate { axes } => self.slice_update(x, axes),
            Op::Pad { low, value, .. } => {
                let mut out = full(ty.dtype, &shape, *value);
                let s = strides(&shape);
                let mut i = 0;
                each_index(&x[0].shape, |at| {
                    let to: usize = at.iter().zip(low).zip(&s).map(|((a, l), s)| (a + *l as usize) * s).sum();
                    copy(&mut out, to, x[0], i);
                    i += 1;
                });
                out
            }
            Op::Broadcast { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Reverse { .. }
            | Op::Windows { .. }
            | Op::DynamicSlice { .. } => self.view(node, x, shape),
            Op::Reduce { op, axes, .. } => self.reduce(x[0], *op, axes, ty.dtype, shape),
            Op::ArgReduce { op, axis, .. } => arg_reduce(x[0], *op, *axis as usize, shape),
            Op::MatMul { transpose_a, transpose_b } => self.matmul(x[0], x[1], *transpose_a, *transpose_b, shape),
            Op::Int8MatMul { group } => {
                let mut values = x[0].to_floats();
                for part in values.chunks_mut(*group as usize) {
                    round_int8(part);
                }
                let rounded = Tensor { dtype: x[0].dtype, shape: x[0].shape.clone(), data: Data::Float(values) };
                self.matmul(&rounded, x[1], false, true, shape)
            }
            Op::Dequantize { scheme, .. } => self.finish(ty.dtype, shape, dequantize(*scheme, x)),
            Op::RmsNorm { eps } => self.rows(x[0], |row, _| {
                let mean = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
                let r = 1.0 / (mean + eps.get()).sqrt();
                (0..row.len()).map(|i| row[i] * r * x.get(1).map_or(1.0, |w| w.float(i))).collect()
            }),
            Op::LayerNorm { eps } => self.rows(x[0], |row, _| {
                let n = row.len() as f64;
                let mean = row.iter().sum::<f64>() / n;
                let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
                let r = 1.0 / (var + eps.get()).sqrt();
                let at = |k: usize, i: usize, or: f64| x.get(k).map_or(or, |w| w.float(i));
                (0..row.len()).map(|i| (row[i] - mean) * r * at(1, i, 1.0) + at(2, i, 0.0)).collect()
            }),
            Op::Softmax => self.rows(x[0], |row, _| softmax(row)),
            Op::Rope { .. } => self.rope(&node.op, x),
            Op::Sdpa { .. } => self.sdpa(&node.op, x, shape),
        }
    }

    fn clamp(&mut self, i: i64, hi: i64) -> usize {
        let c = i.clamp(0, hi.max(0));
        self.clamped += usize::from(c != i);
        c as usize
    }

    fn view(&mut self, node: &Node, x: &[&Tensor], shape: Vec<usize>) -> Tensor {
        let s = strides(&x[0].shape);
        let skip = shape.len() - x[0].shape.len().min(shape.len());
        let starts: Vec<i64> = match &node.op {
            Op::Slice { start, .. } => start.iter().map(|d| d.eval(&self.symbols)).collect(),
            Op::DynamicSlice { axes, .. } => {
                let mut out = vec![0; shape.len()];
                for (i, a) in axes.iter().enumerate() {
                    let a = *a as usize;
                    let room = x[0].shape[a] as i64 - shape[a] as i64;
                    out[a] = self.clamp(x[1 + i].int(0), room) as i64;
                }
                out
            }
            _ => vec![0; shape.len()],
        };
        let mut at_source = Vec::with_capacity(count(&shape));
        each_index(&shape, |at| {
            at_source.push(match &node.op {
                Op::Broadcast { .. } => {
                    (0..s.len()).map(|i| if x[0].shape[i] == 1 { 0 } else { at[i + skip] * s[i] }).sum::<usize>()
                }
                Op::Transpose { perm } => perm.iter().zip(at).map(|(p, a)| a * s[*p as usize]).sum(),
                Op::Slice { step, .. } => {
                    (0..s.len()).map(|i| (starts[i] as usize + at[i] * step[i] as usize) * s[i]).sum()
                }
                Op::Windows { axes, strides, dilations, .. } => (0..s.len())
                    .map(|i| match axes.iter().position(|a| *a as usize == i) {
                        Some(w) => at[i] * strides[w] as usize + at[s.len() + w] * dilations[w] as usize,
                        None => at[i],
                    } * s[i])
                    .sum(),
                Op::Reverse { axes } => (0..s.len())
                    .map(|i| if axes.contains(&(i as u32)) { x[0].shape[i] - 1 - at[i] } else { at[i] } * s[i])
                    .sum(),
                _ => (0..s.len()).map(|i| (starts[i] as usize + at[i]) * s[i]).sum(),
            });
        });
        x[0].pick(shape, at_source.into_iter())
    }

    fn index(&mut self, indices: &Tensor, at: usize, extent: usize) -> usize {
        let (i, n) = (indices.int(at), extent as i64);
        // An unsigned index is never counted from the end.
        let i = if indices.dtype == DType::U64 && i < 0 { i64::MAX } else { i };
        self.clamp(if i < 0 { i + n } else { i }, n - 1)
    }

    fn gather(&mut self, x: &Tensor, indices: &Tensor, axis: usize, shape: Vec<usize>) -> Tensor {
        let s = strides(&x.shape);
        let si = strides(&indices.shape);
        let rank = indices.shape.len();
        let mut at_source = Vec::with_capacity(count(&shape));
        each_index(&shape, |at| {
            let i: usize = (0..rank).map(|k| at[axis + k] * si[k]).sum();
            let row = self.index(indices, i, x.shape[axis]);
            let before: usize = (0..axis).map(|k| at[k] * s[k]).sum();
            let after: usize = (axis + 1..s.len()).map(|k| at[k - 1 + rank] * s[k]).sum();
            at_source.push(before + row * s[axis] + after);
        });
        x.pick(shape, at_source.into_iter())
    }

    fn take_along(&mut self, x: &Tensor, indices: &Tensor, axis: usize) -> Tensor {
        let s = strides(&x.shape);
        let mut at_source = Vec::with_capacity(indices.len());
        let mut i = 0;
        each_index(&indices.shape, |at| {
            let row = self.index(indices, i, x.shape[axis]);
            at_source.push((0..s.len()).map(|k| if k == axis { row } else { at[k] } * s[k]).sum());
            i += 1;
        });
        x.pick(indices.shape.clone(), at_source.into_iter())
    }

    fn slice_update(&mut self, x: &[&Tensor], axes: &[u32]) -> Tensor {
        let mut out = x[0].clone();
        let s = strides(&out.shape);
        let mut starts = vec![0; out.shape.len()];
        for (i, a) in axes.iter().enumerate() {
            let a = *a as usize;
            starts[a] = self.clamp(x[2 + i].int(0), out.shape[a] as i64 - x[1].shape[a] as i64);
        }
        let mut i = 0;
        each_index(&x[1].shape, |at| {
            let to = (0..s.len()).map(|k| (starts[k] + at[k]) * s[k]).sum();
            copy(&mut out, to, x[1], i);
            i += 1;
        });
        out
    }

    fn reduce(&self, x: &Tensor, op: ReduceOp, axes: &[u32], to: DType, shape: Vec<usize>) -> Tensor {
        let kept: Vec<usize> = (0..x.shape.len()).filter(|i| !axes.contains(&(*i as u32))).collect();
        let kept_shape: Vec<usize> = kept.iter().map(|i| x.shape[*i]).collect();
        let sk = strides(&kept_shape);
        let n = count(&shape);
        let mut floats = vec![f64::NAN; n];
        let mut ints = vec![0i64; n];
        let mut first = vec![true; n];
        let mut i = 0;
        let wide = to == DType::U64;
        each_index(&x.shape, |at| {
            let k: usize = kept.iter().zip(&sk).map(|(a, s)| at[*a] * s).sum();
            let (f, v) = (x.float(i), x.int(i));
            i += 1;
            if std::mem::replace(&mut first[k], false) {
                (floats[k], ints[k]) = (f, v);
                return;
            }
            let larger = |a: i64, b: i64| if wide { a as u64 > b as u64 } else { a > b };
            match op {
                ReduceOp::Sum => (floats[k], ints[k]) = (floats[k] + f, ints[k].wrapping_add(v)),
                ReduceOp::Prod => (floats[k], ints[k]) = (floats[k] * f, ints[k].wrapping_mul(v)),
                ReduceOp::Max | ReduceOp::Any => {
                    floats[k] = if floats[k].is_nan() || f.is_nan() { f64::NAN } else { floats[k].max(f) };
                    ints[k] = if larger(v, ints[k]) { v } else { ints[k] };
                }
                ReduceOp::Min | ReduceOp::All => {
                    floats[k] = if floats[k].is_nan() || f.is_nan() { f64::NAN } else { floats[k].min(f) };
                    ints[k] = if larger(ints[k], v) { v } else { ints[k] };
                }
            }
        });
        let empty = match op {
            ReduceOp::Prod | ReduceOp::All => 1,
            _ => 0,
        };
        for k in 0..n {
            if first[k] {
                (floats[k], ints[k]) = (f64::from(empty), i64::from(empty));
            }
        }
        if to.is_float() { self.finish(to, shape, floats) } else { Tensor::ints(to, &shape, &ints) }
    }

    fn matmul(&self, a: &Tensor, b: &Tensor, ta: bool, tb: bool, shape: Vec<usize>) -> Tensor {
        let r = shape.len();
        let (m, n) = (shape[r - 2], shape[r - 1]);
        let k = if ta { a.shape[r - 2] } else { a.shape[r - 1] };
        let batch = count(&shape[..r - 2]);
        let dtype = a.dtype;
        let (a, b) = (a.to_floats(), b.to_floats());
        let mut out = Vec::with_capacity(batch * m * n);
        for z in 0..batch {
            for i in 0..m {
                for j in 0..n {
                    let sum = (0..k).map(|l| {
                        let x = a[z * m * k + if ta { l * m + i } else { i * k + l }];
                        let y = b[z * k * n + if tb { j * k + l } else { l * n + j }];
                        x * y
                    });
                    out.push(sum.sum());
                }
            }
        }
        self.finish(dtype, shape, out)
    }

    /// Applies `g` to each row along the last axis.
    fn rows(&self, x: &Tensor, g: impl Fn(&[f64], usize) -> Vec<f64>) -> Tensor {
        let n = x.shape.last().copied().unwrap_or(1);
        let v = x.to_floats();
        let out = if n == 0 { Vec::new() } else { v.chunks(n).enumerate().flat_map(|(i, r)| g(r, i)).collect() };
        self.finish(x.dtype, x.shape.clone(), out)
    }

    fn rope(&self, op: &Op, x: &[&Tensor]) -> Tensor {
        let Op::Rope { dims, traditional, base, scale } = op else { unreachable!("called for rope") };
        let (dims, half) = (*dims as usize, *dims as usize / 2);
        let offset = x[1].int(0) as f64;
        let queries = x[0].shape[x[0].shape.len() - 2];
        self.rows(x[0], |row, r| {
            let position = ((offset + (r % queries) as f64) * scale.get()) as f32;
            let mut out = row.to_vec();
            for i in 0..half {
                let w = match x.get(2) {
                    Some(f) => f.float(i) as f32,
                    None => (1.0 / base.get().powf(2.0 * i as f64 / dims as f64)) as f32,
                };
                let angle = f64::from(position * w);
                let (a, b) = if *traditional { (2 * i, 2 * i + 1) } else { (i, i + half) };
                out[a] = row[a] * angle.cos() - row[b] * angle.sin();
                out[b] = row[b] * angle.cos() + row[a] * angle.sin();
            }
            out
        })
    }

    fn sdpa(&mut self, op: &Op, x: &[&Tensor], shape: Vec<usize>) -> Tensor {
        let Op::Sdpa { scale, causal, mask, offset, window, softcap } = op else {
            unreachable!("called for attention")
        };
        let (q, k, v) = (x[0].to_floats(), x[1].to_floats(), x[2].to_floats());
        let (heads, queries, d) = (x[0].shape[1], x[0].shape[2], x[0].shape[3]);
        let (shared, keys, dv) = (x[1].shape[1], x[1].shape[2], x[2].shape[3]);
        let first = if *offset {
            self.clamp(x[x.len() - 1].int(0), keys as i64 - queries as i64) as i64
        } else {
            keys as i64 - queries as i64
        };
        let live = if *offset { (first as usize + queries).min(keys) } else { keys };
        let mask = mask.then(|| x[3]);
        let mut out = Vec::with_capacity(count(&shape));
        for b in 0..shape[0] {
            for h in 0..heads {
                let kv = b * shared + h / (heads / shared);
                for s in 0..queries {
                    let row = &q[((b * heads + h) * queries + s) * d..][..d];
                    let seen = if *causal { (first + s as i64 + 1).clamp(0, live as i64) as usize } else { live };
                    let from =
                        window.map_or(0, |w| (first + s as i64 + 1 - i64::from(w)).clamp(0, seen as i64) as usize);
                    let mut scores: Vec<f64> = (from..seen)
                        .map(|t| {
                            let key = &k[(kv * keys + t) * d..][..d];
                            let score = row.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * scale.get();
                            softcap.map_or(score, |c| c.get() * (score / c.get()).tanh())
                        })
                        .collect();
                    if let Some(m) = mask {
                        for (i, score) in scores.iter_mut().enumerate() {
                            let at = [b, h, s, from + i];
                            let skip = 4 - m.shape.len();
                            let st = strides(&m.shape);
                            let i: usize = (0..m.shape.len())
                                .map(|i| if m.shape[i] == 1 { 0 } else { at[i + skip] * st[i] })
                                .sum();
                            if m.dtype != DType::Bool {
                                *score += m.float(i);
                            } else if m.int(i) == 0 {
                                *score = -1e38;
                            }
                        }
                    }
                    let weights = softmax(&scores);
                    for c in 0..dv {
                        out.push((from..seen).map(|t| weights[t - from] * v[(kv * keys + t) * dv + c]).sum());
                    }
                }
            }
        }
        self.finish(x[0].dtype, shape, out)
    }
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = row.iter().map(|v| (v - most).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|v| v / sum).collect()
}

fn full(dtype: DType, shape: &[usize], value: Literal) -> Tensor {
    let n = count(shape);
    if dtype.is_float() {
        Tensor::floats(dtype, shape, &vec![value.as_f64(); n])
    } else if dtype == DType::Bool {
        Tensor::ints(dtype, shape, &vec![i64::from(value.as_f64() != 0.0); n])
    } else {
        Tensor::ints(dtype, shape, &vec![value.as_i64(); n])
    }
}

fn from_ints(dtype: DType, shape: &[usize], values: &[i64]) -> Tensor {
    if dtype.is_float() {
        Tensor::floats(dtype, shape, &values.iter().map(|v| *v as f64).collect::<Vec<_>>())
    } else {
        Tensor::ints(dtype, shape, values)
    }
}

fn constant(d: &Dense) -> Tensor {
    let shape: Vec<usize> = d.shape.iter().map(|n| *n as usize).collect();
    Tensor::from_bytes(d.dtype, &shape, &d.bytes).expect("inference checked that the bytes fill the shape")
}

fn copy(out: &mut Tensor, to: usize, from: &Tensor, i: usize) {
    match (&mut out.data, &from.data) {
        (Data::Float(o), Data::Float(x)) => o[to] = x[i],
        (Data::Int(o), Data::Int(x)) => o[to] = x[i],
        _ => unreachable!("inference wants operands of one dtype"),
    }
}

fn concat(x: &[&Tensor], axis: usize, dtype: DType, shape: Vec<usize>) -> Tensor {
    let mut out = Tensor::zeros(dtype, &shape);
    let s = strides(&shape);
    let mut start = 0;
    for t in x {
        let mut i = 0;
        each_index(&t.shape, |at| {
            let to = (0..s.len()).map(|k| (at[k] + if k == axis { start } else { 0 }) * s[k]).sum();
            copy(&mut out, to, t, i);
            i += 1;
        });
        start += t.shape[axis];
    }
    out
}

fn arg_reduce(x: &Tensor, op: ArgOp, axis: usize, shape: Vec<usize>) -> Tensor {
    let s = strides(&x.shape);
    let mut others = x.shape.clone();
    others[axis] = 1;
    let mut out = Vec::with_capacity(count(&shape));
    let wide = x.dtype == DType::U64;
    each_index(&others, |at| {
        let base: usize = at.iter().zip(&s).map(|(a, s)| a * s).sum();
        let mut best = 0;
        for i in 1..x.shape[axis] {
            let (p, q) = (base + i * s[axis], base + best * s[axis]);
            let better = match (&x.data, op) {
                (Data::Float(v), _) if v[q].is_nan() => false,
                (Data::Float(v), _) if v[p].is_nan() => true,
                (Data::Float(v), ArgOp::Max) => v[p] > v[q],
                (Data::Float(v), ArgOp::Min) => v[p] < v[q],
                (Data::Int(v), ArgOp::Max) => {
                    if wide {
                        v[p] as u64 > v[q] as u64
                    } else {
                        v[p] > v[q]
                    }
                }
                (Data::Int(v), ArgOp::Min) => {
                    if wide {
                        (v[p] as u64) < v[q] as u64
                    } else {
                        v[p] < v[q]
                    }
                }
            };
            if better {
                best = i;
            }
        }
        out.push(best as i64);
    });
    Tensor::ints(DType::U32, &shape, &out)
}

/// Values of quantised rows. A row of words is a whole number of groups, so rows follow each other without a gap.
fn dequantize(scheme: Scheme, x: &[&Tensor]) -> Vec<f64> {
    let words: Vec<u32> = (0..x[0].len()).map(|i| x[0].int(i) as u32).collect();
    let group = scheme.group() as usize;
    (0..x[1].len() * group)
        .map(|i| {
            let code = f64::from(scheme.code(code_at(&words, i, scheme.bits())));
            match x.get(2) {
                Some(biases) => x[1].float(i / group) * code + biases.float(i / group),
                None => f64::from(scheme.scale(x[1].int(i / group) as u8)) * code,
            }
        })
        .collect()
}
