//! One kernel with a plan of its own: what is needed to run and time it without the model around it.
//!
//! Extents have their largest values. Positions have theirs where no extent varies with them, and else the smallest: both at their
//! largest may lie beyond a state's end, which a caller is not allowed. What the kernel reads are inputs of plain elements in the order they are stored; what it
//! writes or updates lies in the arena.

use crate::lower::emit::Target;
use crate::lower::map::Built;
use crate::memory::align;
use crate::schedule::{Scheduled, grid_size, listed, scalars};
use mlxc_ir::graph::{Function, Op, Symbol, SymbolKind};
use mlxc_ir::kernel::Access;
use mlxc_ir::{Layout, Size};
use mlxc_package::plan;

/// A plan of one entry, called as the kernel, that launches it once.
pub fn alone(f: &Function, target: &Target<'_>, built: &Built) -> Scheduled {
    let kernel = &built.kernel;
    let values = values(f);
    let at_most = |size: &Size| Size::constant(size.eval(&values));
    let phases = kernel.phases().len() as u32;
    let (mut inputs, mut buffers, mut arena) = (Vec::new(), Vec::new(), 0);
    for (i, (binding, buffer)) in built.bindings.iter().zip(&kernel.buffers).enumerate() {
        let ty = binding.scratch.as_ref().unwrap_or(f.ty(binding.value));
        let layout = match (&binding.scratch, &f.node(binding.value).op) {
            (None, Op::Param(p)) => target.layouts.get(p).copied().unwrap_or_default(),
            _ => Layout::RowMajor,
        };
        let shape: Vec<u64> = ty.shape.iter().map(|d| d.eval(&values).max(0) as u64).collect();
        let elements: u64 = layout.stored_shape(&shape).iter().product();
        let shape = vec![Size::constant(elements as i64)];
        let bytes = elements * ty.dtype.bytes();
        let name = format!("b{i}");
        let place = if buffer.access == Access::Read {
            inputs.push(plan::Port { name: name.clone(), dtype: ty.dtype, shape: shape.clone() });
            plan::Place::Input(inputs.len() as u32 - 1)
        } else {
            let offset = arena;
            arena += align(bytes);
            plan::Place::Arena { offset }
        };
        let (first, last) = (0, phases.saturating_sub(1));
        buffers.push(plan::Buffer { name, place, dtype: ty.dtype, shape, bytes, first, last, alias: None });
    }
    let scalars: Vec<Size> = scalars(kernel, &f.symbols).iter().map(at_most).collect();
    let launch = |phase: u32| plan::Launch {
        kernel: 0,
        phase,
        block: None,
        grid: kernel.phases()[phase as usize].grid.iter().map(|(_, e)| grid_size(kernel, *e, &scalars)).collect(),
        buffers: (0..buffers.len() as u32).collect(),
        scalars: scalars.clone(),
    };
    let entry = plan::Entry {
        name: kernel.name.to_string(),
        symbols: Vec::new(),
        requires: Vec::new(),
        inputs,
        outputs: Vec::new(),
        launches: (0..phases).map(launch).collect(),
        buffers,
        arena: plan::Arena { bytes: arena, lower_bound: arena, naive: arena, ..plan::Arena::default() },
    };
    let mut plan = plan::Plan::default();
    plan.kernels.push(listed(kernel, built.template));
    plan.entries.push(entry);
    Scheduled { plan, kernels: vec![kernel.clone()], weights: Vec::new(), merges: Vec::new(), computed: Vec::new() }
}

/// Values of symbols that a step may have together.
fn values(f: &Function) -> Vec<i64> {
    let sized = f.symbols.iter().any(|s| s.kind == SymbolKind::Size);
    let largest = |hi: i64, multiple: i64| hi - hi % multiple.max(1);
    let values = |positions: bool| -> Vec<i64> {
        let value = |s: &Symbol| match s.kind {
            SymbolKind::Scalar if !positions => s.range.lo,
            _ => largest(s.range.hi, s.multiple),
        };
        f.symbols.iter().map(value).collect()
    };
    let furthest = values(true);
    let allowed = f.requires.iter().all(|r| r.eval(&furthest) >= 0);
    if sized || !allowed { values(false) } else { furthest }
}
