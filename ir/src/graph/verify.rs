//! Checks that a module is well formed: types as inferred, operands before users, states linear, calls typed.

use crate::diagnostic::Diagnostic;
use crate::graph::infer::infer;
use crate::graph::op::Op;
use crate::graph::types::{Function, Module, Role, SymbolKind, TensorType, ValueId};
use mlxc_package::{DType, MAX_BYTES};

/// Checks a whole module.
///
/// # Errors
/// Every problem found. `MLXC0210` names and numbers that do not exist, `MLXC0211` an operand used before it is made,
/// `MLXC0212` a type that differs from the inferred one, `MLXC0213` an old version of a state read after its update,
/// `MLXC0214` a parameter that does not match its weight, state or symbol, `MLXC0215` calls that recurse,
/// `MLXC0216` a call between functions of different symbols, `MLXC0219` a value of more than [`MAX_BYTES`], or what
/// [`infer`](crate::graph::infer) says.
pub fn verify(module: &Module) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    for (i, f) in module.functions.iter().enumerate() {
        verify_function(module, i, f, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn verify_function(module: &Module, index: usize, f: &Function, errors: &mut Vec<Diagnostic>) {
    for p in &f.params {
        if let Some(d) = param_problem(module, f, p.role, &p.ty) {
            errors.push(d.note(format!("parameter `{}` of `{}`", p.name, f.name)));
        }
    }
    for (i, node) in f.nodes.iter().enumerate() {
        let place = |d: Diagnostic| match &node.at {
            Some(at) if d.at.is_none() => d.at(at.clone()),
            _ => d,
        };
        let made = |v: &ValueId| (v.node as usize) < i && (v.index as usize) < f.nodes[v.node as usize].types.len();
        if !node.inputs.iter().all(made) {
            errors.push(place(Diagnostic::new(
                211,
                format!("`{}` of `{}` uses a value that is not made yet", node.op.name(), f.name),
            )));
            return;
        }
        let operands: Vec<&TensorType> = node.inputs.iter().map(|v| f.ty(*v)).collect();
        let want = match &node.op {
            Op::Param(p) => match f.params.get(*p as usize) {
                Some(p) if node.inputs.is_empty() => vec![p.ty.clone()],
                _ => {
                    errors.push(place(Diagnostic::new(210, format!("`{}` has no parameter {p}", f.name))));
                    continue;
                }
            },
            Op::Call { function, results, updates } => match call_types(module, index, f, *function, &operands)
                .and_then(|t| call_shape(module, *function, *results, updates).map(|()| t))
            {
                Ok(types) => types,
                Err(d) => {
                    errors.push(place(d));
                    continue;
                }
            },
            op => match infer(op, &operands, &f.symbols) {
                Ok(types) => types.into_vec(),
                Err(d) => {
                    errors.push(place(d));
                    continue;
                }
            },
        };
        // Later stages count elements in i64.
        if let Some(ty) = want.iter().find(|t| t.max_bytes(&f.symbols) > MAX_BYTES) {
            let name = f.value_name(ValueId::of(i));
            errors.push(place(
                Diagnostic::new(219, format!("`{name}` is too large"))
                    .expected(format!("at most {MAX_BYTES} bytes"))
                    .found(ty.display(&f.symbols).to_string()),
            ));
            continue;
        }
        if want != node.types.as_slice() {
            let show =
                |t: &[TensorType]| t.iter().map(|t| t.display(&f.symbols).to_string()).collect::<Vec<_>>().join(", ");
            errors.push(place(
                Diagnostic::new(
                    212,
                    format!("`{}` has another type than its operands give", f.value_name(ValueId::of(i))),
                )
                .expected(show(&want))
                .found(show(&node.types)),
            ));
        }
    }
    let known = |v: &ValueId| f.nodes.get(v.node as usize).is_some_and(|n| (v.index as usize) < n.types.len());
    for v in f.roots() {
        if !known(&v) {
            errors.push(Diagnostic::new(210, format!("`{}` returns a value that does not exist", f.name)));
            return;
        }
    }
    for (p, v) in &f.updates {
        if f.params.get(*p as usize).is_none_or(|p| p.ty != *f.ty(*v)) {
            errors.push(Diagnostic::new(214, format!("`{}` updates a parameter of another type", f.name)));
        }
    }
    linear_states(f, errors);
}

fn param_problem(module: &Module, f: &Function, role: Role, ty: &TensorType) -> Option<Diagnostic> {
    let mismatch = |what: &str, want: String| {
        Some(
            Diagnostic::new(214, format!("a parameter does not match its {what}"))
                .expected(want)
                .found(ty.display(&f.symbols).to_string()),
        )
    };
    match role {
        Role::Input | Role::Block => None,
        Role::Scalar(id) => {
            let ok = f.symbols.get(id.0 as usize).is_some_and(|s| s.kind == SymbolKind::Scalar);
            let want = TensorType { dtype: DType::I32, shape: Vec::new() };
            if ok && *ty == want { None } else { mismatch("symbol", "i32[] and a scalar symbol".into()) }
        }
        Role::Weight(w) => match module.weights.get(w as usize) {
            Some(w) if w.ty == *ty => None,
            Some(w) => mismatch("weight", w.ty.display(&[]).to_string()),
            None => mismatch("weight", format!("one of {} weights", module.weights.len())),
        },
        Role::State(s) => match module.states.get(s as usize) {
            Some(s) if s.ty == *ty => None,
            Some(s) => mismatch("state", s.ty.display(&[]).to_string()),
            None => mismatch("state", format!("one of {} states", module.states.len())),
        },
    }
}

/// The result types of a call: the callee's results, then its updated parameters.
fn call_types(
    module: &Module,
    caller: usize,
    f: &Function,
    callee: u32,
    operands: &[&TensorType],
) -> Result<Vec<TensorType>, Diagnostic> {
    let Some(g) = module.functions.get(callee as usize) else {
        return Err(Diagnostic::new(210, format!("`{}` calls function {callee}, which does not exist", f.name)));
    };
    if callee as usize == caller || !g.is_block || g.nodes.iter().any(|n| matches!(n.op, Op::Call { .. })) {
        return Err(Diagnostic::new(215, format!("`{}` may not call `{}`", f.name, g.name))
            .expected("a block function that calls nothing"));
    }
    if g.symbols != f.symbols {
        return Err(Diagnostic::new(216, format!("`{}` and `{}` have different symbols", f.name, g.name)));
    }
    let params: Vec<&TensorType> = g.params.iter().map(|p| &p.ty).collect();
    if params != operands {
        let show =
            |t: &[&TensorType]| t.iter().map(|t| t.display(&f.symbols).to_string()).collect::<Vec<_>>().join(", ");
        return Err(Diagnostic::new(212, format!("arguments do not fit `{}`", g.name))
            .expected(show(&params))
            .found(show(operands)));
    }
    Ok(g.roots().map(|v| g.ty(v).clone()).collect())
}

/// A call says itself how many results and which updates its callee has.
fn call_shape(module: &Module, callee: u32, results: u32, updates: &[u32]) -> Result<(), Diagnostic> {
    let g = &module.functions[callee as usize];
    let own: Vec<u32> = g.updates.iter().map(|(p, _)| *p).collect();
    if results as usize == g.results.len() && updates == own {
        return Ok(());
    }
    Err(Diagnostic::new(212, format!("a call of `{}` counts its results wrongly", g.name))
        .expected(format!("{} results, updates of {own:?}", g.results.len()))
        .found(format!("{results} results, updates of {updates:?}")))
}

/// Refuses a read of a state version after the node that made its successor, and two successors of one version.
fn linear_states(f: &Function, errors: &mut Vec<Diagnostic>) {
    // The version chain: parameter, then every slice_update of a version that leads to the final one.
    for (param, last) in &f.updates {
        let mut version = *last;
        while let Op::SliceUpdate { .. } = f.node(version).op {
            let old = f.node(version).inputs[0];
            for (i, node) in f.nodes.iter().enumerate() {
                let reads = node.inputs.contains(&old);
                if reads && i > version.node as usize {
                    errors.push(stale(f, *param, old, version, i));
                }
            }
            version = old;
        }
    }
}

fn stale(f: &Function, param: u32, old: ValueId, new: ValueId, reader: usize) -> Diagnostic {
    let node = &f.nodes[reader];
    let place = |v: ValueId| f.node(v).at.as_ref().map_or_else(|| f.value_name(v), ToString::to_string);
    let mut d = Diagnostic::new(
        213,
        format!("`{}` reads an old version of state `{}`", node.op.name(), f.params[param as usize].name),
    )
    .expected(format!("the version made at {}", place(new)))
    .found(format!("the version made at {}", place(old)));
    d.at = node.at.clone();
    d
}
