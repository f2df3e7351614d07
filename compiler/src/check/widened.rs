//! Values of 16 bits that became 32 because an array they met had 32.
//!
//! A cast that the tracer put in for an op has the op's line and no column. It is found if the other operand is of the
//! wider dtype by itself (an input, a weight, a constant, a mask); what goes back to a cast that was written is what the
//! user asked for.

use super::values::{describe, is_half};
use super::{Finding, Places};
use mlxc_ir::graph::{Function, Module, Op, ValueId};
use mlxc_ir::{DType, Diagnostic};
use std::fmt::Write;

/// What made a value wide.
#[derive(Clone, Copy, Default)]
struct Origin {
    /// A cast that was written.
    asked: bool,
    /// A value that is wide by itself.
    source: Option<ValueId>,
    /// The widening it follows from, by number.
    widening: Option<usize>,
}

impl Origin {
    fn and(self, other: Origin, f: &Function) -> Origin {
        // A number that took the dtype of its array says nothing of where that came from.
        let telling = |v: &ValueId| !matches!(f.node(*v).op, Op::Full { .. });
        let source = [self.source, other.source].into_iter().flatten();
        let source = source.clone().find(telling).or_else(|| source.clone().next());
        Origin { asked: self.asked || other.asked, source, widening: self.widening.or(other.widening) }
    }
}

/// One value that was widened.
struct Widening {
    /// The op that needed it.
    op: usize,
    /// The value before.
    narrow: ValueId,
    /// The cast.
    cast: u32,
    /// What it met.
    met: ValueId,
    /// Where the wide dtype of that comes from.
    source: ValueId,
    /// Ops that compute in the wide dtype after it.
    follow: usize,
    /// A result that is wide because of it.
    output: Option<String>,
}

/// Findings, one for each line.
pub(super) fn check(module: &Module) -> Vec<Finding> {
    let mut places = Places::new();
    for f in &module.functions {
        for w in widenings(f) {
            let at = f.nodes[w.cast as usize].at.as_ref();
            let found: &mut Found = places.of(at, || Found::new(f, &w));
            found.places += 1;
            found.follow += w.follow;
            if found.output.is_none() {
                found.output = w.output;
            }
        }
    }
    places.into_values().map(Found::into_finding).collect()
}

/// A line at which values are widened.
struct Found {
    diagnostic: Diagnostic,
    narrow: DType,
    wide: DType,
    places: usize,
    follow: usize,
    output: Option<String>,
}

impl Found {
    fn new(f: &Function, w: &Widening) -> Self {
        let (narrow, wide) = (f.ty(w.narrow).dtype, f.nodes[w.cast as usize].types[0].dtype);
        let (what, by) = (describe(f, w.narrow), describe(f, w.met));
        let mut met = w.met;
        while f.node(met).op.is_view() && !f.node(met).inputs.is_empty() {
            met = f.node(met).inputs[0];
        }
        let from = describe(f, w.source);
        let mut origin = if from == by { String::new() } else { format!(", from {from}") };
        if let Some(at) = &f.node(w.source).at {
            let _ = write!(origin, ", made at {at}");
        }
        let mut diagnostic = Diagnostic::new(980, format!("{what} is widened from {narrow} to {wide} by {by}"))
            .expected(format!("operands of {narrow}"))
            .found(format!("{by}: {}{origin}", f.ty(met).display(&f.symbols)));
        if let Some(at) = &f.nodes[w.op].at {
            diagnostic = diagnostic.at(at.clone());
        }
        Found { diagnostic, narrow, wide, places: 0, follow: 0, output: None }
    }

    fn into_finding(self) -> Finding {
        let (narrow, wide) = (self.narrow, self.wide);
        let ops = if self.follow == 1 { "1 op computes".to_string() } else { format!("{} ops compute", self.follow) };
        let times = if self.places == 1 { String::new() } else { format!(", in {} uses of this line", self.places) };
        let result = self.output.map_or_else(String::new, |o| format!("; result `{o}` is {wide}"));
        let d = self.diagnostic.note(format!("{ops} in {wide} because of it{times}{result}")).note(format!(
            "give the other operand as {narrow} (`astype`), or as a plain number, which takes the array's dtype; \
             `astype({wide})` on this one says that it is meant"
        ));
        Finding::warning(d)
    }
}

/// The widenings of a function, in the order of the ops that needed them.
fn widenings(f: &Function) -> Vec<Widening> {
    let users = f.users();
    let casts: Vec<Option<(u32, Vec<ValueId>)>> =
        (0..f.nodes.len()).map(|i| if widens(f, i) { meeting(f, &users, i) } else { None }).collect();
    let mut out: Vec<Widening> = Vec::new();
    let mut origins: Vec<Origin> = Vec::with_capacity(f.nodes.len());
    for (i, node) in f.nodes.iter().enumerate() {
        let mut origin = origin_of(f, i, &origins);
        let here = |c: &&Option<(u32, Vec<ValueId>)>| c.as_ref().is_some_and(|(n, _)| *n as usize == i);
        for (cast, met) in casts.iter().enumerate().filter(|(_, c)| here(c)) {
            let met = met.as_ref().map(|(_, met)| met.as_slice()).unwrap_or_default();
            let narrow = f.nodes[cast].inputs[0];
            let mut other = Origin::default();
            let mut operand = None;
            for v in met {
                match halved(f, *v) {
                    Some(h) if f.ty(h).dtype == f.ty(narrow).dtype => {}
                    Some(h) => {
                        other.source = Some(h);
                        operand = operand.or(other.source);
                    }
                    None => {
                        other = other.and(origins[v.node as usize], f);
                        operand = operand.or(Some(*v));
                    }
                }
            }
            if other.asked {
                continue;
            }
            if let Some(w) = other.widening {
                origin = Origin { asked: false, widening: Some(w), ..origin };
                continue;
            }
            // Without a source all operands are widened alike: the tracer computes wider by itself.
            let (Some(source), Some(met)) = (other.source, operand) else { continue };
            // Several operands may be widened by one; a finding tells of all.
            let known = out.iter().position(|w| w.op == i);
            origin = Origin { asked: false, widening: Some(known.unwrap_or(out.len())), ..origin };
            if known.is_none() {
                out.push(Widening { op: i, narrow, cast: cast as u32, met, source, follow: 0, output: None });
            }
        }
        if let Some(w) = origin.widening.filter(|_| !origin.asked)
            && computes(&node.op)
        {
            out[w].follow += 1;
        }
        origins.push(origin);
    }
    for r in f.results.iter().rev() {
        let o = origins[r.value.node as usize];
        if let Some(w) = o.widening.filter(|_| !o.asked) {
            out[w].output = Some(r.name.to_string());
        }
    }
    out
}

fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64)
}

fn widens(f: &Function, i: usize) -> bool {
    let node = &f.nodes[i];
    matches!(node.op, Op::Cast(to) if is_wide(to) && is_half(f.ty(node.inputs[0]).dtype))
}

/// True for ops that only say where an element is found.
fn moves(op: &Op) -> bool {
    op.is_view() || matches!(op, Op::Pad { .. })
}

fn computes(op: &Op) -> bool {
    !moves(op) && !matches!(op, Op::Cast(_) | Op::Full { .. } | Op::Constant(_) | Op::Param(_))
}

/// The op that a cast was put in for, with its other operands of the same dtype; none for a cast that was written.
fn meeting(f: &Function, users: &[Vec<u32>], cast: usize) -> Option<(u32, Vec<ValueId>)> {
    let at = f.nodes[cast].at.as_ref().filter(|at| at.line > 0 && at.column == 0)?;
    let is_near = |n: u32| f.nodes[n as usize].at.as_ref().is_some_and(|l| l.file == at.file && l.line == at.line);
    let dtype = f.nodes[cast].types[0].dtype;
    let mut stack = vec![cast as u32];
    let mut mine = vec![cast as u32];
    while let Some(n) = stack.pop() {
        for u in users[n as usize].iter().filter(|u| is_near(**u)) {
            let node = &f.nodes[*u as usize];
            if moves(&node.op) {
                stack.push(*u);
                mine.push(*u);
                continue;
            }
            let others: Vec<ValueId> =
                node.inputs.iter().copied().filter(|v| !mine.contains(&v.node) && f.ty(*v).dtype == dtype).collect();
            if !others.is_empty() {
                return Some((*u, others));
            }
        }
    }
    None
}

/// The value of 16 bits that an operand is, if it is one that was widened.
fn halved(f: &Function, mut v: ValueId) -> Option<ValueId> {
    while moves(&f.node(v).op) && !f.node(v).inputs.is_empty() {
        v = f.node(v).inputs[0];
    }
    widens(f, v.node as usize).then(|| f.node(v).inputs[0])
}

fn origin_of(f: &Function, i: usize, origins: &[Origin]) -> Origin {
    let node = &f.nodes[i];
    if !node.types.iter().any(|t| is_wide(t.dtype)) {
        return Origin::default();
    }
    if let Op::Cast(_) = node.op
        && is_half(f.ty(node.inputs[0]).dtype)
    {
        return Origin { asked: true, ..Origin::default() };
    }
    let wide = node.inputs.iter().filter(|v| is_wide(f.ty(**v).dtype)).map(|v| origins[v.node as usize]);
    wide.reduce(|a, b| a.and(b, f)).unwrap_or_else(|| Origin { source: Some(ValueId::of(i)), ..Origin::default() })
}
