//! Reductions that the lanes of a group compute together: each folds a stride of the elements, then lanes combine.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Team};
use crate::lower::reduce::Combine;
use mlxc_ir::graph::ValueId;
use mlxc_ir::kernel::{FoldOp, Val};
use mlxc_ir::{DType, Range, Size};

impl Combine {
    /// True if lanes can combine partial results of this type.
    pub(in crate::lower) fn crosses_lanes(self, acc: DType) -> bool {
        matches!(self, Combine::Sum | Combine::Max | Combine::Min)
            && matches!(acc, DType::F32 | DType::I32 | DType::U32)
    }

    fn fold_op(self) -> FoldOp {
        match self {
            Combine::Sum => FoldOp::Add,
            Combine::Max => FoldOp::Max,
            Combine::Min => FoldOp::Min,
            Combine::Prod | Combine::LogAddExp => unreachable!("lanes do not combine these"),
        }
    }
}

impl<'k> Emitter<'k, '_> {
    /// Every element of `0..extent`, or every run of `step` of them, once, dealt out to the lanes of a team; `body`
    /// gets the first. The extent is a multiple of the step.
    pub(in crate::lower) fn lane_loop(
        &mut self,
        name: &str,
        extent: &Size,
        team: Team<'k>,
        step: i64,
        body: &mut dyn FnMut(&mut Self, Coord) -> Lowered<()>,
    ) -> Lowered<()> {
        let k = self.k;
        let stride = i64::from(team.lanes) * step;
        let most = self.size_max(extent) as i64;
        let hi = self.size(extent)?;
        let exact = extent.modulo(stride).as_const() == Some(0);
        let turns = (most + stride - 1) / stride;
        let mut result = Ok(());
        let range = Range::new(0, (most - step).max(0));
        let mut turn = |e: &mut Self, first: mlxc_ir::kernel::Ix<'k>| {
            let at = k.let_index(name, first + team.at * step);
            let mut inside = |e: &mut Self| {
                let c = e.index(at, range, step);
                e.scoped((most / step).max(1) as f64, |e| body(e, c))
            };
            if exact {
                return inside(e);
            }
            let mut result = Ok(());
            k.if_(at.lt(hi), || result = inside(e));
            result
        };
        if turns <= 1 && (exact || extent.as_const().is_some()) {
            return turn(self, k.int(0));
        }
        k.for_("first", k.int(0), hi, stride, false, |first| result = turn(self, first));
        result
    }

    /// Folds `x` over `axes` with all lanes of a team; each gets the result.
    pub(in crate::lower) fn fold_together(
        &mut self,
        x: ValueId,
        axes: &[u32],
        kept: &[Coord],
        how: Combine,
        acc: DType,
        team: Team<'k>,
    ) -> Lowered<Val<'k>> {
        let shape = self.f.ty(x).shape.clone();
        let identity = self.literal(how.identity(acc, self.f.ty(x).dtype == DType::Bool), acc);
        // The axis that lanes share: the last one, as its elements are neighbours.
        let (shared, outer) = axes.split_last().expect("a reduction has an axis");
        let shared = *shared as usize;
        let w = i64::from(self.width);
        let vectors = shared + 1 == shape.len() && w > 1 && shape[shared].modulo(w).as_const() == Some(0);
        let step = if vectors { w } else { 1 };
        let total = self.k.var("part", if vectors { identity.splat(self.width) } else { identity });
        let tail = self.tail.take();
        let result = self.loops_over(outer, &shape, kept.to_vec(), &mut |e, at| {
            e.lane_loop("c", &shape[shared], team, step, &mut |e, c| {
                let mut at = at.clone();
                at[shared] = if vectors { c.plus(&e.lane(), 1) } else { c };
                let value = e.element(x, &at, acc)?;
                let value = if vectors && value.ty().lanes() == 1 { value.splat(e.width) } else { value };
                e.accumulate(&total, value, how, &at);
                Ok(())
            })
        });
        self.tail = tail;
        result?;
        let part = total.get();
        let part = if vectors { self.across(part, how) } else { part };
        let part = self.k.bound("own", part);
        Ok(self.across_team(part, how, team))
    }

    /// Combines one value of each lane.
    fn across_team(&mut self, own: Val<'k>, how: Combine, team: Team<'k>) -> Val<'k> {
        let k = self.k;
        let all = k.let_("all", own.lanes(how.fold_op(), team.lanes));
        if how == Combine::Sum || !own.dtype().is_float() {
            return all;
        }
        // Extremes of lanes drop NaN; the reduction keeps it.
        let nan = self.any_nan(own, team);
        k.let_("result", nan.select(k.constant(f64::NAN, own.dtype()), all))
    }

    /// True if the value of any lane is NaN.
    fn any_nan(&mut self, own: Val<'k>, team: Team<'k>) -> Val<'k> {
        let k = self.k;
        let (one, zero) = (k.int_constant(1, DType::U32), k.int_constant(0, DType::U32));
        let flag = k.let_("flag", own.ne(own).select(one, zero));
        let any = k.let_("nans", flag.lanes(FoldOp::Max, team.lanes));
        any.gt(zero)
    }

    /// The first position of the extreme, from each lane's own extreme and its first position. NaN is the extreme.
    pub(in crate::lower) fn first_extreme(
        &mut self,
        best: Val<'k>,
        position: Val<'k>,
        how: Combine,
        team: Team<'k>,
    ) -> Val<'k> {
        let k = self.k;
        let best = k.bound("own", best);
        let all = k.let_("all", best.lanes(how.fold_op(), team.lanes));
        let mut mine = best.eq(all);
        if best.dtype().is_float() {
            let nan = self.any_nan(best, team);
            mine = (nan & best.ne(best)) | (!nan & mine);
        }
        let none = k.int_constant(i64::from(u32::MAX), DType::U32);
        let candidate = k.let_("candidate", mine.select(position, none));
        k.let_("position", candidate.lanes(FoldOp::Min, team.lanes))
    }
}
