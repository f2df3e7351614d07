//! States that grow: a key-value cache that a step takes, joins with new rows and gives back copies all of it each step,
//! and has another shape each time.

use super::values::describe;
use super::{Finding, Places};
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, Module, Op, Role, ValueId};

/// Rows up to which moving a window costs less than an index into it, as of a convolution's state.
const FEW_ROWS: i64 = 16;

const ADVICE: &str = "keep it as a state of fixed capacity (`cx.state`), and write the new rows at the position \
     (`State::update`, a slice_update in place)";

pub(super) fn check(module: &Module) -> Vec<Finding> {
    let mut places = Places::new();
    for f in &module.functions {
        for r in &f.results {
            if let Some(d) = grown(f, r.value, &r.name) {
                let at = d.at.clone();
                places.of(at.as_ref(), || d);
            }
        }
        for (p, v) in &f.updates {
            if let Some(d) = moved(f, *p, *v) {
                let at = d.at.clone();
                places.of(at.as_ref(), || d);
            }
        }
    }
    places.into_values().map(Finding::warning).collect()
}

/// A result that is an input with new rows behind it or before it.
fn grown(f: &Function, result: ValueId, name: &str) -> Option<Diagnostic> {
    let joined = through(f, result, |op| matches!(op, Op::Cast(_) | Op::Reshape { .. } | Op::Transpose { .. }));
    let node = f.node(joined);
    let Op::Concat { axis } = node.op else { return None };
    let axis = axis as usize;
    let (at, old) = node.inputs.iter().enumerate().find_map(|(i, v)| {
        let v = through(f, *v, |op| matches!(op, Op::Cast(_)));
        let is_input = f.param_of(v).is_some_and(|p| p.role == Role::Input);
        (is_input && f.ty(v).shape[axis].as_const().is_none()).then_some((i, v))
    })?;
    // It can be given back: it has the input's rank and dtype.
    if f.ty(result).dtype != f.ty(old).dtype || f.ty(result).rank() != f.ty(old).rank() {
        return None;
    }
    let mut symbols = Vec::new();
    f.ty(old).shape[axis].symbols(&mut |s| symbols.push(s));
    // Rows whose number has nothing to do with the old ones', and that are computed.
    let is_new = |v: &ValueId| {
        let mut tied = false;
        f.ty(*v).shape[axis].symbols(&mut |s| tied |= symbols.contains(&s));
        !tied && depends_on_input(f, *v)
    };
    let mut others = node.inputs.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, v)| v);
    if !others.clone().any(is_new) || !others.all(is_new) {
        return None;
    }
    let input = &f.param_of(old)?.name;
    let mut d = Diagnostic::new(985, format!("result `{name}` is input `{input}` grown by new rows"))
        .expected("a cache of fixed capacity that a step writes its rows into")
        .found(format!(
            "{} from {}, joined along axis {axis}",
            f.ty(joined).display(&f.symbols),
            f.ty(old).display(&f.symbols)
        ))
        .note("if it is given back with the next step, every step copies all of it")
        .note(ADVICE);
    if let Some(at) = &node.at {
        d = d.at(at.clone());
    }
    Some(d)
}

/// A state whose new version is made of its own old rows and new ones: all of it moves.
fn moved(f: &Function, param: u32, new: ValueId) -> Option<Diagnostic> {
    let state = &f.params[param as usize];
    let mut v = new;
    loop {
        // The rows that an update writes, or the value itself.
        let written = match f.node(v).op {
            Op::SliceUpdate { .. } => f.node(v).inputs[1],
            _ => v,
        };
        let joined = through(f, written, |op| {
            matches!(op, Op::Cast(_) | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. })
        });
        if let Op::Concat { axis } = f.node(joined).op {
            let own = f.node(joined).inputs.iter().find(|v| reads(f, **v, param));
            let rows = f.ty(joined).shape[axis as usize].clone().bounds(&f.ranges()).hi;
            if own.is_some() && rows > FEW_ROWS {
                let mut d = Diagnostic::new(985, format!("state `{}` is copied whole each step", state.name))
                    .expected("new rows written into the state where they belong")
                    .found(format!(
                        "{} joined with {} and written back",
                        own.map_or_else(String::new, |v| describe(f, *v)),
                        f.node(joined)
                            .inputs
                            .iter()
                            .filter(|v| Some(*v) != own)
                            .map(|v| describe(f, *v))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ))
                    .note(ADVICE)
                    .note("a window that rotates is written at the position modulo its length");
                if let Some(at) = &f.node(joined).at {
                    d = d.at(at.clone());
                }
                return Some(d);
            }
        }
        match f.node(v).op {
            Op::SliceUpdate { .. } => v = f.node(v).inputs[0],
            _ => return None,
        }
    }
}

/// What a value is, looked at through ops that move or convert it.
fn through(f: &Function, mut v: ValueId, passes: impl Fn(&Op) -> bool) -> ValueId {
    while passes(&f.node(v).op) {
        v = f.node(v).inputs[0];
    }
    v
}

/// True if a value is a part of the old version of a state.
fn reads(f: &Function, v: ValueId, param: u32) -> bool {
    let v = through(f, v, |op| op.is_view() || matches!(op, Op::Cast(_)));
    f.node(v).op == Op::Param(param)
}

fn depends_on_input(f: &Function, v: ValueId) -> bool {
    let mut seen = vec![false; v.node as usize + 1];
    let mut stack = vec![v.node];
    while let Some(n) = stack.pop() {
        if std::mem::replace(&mut seen[n as usize], true) {
            continue;
        }
        let node = &f.nodes[n as usize];
        if let Op::Param(i) = node.op
            && f.params[i as usize].role == Role::Input
        {
            return true;
        }
        stack.extend(node.inputs.iter().map(|v| v.node));
    }
    false
}
