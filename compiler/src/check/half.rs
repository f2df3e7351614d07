//! Sums of many elements that are kept in 16 bits.
//!
//! Accumulators are of f32 at every level of numerics; what is rounded is the result, and what is computed from it. At level
//! `exact` it is rounded where it stands in the graph. At level `strict` it may stay in f32 inside a kernel.

use super::values::{describe, is_half};
use super::{Finding, Places, Severity};
use crate::pipeline::Level;
use mlxc_ir::graph::{Function, Module, Node, Op, ReduceOp, ScanOp, ValueId};
use mlxc_ir::{DType, Diagnostic};

/// Elements up to which a sum is short.
const SHORT: i64 = 2048;

pub(super) fn check(module: &Module, level: Level) -> Vec<Finding> {
    let severity = match level {
        Level::Exact => Severity::Warning,
        Level::Strict => Severity::Note,
    };
    let mut places = Places::new();
    for f in &module.functions {
        for node in &f.nodes {
            if let Some(finding) = one(f, node, severity) {
                places.of(node.at.as_ref(), || finding);
            }
        }
    }
    places.into_values().collect()
}

fn one(f: &Function, node: &Node, severity: Severity) -> Option<Finding> {
    let dtype = node.types.first()?.dtype;
    if !is_half(dtype) {
        return None;
    }
    let x = *node.inputs.first()?;
    let extent = |a: u32| f.ty(x).shape[a as usize].bounds(&f.ranges()).hi;
    let (running, product, n) = match &node.op {
        Op::Reduce { op: op @ (ReduceOp::Sum | ReduceOp::Prod), axes, .. } => {
            let n = axes.iter().fold(1i64, |n, a| n.saturating_mul(extent(*a)));
            (false, *op == ReduceOp::Prod, n)
        }
        Op::Scan { op: op @ (ScanOp::Sum | ScanOp::Prod | ScanOp::LogAddExp), axis, .. } => {
            (true, *op == ScanOp::Prod, extent(*axis))
        }
        _ => return None,
    };
    let what = describe(f, x);
    let name = node.op.name();
    let elements = format!("{} with up to {n} elements in each `{name}`", f.ty(x).display(&f.symbols));
    let place = |d: Diagnostic| match &node.at {
        Some(at) => d.at(at.clone()),
        None => d,
    };
    let whole = largest_count(dtype);
    if !product && n > whole && counts(f, x) {
        // Rounding is certain here, at every level, as soon as the count is stored.
        let d = Diagnostic::new(988, format!("whole numbers are counted in {dtype}: `{name}` of {what}"))
            .expected(format!("counts up to {whole}, the last before {dtype} leaves out whole numbers"))
            .found(elements)
            .note("count in i32 or f32 and convert the result");
        return Some(Finding::warning(place(d)));
    }
    if running && n > whole {
        let d = Diagnostic::new(987, format!("a running `{name}` of {what} is kept in {dtype}"))
            .expected(format!("`astype(f32)` before a running fold of more than {whole} elements"))
            .found(elements)
            .note(format!(
                "it accumulates in f32 and every place of the result is rounded to {dtype}: far along the axis \
                 neighbours differ by less than is kept"
            ));
        return Some(Finding { severity, diagnostic: place(d) });
    }
    if !running && n > SHORT {
        let reach = match dtype {
            DType::F16 => "rounded to f16, which ends at 65504, before anything is divided by their number",
            _ => "rounded to 8 bits of precision before it is used",
        };
        let d = Diagnostic::new(986, format!("a long `{name}` of {what} is kept in {dtype}"))
            .expected(format!(
                "`astype(f32)` before a sum of more than {SHORT} elements, or a composite (`rms_norm`, `softmax`)"
            ))
            .found(elements)
            .note(match severity {
                Severity::Warning => format!("it accumulates in f32, and the result is {reach}"),
                Severity::Note => format!(
                    "it accumulates in f32; where the result leaves its kernel, and with `--numerics exact` in any \
                     case, it is {reach}"
                ),
            });
        return Some(Finding { severity, diagnostic: place(d) });
    }
    None
}

/// The largest whole number up to which a dtype has all of them.
fn largest_count(dtype: DType) -> i64 {
    if dtype == DType::F16 { 1 << 11 } else { 1 << 8 }
}

/// True if a value of 16 bits was converted from integers or bools.
fn counts(f: &Function, mut v: ValueId) -> bool {
    loop {
        let node = f.node(v);
        match node.op {
            Op::Cast(_) if !f.ty(node.inputs[0]).dtype.is_float() => return true,
            Op::Cast(_) => v = node.inputs[0],
            Op::Select => {
                let is_whole = |v: ValueId| match &f.node(v).op {
                    Op::Full { value, .. } => value.as_f64().fract() == 0.0,
                    _ => false,
                };
                return node.inputs[1..].iter().all(|v| is_whole(*v));
            }
            ref op if op.is_view() && !node.inputs.is_empty() => v = node.inputs[0],
            _ => return false,
        }
    }
}
