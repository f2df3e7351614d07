//! Scatters: a copy of x, then the updates in their order.
//!
//! A task owns every element it writes: with axes that are not indexed, one place along those (or a vector of them) and all
//! of the indexed axes; with none, a range of the first indexed axis, of which it applies the updates and passes over
//! the others. So updates of one element are applied in order, whatever the threads do.

use crate::lower::coord::Coord;
use crate::lower::elementwise;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::gpu::is_gpu;
use crate::lower::line::{Lines, Task, has_vectors};
use mlxc_ir::graph::{Op, ScatterOp, ValueId};
use mlxc_ir::kernel::{Access, Val};
use mlxc_ir::{DType, Range};

/// Ranges that tasks share out, and the extent from which that is worth their reading all indices.
const RANGES: i64 = 8;
/// The same for lanes of a GPU.
const RANGES_OF_LANES: i64 = 512;
const LONG: i64 = 1024;

/// Builds the kernel of a scatter over several axes.
pub(super) fn build(e: &mut Emitter<'_, '_>, v: ValueId) -> Lowered<()> {
    let f = e.f;
    let node = f.node(v);
    let Op::Scatter { axes, reduce } = &node.op else { unreachable!("called for scatters") };
    let (x, updates, indices) = (node.inputs[0], node.inputs[1], &node.inputs[2..]);
    let shape = node.types[0].shape.clone();
    let places = f.ty(indices[0]).shape.clone();
    let every = axes.len() == shape.len();
    let shared = every && shape[axes[0] as usize].as_const().is_some_and(|n| n >= LONG);
    let gpu = is_gpu(e.target.profile);
    let ranges = match (shared, gpu) {
        (false, _) => 1,
        (true, false) => RANGES,
        (true, true) => RANGES_OF_LANES,
    };
    let lines = Lines { axes: axes.clone(), vectors: has_vectors(&shape, axes), ranges };
    if gpu {
        copy_all(e, v, x)?;
    }
    e.lines(&shape, &lines, |e, task| {
        if !gpu {
            copy(e, v, x, &lines, &task)?;
        }
        let kept: Vec<Coord> =
            (0..shape.len()).filter(|i| !axes.contains(&(*i as u32))).map(|i| task.at[i].clone()).collect();
        let all: Vec<u32> = (0..places.len() as u32).collect();
        let start = vec![Coord::constant(0); places.len()];
        e.loops_over(&all, &places, start, &mut |e, at| {
            let to = e.indexed(x, indices, axes, &at, &kept)?.expect("indices are read one at a time");
            let from: Vec<Coord> = at.iter().chain(&kept).cloned().collect();
            let Some((first, end)) = &task.range else { return apply(e, v, updates, *reduce, &from, &to) };
            let (i, lo) = (e.ix(&to[axes[0] as usize]), e.ix(first));
            let mine = i.ge(lo) & i.lt(*end);
            let mut result = Ok(());
            e.k.if_(mine, || result = e.scoped(1.0 / ranges as f64, |e| apply(e, v, updates, *reduce, &from, &to)));
            result
        })
    })
}

/// Builds the kernel of a scatter with an index for each element of the other axes.
pub(super) fn build_along(e: &mut Emitter<'_, '_>, v: ValueId) -> Lowered<()> {
    let f = e.f;
    let node = f.node(v);
    let Op::ScatterAlong { axis, reduce } = node.op else { unreachable!("called for scatters") };
    let (x, indices, updates) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let shape = node.types[0].shape.clone();
    let lines = Lines { axes: vec![axis], vectors: false, ranges: 1 };
    let along = axis as usize;
    let gpu = is_gpu(e.target.profile);
    if gpu {
        copy_all(e, v, x)?;
    }
    e.lines(&shape, &lines, |e, task| {
        if !gpu {
            copy(e, v, x, &lines, &task)?;
        }
        let from_shape = f.ty(indices).shape.clone();
        e.loops_over(&[axis], &from_shape, task.at.clone(), &mut |e, from| {
            let mut to = from.clone();
            to[along] = e.gathered(x, indices, along, &from)?.expect("indices are read one at a time");
            apply(e, v, updates, reduce, &from, &to)
        })
    })
}

/// Copies x before anything is written into it, an element a lane: lines would leave most lanes idle.
fn copy_all(e: &mut Emitter<'_, '_>, v: ValueId, x: ValueId) -> Lowered<()> {
    let shape = e.f.ty(v).shape.clone();
    let grid = e.element_axes(&shape)?;
    e.each_item("copy", &grid, |e, ix| {
        let at = e.element_coords(&grid, ix);
        let trips = grid.iter().map(|a| a.most as f64).product();
        e.scoped(trips, |e| {
            let value = e.emit(x, &at)?;
            e.store(v, &at, value, Access::Update)
        })
    })
}

/// Copies x along the lines of a task.
fn copy<'k>(e: &mut Emitter<'k, '_>, v: ValueId, x: ValueId, lines: &Lines, task: &Task<'k>) -> Lowered<()> {
    let shape = e.f.ty(v).shape.clone();
    let mut put = |e: &mut Emitter<'k, '_>, at: Vec<Coord>| {
        let value = e.emit(x, &at)?;
        e.store(v, &at, value, Access::Update)
    };
    let Some((first, end)) = &task.range else {
        return e.loops_over(&lines.axes, &shape, task.at.clone(), &mut put);
    };
    let (axis, rest) = lines.axes.split_first().expect("a scatter has an indexed axis");
    let n = shape[*axis as usize].as_const().expect("only constant extents are shared out");
    let start = e.ix(first);
    let mut result = Ok(());
    let k = e.k;
    k.for_("row", start, *end, 1, false, |i| {
        result = e.scoped(n as f64 / lines.ranges as f64, |e| {
            let mut at = task.at.clone();
            at[*axis as usize] = e.index(i, Range::new(0, n - 1), 1);
            e.loops_over(rest, &shape, at, &mut put)
        });
    });
    result
}

/// Writes one update, or a vector of them.
fn apply<'k>(
    e: &mut Emitter<'k, '_>,
    v: ValueId,
    updates: ValueId,
    how: ScatterOp,
    from: &[Coord],
    to: &[Coord],
) -> Lowered<()> {
    let dtype = e.f.ty(v).dtype;
    let update: Val<'k> = e.emit(updates, from)?;
    let value = match how.binary(dtype == DType::Bool) {
        None => update,
        Some(op) => {
            let old = e.load(v, to)?;
            e.count(elementwise::binary_flops(op), to);
            elementwise::binary(e.k, op, old, update)
        }
    };
    e.store(v, to, value, Access::Update)
}
