//! The kernel of a region: which template its anchor asks for, and whether what was built can run.

use crate::choices::Choices;
use crate::lower::emit::{Refusal, Region, Target, is_free};
use crate::lower::map::Built;
use crate::lower::{attention, line, map, matmul, product};
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::profile::TargetKind;
use mlxc_package::MAX_GROUP_BYTES;
use std::collections::BTreeSet;

/// Builds the kernel of a set of nodes with the template their anchor asks for. A kernel that only a choice refuses is built by
/// the formulas: choices decide how large its pieces are, never whether it exists.
///
/// # Errors
/// A refusal where no template fits.
pub fn build(f: &Function, target: &Target<'_>, nodes: &Region, outputs: &[ValueId]) -> Result<Built, Refusal> {
    let built = build_chosen(f, target, nodes, outputs);
    if built.is_ok() || target.choices.is_empty() {
        return built;
    }
    build_chosen(f, &Target { choices: Choices::FORMULAS, ..*target }, nodes, outputs)
}

/// As [`build`], by the choices alone.
///
/// # Errors
/// As [`build`], and where a choice does not fit.
pub fn build_chosen(f: &Function, target: &Target<'_>, nodes: &Region, outputs: &[ValueId]) -> Result<Built, Refusal> {
    let mut products = Vec::new();
    let mut attentions = Vec::new();
    let mut lines = Vec::new();
    let mut computed = Vec::new();
    for n in nodes {
        match &f.nodes[*n as usize].op {
            op if line::is_anchor(op) => lines.push(*n),
            Op::Sdpa { .. } => attentions.push(*n),
            Op::MatMul { .. } | Op::Int8MatMul { .. } if matmul::fits(f, target, *n) => products.push(*n),
            Op::MatMul { .. } if product::fits(f, *n) => computed.push(*n),
            _ => {}
        }
    }
    let name = name(f, nodes, outputs);
    let built = match (products.as_slice(), attentions.as_slice(), lines.as_slice()) {
        ([], [], []) => match computed.as_slice() {
            [] => map::build(f, target, nodes, outputs, &name),
            [n] => match product::build(f, target, nodes, *n, outputs, &name).and_then(|b| proved(b, target)) {
                // Alone it has a kernel in any case.
                Err(_) if nodes.len() == 1 => map::build(f, target, nodes, outputs, &name),
                built => built,
            },
            _ => Err(Refusal::new("anchors", "a kernel has one product")),
        },
        _ if !computed.is_empty() => Err(Refusal::new("anchors", "a kernel has one product")),
        ([], [], [n]) => line::build(f, target, nodes, *n, outputs, &name),
        ([p], [], []) if reduces_before(f, nodes, *p) => {
            Err(Refusal::new("recompute", "every task of the product would repeat a reduction over its rows"))
        }
        ([p], [], []) => match matmul::build(f, target, nodes, *p, outputs, &name).and_then(|b| proved(b, target)) {
            Err(_) if nodes.len() == 1 => map::build(f, target, nodes, outputs, &name),
            built => built,
        },
        ([], [a], []) => attention::build(f, target, nodes, *a, outputs, &name),
        _ => Err(Refusal::new("anchors", "a kernel has one product, attention, scan, sort or scatter")),
    }?;
    proved(built, target)
}

/// A kernel whose group memory can be had and whose every index is proved to be in range.
fn proved(built: Built, target: &Target<'_>) -> Result<Built, Refusal> {
    let statements = mlxc_ir::kernel::unrolled_statements(&built.kernel);
    if statements > mlxc_ir::kernel::STATEMENT_CAP {
        return Err(Refusal::new("size", format!("the kernel would have {statements} statements")));
    }
    let bytes = built.kernel.groups.iter().fold(0u64, |n, g| n.saturating_add(g.bytes()));
    // CPUs spill group memory to the next cache; GPUs have no more.
    let most = match target.profile.kind {
        TargetKind::Cpu => MAX_GROUP_BYTES,
        TargetKind::Gpu => target.profile.limits.group_bytes,
    };
    if bytes > most {
        return Err(Refusal::new("group-memory", format!("a task needs {bytes} bytes of group memory")));
    }
    if built.work.opaque > 0
        && let Err(d) = mlxc_ir::kernel::check(&built.kernel)
    {
        return Err(Refusal::new("unproved", format!("an index is not proved to be in range: {}", d.message)));
    }
    Ok(built)
}

/// True if the product's left factor needs a reduction that stands in the same region.
fn reduces_before(f: &Function, nodes: &Region, product: u32) -> bool {
    let mut stack = vec![f.nodes[product as usize].inputs[0].node];
    let mut seen = BTreeSet::new();
    while let Some(n) = stack.pop() {
        if !seen.insert(n) || !(nodes.contains(&n) || is_free(f, n)) {
            continue;
        }
        if nodes.contains(&n)
            && matches!(
                f.nodes[n as usize].op,
                Op::Reduce { .. } | Op::ArgReduce { .. } | Op::MatMul { .. } | Op::Int8MatMul { .. }
            )
        {
            return true;
        }
        stack.extend(f.nodes[n as usize].inputs.iter().map(|v| v.node));
    }
    false
}

/// A kernel is named after its anchor (a product without a name after its weight), else its last output.
fn name(f: &Function, nodes: &Region, outputs: &[ValueId]) -> String {
    let is_anchor = |op: &Op| matches!(op, Op::Sdpa { .. } | Op::MatMul { .. } | Op::Int8MatMul { .. });
    let anchor = nodes.iter().find(|n| is_anchor(&f.nodes[**n as usize].op));
    let v = match anchor {
        Some(n) => ValueId::of(*n as usize),
        None => outputs.last().copied().unwrap_or(ValueId::of(0)),
    };
    let weight = anchor.filter(|_| f.node(v).name.is_none()).and_then(|n| matmul::named_weight(f, *n));
    match weight {
        Some(p) => weight_name(&f.params[p as usize].name),
        None => crate::lower::emit::identifier(&f.value_name(v)),
    }
}

/// `self_attn.{q_proj,k_proj}.weight` gives `q_proj_k_proj`, and `conv.matrix` gives `conv`.
fn weight_name(name: &str) -> String {
    let name = name.trim_end_matches(".weight").trim_end_matches(".matrix");
    let part = name.rsplit('.').next().unwrap_or(name);
    let part = part.trim_matches(|c| c == '{' || c == '}');
    crate::lower::emit::identifier(part)
}
