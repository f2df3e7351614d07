//! The line template: ops that walk along an axis in order, or write where data says.
//!
//! A scan, a sort and a scatter have one thing in common: a task owns whole lines of the result and nobody else touches
//! them, so that order within a line is the program's and the bits do not depend on threads. Tasks run over the other
//! axes; where the last axis is one of those, a task takes a vector of neighbouring lines. What stands before the op is
//! computed where it is read; what stands after it is another kernel.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Refusal, Region, Target};
use crate::lower::gpu::is_gpu;
use crate::lower::gpu::items::Axis;
use crate::lower::map::Built;
use crate::lower::{scan, scatter, sort};
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Ix, KernelBuilder, Subgroup};
use mlxc_ir::{Range, Size};

/// True for ops this template builds kernels around.
pub fn is_anchor(op: &Op) -> bool {
    matches!(op, Op::Scan { .. } | Op::ArgSort { .. } | Op::Scatter { .. } | Op::ScatterAlong { .. })
}

/// How the tasks of a kernel divide the result.
pub(super) struct Lines {
    /// The axes a task walks by itself.
    pub(super) axes: Vec<u32>,
    /// Tasks take vectors of neighbours along the last axis.
    pub(super) vectors: bool,
    /// Number of ranges of the first of `axes` that tasks share out.
    pub(super) ranges: i64,
}

/// A task: where it is, and the part of the first line axis that is its own.
pub(super) struct Task<'k> {
    /// Coordinates of the result; those of the line axes are 0.
    pub(super) at: Vec<Coord>,
    /// First element and end of its range, where lines are shared out.
    pub(super) range: Option<(Coord, Ix<'k>)>,
}

/// Builds the kernel of one anchor and what is computed for it.
///
/// # Errors
/// A refusal where no such kernel exists.
pub fn build(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    outputs: &[ValueId],
    name: &str,
) -> Lowered<Built> {
    let v = ValueId::of(anchor as usize);
    let op = &f.node(v).op;
    if outputs != [v] {
        return Err(Refusal::new("epilogue", format!("nothing is fused after `{}`", op.name())));
    }
    let k = KernelBuilder::new(name);
    // Neighbouring lines are neighbouring lanes on GPUs, vectors on CPUs.
    let mut e = if is_gpu(target.profile) {
        Emitter::with_width(&k, f, target, region, 1)
    } else {
        Emitter::new(&k, f, target, region)
    };
    match op {
        Op::Scan { .. } => scan::build(&mut e, v)?,
        Op::ArgSort { .. } => sort::build(&mut e, v)?,
        Op::Scatter { .. } => scatter::build(&mut e, v)?,
        Op::ScatterAlong { .. } => scatter::build_along(&mut e, v)?,
        op => unreachable!("`{}` is no anchor of lines", op.name()),
    }
    let (bindings, work) = e.finish();
    Ok(Built { kernel: k.finish(), bindings, work, template: "line" })
}

impl<'k> Emitter<'k, '_> {
    /// The one phase of the kernel: `body` for each task, its lanes' tail set.
    pub(super) fn lines(
        &mut self,
        shape: &[Size],
        lines: &Lines,
        body: impl FnOnce(&mut Self, Task<'k>) -> Lowered<()>,
    ) -> Lowered<()> {
        let last = shape.len().wrapping_sub(1);
        let w = i64::from(self.width);
        let mut grid: Vec<Axis<'k>> = Vec::new();
        // For each axis: its grid position and largest coordinate.
        let mut places = vec![None; shape.len()];
        let mut trips = 1.0;
        for (i, d) in shape.iter().enumerate() {
            if lines.axes.contains(&(i as u32)) || d.as_const() == Some(1) {
                continue;
            }
            let count = if lines.vectors && i == last { d.ceil_div(w) } else { d.clone() };
            let most = self.size_max(&count).max(1.0);
            trips *= most;
            places[i] = Some((grid.len(), most as i64 - 1));
            grid.push(Axis { name: format!("i{i}"), extent: self.size(&count)?, most: most as i64 });
        }
        if lines.ranges > 1 {
            grid.push(Axis { name: "range".to_string(), extent: self.k.int(lines.ranges), most: lines.ranges });
        }
        self.each_task("main", &grid, |e, ix| {
            let mut at = vec![Coord::constant(0); shape.len()];
            for (i, place) in places.iter().enumerate() {
                let Some((g, most)) = place else { continue };
                at[i] = e.index(ix[*g], Range::new(0, *most), 1);
            }
            let range = (lines.ranges > 1).then(|| e.part(shape, lines, ix[ix.len() - 1]));
            if lines.vectors {
                let n = shape[last].clone();
                let first = at[last].scale(w);
                at[last] = first.plus(&e.lane(), 1);
                if n.modulo(w).as_const() != Some(0) {
                    let (whole, first) = (e.size(&n)?, e.ix(&first));
                    e.tail = Some(e.k.let_index("rest", (whole - first).min(e.k.int(w))));
                }
            }
            let result = e.scoped(trips, |e| body(e, Task { at, range }));
            e.tail = None;
            result
        })
    }

    /// A phase with a task for each place of the grid: a lane's on GPUs, a group's on CPUs.
    fn each_task(
        &mut self,
        phase: &str,
        grid: &[Axis<'k>],
        body: impl FnOnce(&mut Self, &[Ix<'k>]) -> Lowered<()>,
    ) -> Lowered<()> {
        if is_gpu(self.target.profile) {
            return self.each_item(phase, grid, body);
        }
        let axes: Vec<(&str, Ix<'k>)> = grid.iter().map(|a| (a.name.as_str(), a.extent)).collect();
        let mut result = Ok(());
        self.k.phase(phase, &axes, 1, Subgroup::None, |ix| result = body(self, ix));
        result
    }

    /// The range of the first line axis, whose extent is constant, that is this task's.
    fn part(&mut self, shape: &[Size], lines: &Lines, ix: Ix<'k>) -> (Coord, Ix<'k>) {
        let n = shape[lines.axes[0] as usize].as_const().expect("only constant extents are shared out");
        let each = (n + lines.ranges - 1) / lines.ranges;
        let part = self.index(ix, Range::new(0, lines.ranges - 1), 1);
        let first = part.scale(each);
        let start = self.ix(&first);
        let end = self.k.let_index("end", (start + each).min(self.k.int(n)));
        (first, end)
    }
}

/// True if tasks may take vectors along the last axis: it is no line axis and longer than one element.
pub(super) fn has_vectors(shape: &[Size], axes: &[u32]) -> bool {
    shape.last().is_some_and(|d| d.as_const() != Some(1)) && !axes.contains(&(shape.len() as u32 - 1))
}
