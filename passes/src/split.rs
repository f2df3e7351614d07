//! Weights that are larger than what a target binds at once: stored in pieces of whole rows.
//!
//! A product with such a weight becomes a product with each piece, joined; a gather of its rows picks from each piece and
//! selects. Scales and biases of quantised rows are cut where the words are. Anything else that reads such a
//! weight is refused.

use crate::rewrite::Rewriter;
use crate::storage::Source;
use mlxc_ir::graph::{BinaryOp, CompareOp, Function, Literal, Module, Node, Op, Role, TensorType, ValueId, Weight};
use mlxc_ir::{Diagnostic, Size};
use std::collections::BTreeMap;

/// Pieces begin at multiples of so many rows, where they have as many.
const ROUND: u64 = 256;

/// Cuts every weight of more than `limit` bytes. Gives the new module and, for each of its weights, the source.
///
/// # Errors
/// `MLXC0311` a weight that is too large and read by something that cannot be cut.
pub fn split_weights(module: &Module, sources: &[Source], limit: u64) -> Result<(Module, Vec<Source>), Diagnostic> {
    let bytes = |w: &Weight| w.ty.max_bytes(&[]);
    if module.weights.iter().all(|w| bytes(w) <= limit) {
        return Ok((module.clone(), sources.to_vec()));
    }
    let mut split = Split {
        cuts: cuts(module, limit)?,
        limit,
        weights: module.weights.clone(),
        sources: sources.to_vec(),
        pieces: BTreeMap::new(),
    };
    let mut functions = Vec::new();
    for f in &module.functions {
        functions.push(if f.is_block { f.clone() } else { split.function(f)? });
    }
    Ok((Module { weights: split.weights, states: module.states.clone(), functions }, split.sources))
}

/// Rows of a piece of every weight that is cut: those that are too large, and what goes with them.
fn cuts(module: &Module, limit: u64) -> Result<BTreeMap<u32, u64>, Diagnostic> {
    let mut out: BTreeMap<u32, u64> = BTreeMap::new();
    for (i, w) in module.weights.iter().enumerate() {
        let bytes = w.ty.max_bytes(&[]);
        if bytes > limit {
            let rows = w.ty.shape.first().and_then(Size::as_const).unwrap_or(1).max(1) as u64;
            let fit = limit / (bytes / rows).max(1);
            if fit == 0 {
                return Err(too_large(w, limit, "one row of it is larger"));
            }
            out.insert(i as u32, if fit > ROUND { fit / ROUND * ROUND } else { fit });
        }
    }
    // Words, scales and biases are cut alike, at the smallest of their pieces.
    for f in module.functions.iter().filter(|f| !f.is_block) {
        for node in f.nodes.iter().filter(|n| matches!(n.op, Op::Dequantize { .. })) {
            let parts: Option<Vec<u32>> = node.inputs.iter().map(|v| weight_of(f, *v)).collect();
            let Some(parts) = parts else { continue };
            if let Some(rows) = parts.iter().filter_map(|w| out.get(w)).min().copied() {
                parts.iter().for_each(|w| {
                    out.insert(*w, rows);
                });
            }
        }
    }
    Ok(out)
}

fn weight_of(f: &Function, v: ValueId) -> Option<u32> {
    match f.param_of(v)?.role {
        Role::Weight(w) => Some(w),
        _ => None,
    }
}

fn too_large(w: &Weight, limit: u64, why: &str) -> Diagnostic {
    Diagnostic::new(311, format!("weight `{}` is larger than what the target binds at once", w.name))
        .expected(format!("at most {limit} bytes, or rows that can be read in pieces"))
        .found(format!("{} bytes; {why}", w.ty.max_bytes(&[])))
}

struct Split {
    cuts: BTreeMap<u32, u64>,
    limit: u64,
    weights: Vec<Weight>,
    sources: Vec<Source>,
    /// Numbers and first rows of the pieces of a weight.
    pieces: BTreeMap<u32, Vec<(u32, u64)>>,
}

/// Values that stand for one, rows one after another.
#[derive(Clone)]
struct Pieces {
    weight: u32,
    values: Vec<ValueId>,
    /// First row of each.
    starts: Vec<u64>,
}

impl Split {
    /// The pieces of a weight, made once for all entries.
    fn pieces(&mut self, w: u32) -> Vec<(u32, u64)> {
        if let Some(known) = self.pieces.get(&w) {
            return known.clone();
        }
        let whole = self.weights[w as usize].clone();
        let rows = whole.ty.shape.first().and_then(Size::as_const).unwrap_or(0) as u64;
        let each = self.cuts[&w];
        let mut out = Vec::new();
        let mut first = 0;
        while first < rows {
            let count = each.min(rows - first);
            let mut shape = whole.ty.shape.clone();
            shape[0] = Size::constant(count as i64);
            self.weights.push(Weight {
                name: format!("{}.rows{first}", whole.name).into(),
                ty: TensorType { dtype: whole.ty.dtype, shape },
            });
            let of = Box::new(self.sources[w as usize].clone());
            self.sources.push(Source::Rows { of, rows, first, count });
            out.push((self.weights.len() as u32 - 1, first));
            first += count;
        }
        self.pieces.insert(w, out.clone());
        out
    }

    fn function(&mut self, f: &Function) -> Result<Function, Diagnostic> {
        let mut cut: BTreeMap<ValueId, Pieces> = BTreeMap::new();
        // New numbers of the parameters that stay.
        let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
        // Nothing asks for the value of a weight that was cut.
        let gone = || vec![ValueId { node: u32::MAX, index: 0 }];
        let mut out = Rewriter::new(f).run(|r, i, node| {
            let v = ValueId::of(i);
            if let Some(w) = weight_of(f, v).filter(|w| self.cuts.contains_key(w)) {
                let (mut values, mut starts) = (Vec::new(), Vec::new());
                for (piece, first) in self.pieces(w) {
                    let weight = self.weights[piece as usize].clone();
                    values.push(r.to.param(&weight.name, Role::Weight(piece), weight.ty, node.at.clone()));
                    starts.push(first);
                }
                cut.insert(v, Pieces { weight: w, values, starts });
                return Ok(Some(gone()));
            }
            if let Op::Param(p) = node.op {
                numbers.insert(p, r.to.function().params.len() as u32);
            }
            let Some(of) = node.inputs.iter().find_map(|x| cut.get(x)).cloned() else { return Ok(None) };
            match &node.op {
                Op::Dequantize { .. } if node.inputs.iter().all(|x| cut.contains_key(x)) => {
                    let mut values = Vec::new();
                    for n in 0..of.values.len() {
                        let inputs: Vec<ValueId> = node.inputs.iter().map(|x| cut[x].values[n]).collect();
                        values.push(r.op(node.op.clone(), &inputs, node.at.as_ref())?);
                    }
                    cut.insert(v, Pieces { values, ..of });
                    Ok(Some(gone()))
                }
                Op::MatMul { transpose_a: false, transpose_b: true } | Op::Int8MatMul { .. }
                    if cut.contains_key(&node.inputs[1]) && !cut.contains_key(&node.inputs[0]) =>
                {
                    let x = r.map(node.inputs[0]);
                    let made = of.values.iter().map(|w| r.op(node.op.clone(), &[x, *w], node.at.as_ref()));
                    let made = made.collect::<Result<Vec<_>, _>>()?;
                    let axis = node.types[0].rank() as u32 - 1;
                    let y = r.op(Op::Concat { axis }, &made, node.at.as_ref())?;
                    if let Some(name) = &node.name {
                        r.to.name(y, name.clone());
                    }
                    Ok(Some(vec![y]))
                }
                Op::Gather { axis: 0 } if !cut.contains_key(&node.inputs[1]) => {
                    gather(r, f, node, &of).map(|v| Some(vec![v]))
                }
                op => {
                    let why = format!("`{}` cannot read it in pieces", op.name());
                    let d = too_large(&self.weights[of.weight as usize], self.limit, &why);
                    Err(match &node.at {
                        Some(at) => d.at(at.clone()),
                        None => d,
                    })
                }
            }
        })?;
        for (param, _) in &mut out.updates {
            *param = numbers[param];
        }
        Ok(out)
    }
}

/// Rows of pieces: from each piece the row that the index names there, and of those the one that it means.
fn gather(r: &mut Rewriter<'_>, f: &Function, node: &Node, of: &Pieces) -> Result<ValueId, Diagnostic> {
    let at = node.at.as_ref();
    let ids = r.map(node.inputs[1]);
    let ty = f.ty(node.inputs[1]).clone();
    let full = |r: &mut Rewriter<'_>, value: i64| {
        let value = Literal::Int(value);
        r.op(Op::Full { value, dtype: ty.dtype, shape: ty.shape.clone() }, &[], at)
    };
    let binary = |r: &mut Rewriter<'_>, op, a, b| r.op(Op::Binary(op), &[a, b], at);
    let rows = f.ty(node.inputs[0]).shape[0].as_const().unwrap_or(0);
    let ids = if ty.dtype.is_signed_int() {
        // Negative indices count from the end.
        let (zero, n) = (full(r, 0)?, full(r, rows)?);
        let negative = r.op(Op::Compare(CompareOp::Less), &[ids, zero], at)?;
        let wrapped = binary(r, BinaryOp::Add, ids, n)?;
        r.op(Op::Select, &[negative, wrapped, ids], at)?
    } else {
        ids
    };
    let out_shape = node.types[0].shape.clone();
    let spread: Vec<Size> =
        ty.shape.iter().cloned().chain((ty.shape.len()..out_shape.len()).map(|_| Size::constant(1))).collect();
    let mut chosen: Option<ValueId> = None;
    for (n, piece) in of.values.iter().enumerate() {
        let first = of.starts[n] as i64;
        let end = of.starts.get(n + 1).map_or(rows, |s| *s as i64);
        let (start, last) = (full(r, first)?, full(r, end - first - 1)?);
        let local = binary(r, BinaryOp::Subtract, ids, start)?;
        // Indices of other pieces pick some row, which is not chosen.
        let local = binary(r, BinaryOp::Minimum, local, last)?;
        let local = if ty.dtype.is_signed_int() {
            let zero = full(r, 0)?;
            binary(r, BinaryOp::Maximum, local, zero)?
        } else {
            local
        };
        let picked = r.op(node.op.clone(), &[*piece, local], at)?;
        chosen = Some(match chosen {
            None => picked,
            Some(before) => {
                let here = r.op(Op::Compare(CompareOp::GreaterEqual), &[ids, start], at)?;
                let here = r.op(Op::Reshape { shape: spread.clone() }, &[here], at)?;
                let here = r.op(Op::Broadcast { shape: out_shape.clone() }, &[here], at)?;
                r.op(Op::Select, &[here, picked, before], at)?
            }
        });
    }
    let value = chosen.ok_or_else(|| Diagnostic::new(311, "a weight without rows is cut"))?;
    if let Some(name) = &node.name {
        r.to.name(value, name.clone());
    }
    debug_assert_eq!(r.to.function().ty(value).dtype, node.types[0].dtype);
    Ok(value)
}
