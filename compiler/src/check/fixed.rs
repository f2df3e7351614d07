//! Inputs of a fixed extent that nothing in the graph fixes: every other length would need a compilation of its own.

use super::Finding;
use super::extents::Extents;
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, Module, Op, Role, ValueId};

pub(super) fn check(module: &Module) -> Vec<Finding> {
    module.entries().flat_map(entry).collect()
}

fn entry(f: &Function) -> Vec<Finding> {
    let mut extents = Extents::of(f);
    let mut out = Vec::new();
    for (i, node) in f.nodes.iter().enumerate() {
        let Op::Param(p) = node.op else { continue };
        let param = &f.params[p as usize];
        if param.role != Role::Input {
            continue;
        }
        let free: Vec<(usize, i64)> = param
            .ty
            .shape
            .iter()
            .enumerate()
            .filter_map(|(a, n)| Some((a, n.as_const().filter(|n| *n > 1)?)))
            .filter(|(a, _)| !extents.is_fixed(ValueId::of(i), *a))
            .collect();
        if free.is_empty() {
            continue;
        }
        let list: Vec<String> = free.iter().map(|(a, n)| format!("axis {a} at {n}")).collect();
        let plural = if free.len() == 1 { "an extent" } else { "extents" };
        let mut d = Diagnostic::new(
            989,
            format!("input `{}` of entry `{}` has {plural} that nothing else fixes", param.name, f.name),
        )
        .expected("an extent with a name and bounds, for every length in one compilation")
        .found(format!("{}: {}", param.ty.display(&f.symbols), list.join(", ")))
        .note("declare it with `cx.dim(\"N\", 1..=MOST)`, unless the model is for this size alone");
        if let Some(at) = &node.at {
            d = d.at(at.clone());
        }
        out.push(Finding::note(d));
    }
    out
}
