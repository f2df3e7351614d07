//! Sorts: a stable bottom-up merge sort of positions along each line, NaN last.
//!
//! Runs of 1, 2, 4, … positions are merged from the result's memory into scratch memory of the same size and back, so
//! that after every two rounds the runs lie in the result. Rounds come in pairs, as many as the largest extent needs;
//! a pair that the extent of a step does not need is skipped. A merge has no branch: each step reads the heads of both
//! runs and takes one.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered};
use crate::lower::gpu::{self, is_gpu};
use crate::lower::line::{Lines, Task};
use mlxc_ir::graph::{Op, ValueId};
use mlxc_ir::kernel::{Access, Buf, Ix, Val};
use mlxc_ir::{DType, Range, Size};

/// Operations of one merge step, for the cost model.
const STEP_FLOPS: f64 = 24.0;

struct Sort<'k> {
    x: ValueId,
    axis: usize,
    at: Vec<Coord>,
    n: Ix<'k>,
    most: i64,
}

/// Builds the kernel of an argsort.
pub(super) fn build(e: &mut Emitter<'_, '_>, v: ValueId) -> Lowered<()> {
    let node = e.f.node(v);
    let Op::ArgSort { axis } = node.op else { unreachable!("called for sorts") };
    let shape = node.types[0].shape.clone();
    let x = node.inputs[0];
    let lines = Lines { axes: vec![axis], vectors: false, ranges: 1 };
    if is_gpu(e.target.profile) && e.size_max(&shape[axis as usize]) >= gpu::sort::LONG {
        return gpu::sort::build(e, v);
    }
    let out = e.buffer(v, &shape, Access::Update)?;
    let extent: Size = shape[axis as usize].clone();
    let most = e.size_max(&extent) as i64;
    let scratch = if most > 1 { Some(e.scratch(v)?) } else { None };
    e.lines(&shape, &lines, |e, Task { at, .. }| {
        let sort = Sort { x, axis: axis as usize, at, n: e.size(&extent)?, most };
        e.each("i", sort.n, Range::new(0, (most - 1).max(0)), 1, false, |e, c| {
            let i = e.ix(&c);
            let place = sort.place(e, c);
            out.at(&place).store(i.to_val(DType::U32));
            Ok(())
        })?;
        let Some(scratch) = scratch else { return Ok(()) };
        let mut run = 1;
        while run < most {
            let mut result = Ok(());
            let needed = sort.n.gt(e.k.int(run));
            e.k.if_(needed, || {
                result = e.scoped(1.0, |e| {
                    sort.merge(e, out, scratch, run)?;
                    sort.merge(e, scratch, out, 2 * run)
                });
            });
            result?;
            run *= 4;
        }
        Ok(())
    })
}

/// True if `y` comes before `x`; a NaN comes after everything else.
pub(super) fn before<'k>(y: Val<'k>, x: Val<'k>) -> Val<'k> {
    let less = y.lt(x);
    if x.dtype().is_float() { less | (x.ne(x) & y.eq(y)) } else { less }
}

impl<'k> Sort<'k> {
    fn place(&self, e: &mut Emitter<'k, '_>, c: Coord) -> Vec<Ix<'k>> {
        let mut at = self.at.clone();
        at[self.axis] = c;
        at.iter().map(|c| e.ix(c)).collect()
    }

    /// The position at the head of a run, and the element it names.
    fn head(&self, e: &mut Emitter<'k, '_>, from: Buf<'k>, i: Val<'k>) -> Lowered<(Val<'k>, Val<'k>)> {
        let zero = e.k.int(0);
        let every = Range::new(0, (self.most - 1).max(0));
        let ix = e.k.let_index("head", i.clamp_index(zero, self.n));
        let c = e.index(ix, every, 1);
        let place = self.place(e, c);
        let position = e.k.let_("position", from.at(&place).load());
        let ix = e.k.let_index("at", position.clamp_index(zero, self.n));
        let mut at = self.at.clone();
        at[self.axis] = e.index(ix, every, 1);
        let value = e.emit(self.x, &at)?;
        let value = if value.dtype() == DType::Bool {
            super::elementwise::cast(e.k, value, DType::Bool, DType::I32)
        } else {
            value
        };
        Ok((position, e.k.let_("value", value)))
    }

    /// Merges neighbouring runs of `run` positions.
    fn merge(&self, e: &mut Emitter<'k, '_>, from: Buf<'k>, to: Buf<'k>, run: i64) -> Lowered<()> {
        let k = e.k;
        let pairs = self.n.ceil_div(2 * run);
        let most = (self.most + 2 * run - 1) / (2 * run);
        e.each("pair", pairs, Range::new(0, (most - 1).max(0)), 1, false, |e, p| {
            let first = e.ix(&p.scale(2 * run));
            let middle = k.let_index("middle", (first + run).min(self.n));
            let end = k.let_index("end", (first + 2 * run).min(self.n));
            let left = k.var("left", first.to_val(DType::I32));
            let right = k.var("right", middle.to_val(DType::I32));
            let (middle, last) = (middle.to_val(DType::I32), end.to_val(DType::I32));
            let mut result = Ok(());
            k.for_("k", first, end, 1, false, |i| {
                let trips = (2 * run).min(self.most) as f64;
                result = e.scoped(trips, |e| {
                    e.work.flops += STEP_FLOPS * e.trips;
                    let (i_left, i_right) = (k.let_("i", left.get()), k.let_("j", right.get()));
                    let (a, x) = self.head(e, from, i_left)?;
                    let (b, y) = self.head(e, from, i_right)?;
                    let less = before(y, x);
                    let taken = i_right.lt(last) & (i_left.ge(middle) | less);
                    let taken = k.let_("taken", taken);
                    let c = e.index(i, Range::new(0, (self.most - 1).max(0)), 1);
                    let place = self.place(e, c);
                    to.at(&place).store(taken.select(b, a));
                    let one = k.int_constant(1, DType::I32);
                    left.set(taken.select(i_left, i_left + one));
                    right.set(taken.select(i_right + one, i_right));
                    Ok(())
                });
            });
            result
        })
    }
}
