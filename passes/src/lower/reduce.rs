//! Reductions inside a kernel: sums, extremes, positions of extremes, and matrix products without a template.
//!
//! A reduction over the last axis at scalar coordinates runs along vectors with several accumulators; any other runs
//! element by element (or vector by vector of its result). Sums of half types accumulate in f32.

use crate::lower::blocks::Running;
use crate::lower::coord::Coord;
use crate::lower::elementwise::{self, compute};
use crate::lower::emit::{Emitter, Lowered, Team, is_free};
use mlxc_ir::graph::{ArgOp, BinaryOp, Literal, Op, ReduceOp, ScanOp, ValueId};
use mlxc_ir::kernel::{Val, Var};
use mlxc_ir::{DType, Range, Size};

/// How partial results combine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    Sum,
    Prod,
    Max,
    Min,
    LogAddExp,
}

impl Combine {
    fn of(op: ReduceOp) -> Self {
        match op {
            ReduceOp::Sum => Combine::Sum,
            ReduceOp::Prod => Combine::Prod,
            ReduceOp::Max | ReduceOp::Any => Combine::Max,
            ReduceOp::Min | ReduceOp::All => Combine::Min,
        }
    }

    pub(super) fn of_scan(op: ScanOp) -> Self {
        match op {
            ScanOp::Sum => Combine::Sum,
            ScanOp::Prod => Combine::Prod,
            ScanOp::Max => Combine::Max,
            ScanOp::Min => Combine::Min,
            ScanOp::LogAddExp => Combine::LogAddExp,
        }
    }

    pub(super) fn binary(self) -> BinaryOp {
        match self {
            Combine::LogAddExp => BinaryOp::LogAddExp,
            Combine::Sum => BinaryOp::Add,
            Combine::Prod => BinaryOp::Multiply,
            Combine::Max => BinaryOp::Maximum,
            Combine::Min => BinaryOp::Minimum,
        }
    }

    /// What combines with a value to that value; bools are 0 and 1 of i32.
    pub(super) fn identity(self, dtype: DType, bools: bool) -> Literal {
        let bits = 8 * dtype.bytes() as u32;
        match self {
            Combine::Sum => Literal::Int(0),
            Combine::Prod => Literal::Int(1),
            Combine::Max if bools => Literal::Int(0),
            Combine::Min if bools => Literal::Int(1),
            Combine::LogAddExp => Literal::float(f64::NEG_INFINITY),
            Combine::Max if dtype.is_float() => Literal::float(f64::NEG_INFINITY),
            Combine::Min if dtype.is_float() => Literal::float(f64::INFINITY),
            Combine::Max if dtype.is_signed_int() => Literal::Int(i64::MIN >> (64 - bits)),
            Combine::Min if dtype.is_signed_int() => Literal::Int(i64::MAX >> (64 - bits)),
            Combine::Max => Literal::Int(0),
            Combine::Min => Literal::Int(if bits == 64 { -1 } else { (1i64 << bits) - 1 }),
        }
    }
}

/// What one reduction folds.
struct Fold {
    x: ValueId,
    how: Combine,
    acc: DType,
    /// Elements are bools.
    bools: bool,
}

impl Fold {
    fn of(e: &Emitter<'_, '_>, v: ValueId) -> Self {
        let node = e.f.node(v);
        let Op::Reduce { op, .. } = node.op else { unreachable!("a fold is a reduction") };
        let from = e.f.ty(node.inputs[0]).dtype;
        let bools = from == DType::Bool;
        Fold { x: node.inputs[0], how: Combine::of(op), acc: if bools { DType::I32 } else { compute(from) }, bools }
    }

    fn identity(&self) -> Literal {
        self.how.identity(self.acc, self.bools)
    }
}

impl<'k> Emitter<'k, '_> {
    /// The value of a reduction node at coordinates of its result.
    pub(crate) fn reduction(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        self.note_reduction(v, coords);
        let f = self.f;
        let node = f.node(v);
        let x = node.inputs[0];
        match &node.op {
            Op::Reduce { axes, keepdims, .. } => {
                let kept = expand(coords, axes, *keepdims, f.ty(x).rank());
                let fold = Fold::of(self, v);
                let sum = self.fold(&fold, axes, &kept)?;
                Ok(self.folded(v, sum))
            }
            Op::ArgReduce { op, axis, keepdims } => {
                if self.is_vector(coords) {
                    return self.each_lane(coords, |e, c| e.reduction(v, c));
                }
                let kept = expand(coords, &[*axis], *keepdims, f.ty(x).rank());
                self.arg_extreme(x, *axis as usize, &kept, *op)
            }
            Op::MatMul { transpose_a, transpose_b } => {
                let team = self.team.take();
                let product = self.dot(v, coords, *transpose_a, *transpose_b);
                self.team = team;
                product
            }
            _ => unreachable!("only reductions are reduced"),
        }
    }

    /// A fold's result as the value of its node.
    fn folded(&mut self, v: ValueId, total: Val<'k>) -> Val<'k> {
        let dtype = self.f.ty(v).dtype;
        let out = if dtype == DType::Bool { elementwise::cast(self.k, total, DType::I32, dtype) } else { total };
        self.rounded(out, dtype)
    }

    /// Folds over `axes`, the other coordinates given.
    fn fold(&mut self, fold: &Fold, axes: &[u32], kept: &[Coord]) -> Lowered<Val<'k>> {
        // What the lanes compute together, each computes a part of by itself.
        let team = self.team.take();
        let value = match team {
            Some(t) if fold.how.crosses_lanes(fold.acc) => {
                self.fold_together(fold.x, axes, kept, fold.how, fold.acc, t)
            }
            _ => self.fold_alone(std::slice::from_ref(fold), axes, kept).map(|all| all[0]),
        };
        self.team = team;
        value
    }

    /// Folds of values of one shape over the same elements, in one pass.
    fn fold_alone(&mut self, folds: &[Fold], axes: &[u32], kept: &[Coord]) -> Lowered<Vec<Val<'k>>> {
        let shape = self.f.ty(folds[0].x).shape.clone();
        let wide = self.is_vector(kept);
        if !wide && axes.last().is_some_and(|a| *a as usize + 1 == shape.len()) {
            return self.fold_along(folds, &shape, &axes[..axes.len() - 1], kept);
        }
        let start = |x: Val<'k>| if wide { x.splat(self.width) } else { x };
        let identity = |f: &Fold| start(self.literal(f.identity(), f.acc));
        let totals: Vec<Var<'k>> = folds.iter().map(|f| self.k.var("total", identity(f))).collect();
        self.loops_over(axes, &shape, kept.to_vec(), &mut |e, at| {
            for (f, total) in folds.iter().zip(&totals) {
                let value = e.element(f.x, &at, f.acc)?;
                e.accumulate(total, value, f.how, &at);
            }
            Ok(())
        })?;
        Ok(totals.iter().map(|total| self.k.let_("result", total.get())).collect())
    }

    /// Folds over the last axis, along vectors, and over `outer` ones.
    fn fold_along(&mut self, folds: &[Fold], shape: &[Size], outer: &[u32], kept: &[Coord]) -> Lowered<Vec<Val<'k>>> {
        let last = shape.len() - 1;
        let identities: Vec<Val<'k>> = folds.iter().map(|f| self.literal(f.identity(), f.acc)).collect();
        let vectors = self.block_vectors(&shape[last]);
        let start = |x: &Val<'k>| Running::new(self.k, "lanes_total", x.splat(self.width), vectors);
        let totals: Vec<Running<'k>> = identities.iter().map(start).collect();
        let tail = self.tail.take();
        if outer.is_empty() {
            self.fill_rows(&folds.iter().map(|f| f.x).collect::<Vec<_>>());
        }
        self.loops_over(outer, shape, kept.to_vec(), &mut |e, at| {
            e.block_loop("c", &shape[last], &Coord::constant(0), &mut |e, block| {
                block.each(e, &mut |e, c, i| {
                    let mut at = at.clone();
                    at[last] = c;
                    for ((f, total), identity) in folds.iter().zip(&totals).zip(&identities) {
                        let value = e.element(f.x, &at, f.acc)?;
                        let value = if value.ty().lanes() == 1 { value.splat(e.width) } else { value };
                        let value = if block.full { value } else { e.mask_tail(value, *identity) };
                        e.count(1.0, &at);
                        total.set(i, elementwise::binary(e.k, f.how.binary(), value, total.get(i)));
                    }
                    Ok(())
                })
            })
        })?;
        self.tail = tail;
        self.rows_are_full();
        let mut results = Vec::with_capacity(folds.len());
        for (f, total) in folds.iter().zip(&totals) {
            let lanes = total.combined(self.k, |a, b| elementwise::binary(self.k, f.how.binary(), a, b));
            let lanes = if vectors > 1 { self.k.let_("lanes", lanes) } else { lanes };
            let total = self.across(lanes, f.how);
            results.push(self.k.let_("result", total));
        }
        Ok(results)
    }

    /// Emits reductions at their coordinates; those that run over the same elements and do not need each other in one
    /// pass.
    pub(crate) fn emit_reductions(&mut self, all: &[(ValueId, Vec<Coord>)]) -> Lowered<()> {
        let mut left: Vec<(ValueId, Vec<Coord>)> = all.to_vec();
        while let Some((v, at)) = left.first().cloned() {
            let alike = left.iter().filter(|(m, to)| *to == at && self.in_one_pass(v, *m, &left));
            let mates: Vec<ValueId> = alike.map(|(m, _)| *m).collect();
            if mates.len() < 2 {
                self.emit(v, &at)?;
                left.remove(0);
                continue;
            }
            let node = self.f.node(v);
            let Op::Reduce { axes, keepdims, .. } = &node.op else { unreachable!("only folds run in one pass") };
            let kept = expand(&at, axes, *keepdims, self.f.ty(node.inputs[0]).rank());
            let folds: Vec<Fold> = mates.iter().map(|m| Fold::of(self, *m)).collect();
            mates.iter().for_each(|m| self.note_reduction(*m, &at));
            for (m, total) in mates.iter().zip(self.fold_alone(&folds, axes, &kept)?) {
                let value = self.folded(*m, total);
                let value = self.k.let_(&self.local_name(*m), value);
                self.keep(*m, &at, value);
            }
            left.retain(|(m, to)| *to != at || !mates.contains(m));
        }
        Ok(())
    }

    /// True if two folds have the same elements and neither needs any that is still to be computed.
    fn in_one_pass(&self, v: ValueId, other: ValueId, left: &[(ValueId, Vec<Coord>)]) -> bool {
        let (a, b) = (self.f.node(v), self.f.node(other));
        let (Op::Reduce { axes, keepdims, .. }, Op::Reduce { axes: axes_b, keepdims: keepdims_b, .. }) = (&a.op, &b.op)
        else {
            return false;
        };
        let alike =
            axes == axes_b && keepdims == keepdims_b && self.f.ty(a.inputs[0]).shape == self.f.ty(b.inputs[0]).shape;
        alike && [a, b].iter().all(|n| !left.iter().any(|(l, _)| self.needs(n.inputs[0], *l)))
    }

    /// True if a value is computed here from another.
    fn needs(&self, v: ValueId, from: ValueId) -> bool {
        let mut stack = vec![v];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(v) = stack.pop() {
            if v == from {
                return true;
            }
            let inside = self.region.contains(&v.node) || is_free(self.f, v.node);
            if v.node >= from.node && inside && seen.insert(v) {
                stack.extend(self.f.node(v).inputs.iter().copied());
            }
        }
        false
    }

    pub(super) fn element(&mut self, x: ValueId, at: &[Coord], acc: DType) -> Lowered<Val<'k>> {
        let value = self.emit(x, at)?;
        Ok(if value.dtype() == DType::Bool { elementwise::cast(self.k, value, DType::Bool, acc) } else { value })
    }

    pub(super) fn accumulate(&mut self, total: &Var<'k>, value: Val<'k>, how: Combine, at: &[Coord]) {
        self.count(1.0, at);
        total.set(elementwise::binary(self.k, how.binary(), value, total.get()));
    }

    /// Lanes from the tail's end on become the identity.
    fn mask_tail(&mut self, value: Val<'k>, identity: Val<'k>) -> Val<'k> {
        let Some(n) = self.tail else { return value };
        let lanes = self.k.table(mlxc_ir::kernel::Type::vector(DType::I32, self.width), |l| l);
        let inside = lanes.lt(n.to_val(DType::I32).splat(self.width));
        inside.select(value, identity.splat(self.width))
    }

    /// Combines the lanes of a vector.
    pub(super) fn across(&mut self, v: Val<'k>, how: Combine) -> Val<'k> {
        match how {
            Combine::Sum => v.hsum(),
            Combine::Prod => {
                let first = v.extract(self.k.int(0));
                (1..i64::from(self.width)).fold(first, |p, l| p * v.extract(self.k.int(l)))
            }
            Combine::LogAddExp => unreachable!("no reduction over lanes is one of exponentials"),
            Combine::Max | Combine::Min => {
                let best = if how == Combine::Max { v.hmax() } else { v.hmin() };
                if !v.dtype().is_float() {
                    return best;
                }
                // hmax drops NaN; the reduction keeps it.
                let one = self.k.constant(1.0, v.dtype()).splat(self.width);
                let zero = self.k.constant(0.0, v.dtype()).splat(self.width);
                let nans = v.ne(v).select(one, zero).hsum();
                let nan = self.k.constant(f64::NAN, v.dtype());
                nans.gt(self.k.constant(0.0, v.dtype())).select(nan, best)
            }
        }
    }

    /// Nested loops over some axes; `body` gets the full coordinates.
    pub(super) fn loops_over(
        &mut self,
        axes: &[u32],
        shape: &[Size],
        at: Vec<Coord>,
        body: &mut dyn FnMut(&mut Self, Vec<Coord>) -> Lowered<()>,
    ) -> Lowered<()> {
        let Some((axis, rest)) = axes.split_first() else { return body(self, at) };
        let extent = &shape[*axis as usize];
        let hi = self.size(extent)?;
        let most = self.size_max(extent) as i64;
        self.each("k", hi, Range::new(0, (most - 1).max(0)), 1, false, |e, c| {
            let mut at = at;
            at[*axis as usize] = c;
            e.loops_over(rest, shape, at, body)
        })
    }

    /// Vectors over `0..extent`, then the rest with `tail` set; `body` gets the coordinate with its lane and whether
    /// the vector is full.
    pub(crate) fn vector_loop(
        &mut self,
        name: &str,
        extent: &Size,
        body: &mut dyn FnMut(&mut Self, Coord, bool) -> Lowered<()>,
    ) -> Lowered<()> {
        let w = i64::from(self.width);
        let whole = extent.floor_div(w) * Size::constant(w);
        let rest = extent.clone() - whole.clone();
        let most = self.size_max(&whole) as i64;
        if most >= w {
            let hi = self.size(&whole)?;
            let lane = self.lane();
            self.each(name, hi, Range::new(0, most - w), w, false, |e, c| body(e, c.plus(&lane, 1), true))?;
        }
        if rest.as_const() == Some(0) {
            return Ok(());
        }
        let base = self.size_coord(&whole).expect("a rounded affine size is affine");
        let n = self.size(&rest)?;
        let lane = self.lane();
        let outer = self.tail.replace(n);
        let result = if rest.as_const().is_some() {
            self.scoped(1.0, |e| body(e, base.plus(&lane, 1), false))
        } else {
            let mut result = Ok(());
            let some = n.gt(self.k.int(0));
            self.k.if_(some, || result = self.scoped(1.0, |e| body(e, base.plus(&lane, 1), false)));
            result
        };
        self.tail = outer;
        result
    }

    /// A vector loop split into nested loops by the given factors, largest first, so that quotients by them vanish.
    pub(crate) fn split_vector_loop(
        &mut self,
        name: &str,
        extent: &Size,
        factors: &[i64],
        body: &mut dyn FnMut(&mut Self, Coord, bool) -> Lowered<()>,
    ) -> Lowered<()> {
        self.split_from(name, extent, factors, Coord::constant(0), body)
    }

    /// Splits of the columns that would have made quotients vanish, beside those known, largest first.
    pub(crate) fn wanted_splits(&mut self, known: &[i64]) -> Vec<i64> {
        let mut out = known.to_vec();
        for (atom, factor) in self.space.take_wanted() {
            // A factor of one loop's variable is that many of its steps.
            let step = self.columns.iter().find(|(a, _)| *a == atom).map(|(_, k)| *k);
            if let Some(step) = step
                && !out.contains(&(factor * step))
            {
                out.push(factor * step);
            }
        }
        out.sort_by(|a, b| b.cmp(a));
        out
    }

    fn split_from(
        &mut self,
        name: &str,
        extent: &Size,
        factors: &[i64],
        base: Coord,
        body: &mut dyn FnMut(&mut Self, Coord, bool) -> Lowered<()>,
    ) -> Lowered<()> {
        self.split_parts(extent, factors, base, &mut |e, extent, base| {
            e.vector_loop(name, extent, &mut |e, c, full| {
                let c = base.plus(&c, 1);
                e.columns.extend_from_slice(&c.terms);
                body(e, c, full)
            })
        })
    }

    /// Nested loops over the parts that the factors cut `0..extent` into; `body` gets the extent of an innermost part
    /// and where it begins.
    pub(super) fn split_parts(
        &mut self,
        extent: &Size,
        factors: &[i64],
        base: Coord,
        body: &mut dyn FnMut(&mut Self, &Size, Coord) -> Lowered<()>,
    ) -> Lowered<()> {
        let Some((f, rest)) = factors.split_first() else { return body(self, extent, base) };
        match extent.as_const() {
            Some(n) if *f > 1 && *f < n && n % f == 0 => {
                let hi = self.k.int(n / f);
                self.each("part", hi, Range::new(0, n / f - 1), 1, false, |e, c| {
                    e.split_parts(&Size::constant(*f), rest, base.plus(&c, *f), body)
                })
            }
            _ => self.split_parts(extent, rest, base, body),
        }
    }

    fn arg_extreme(&mut self, x: ValueId, axis: usize, kept: &[Coord], op: ArgOp) -> Lowered<Val<'k>> {
        let team = self.team.take();
        let value = self.arg_extreme_of(x, axis, kept, op, team);
        self.team = team;
        value
    }

    fn arg_extreme_of(
        &mut self,
        x: ValueId,
        axis: usize,
        kept: &[Coord],
        op: ArgOp,
        team: Option<Team<'k>>,
    ) -> Lowered<Val<'k>> {
        let shape = self.f.ty(x).shape.clone();
        let dtype = compute(self.f.ty(x).dtype);
        let held = if dtype == DType::Bool { DType::I32 } else { dtype };
        let how = if op == ArgOp::Max { Combine::Max } else { Combine::Min };
        let start = self.literal(how.identity(held, dtype == DType::Bool), held);
        let best = self.k.var("best", start);
        let at_best = self.k.var("best_at", self.k.int_constant(0, DType::U32));
        let tail = self.tail.take();
        let mut step = |e: &mut Self, c: Coord| {
            let mut at = kept.to_vec();
            at[axis] = c.clone();
            let value = e.element(x, &at, held)?;
            let value = e.k.let_("candidate", value);
            e.count(2.0, &at);
            let better = match op {
                ArgOp::Max => value.gt(best.get()),
                ArgOp::Min => value.lt(best.get()),
            };
            // The first NaN wins, and nothing replaces it.
            let better = if held.is_float() { (better | value.ne(value)) & best.get().eq(best.get()) } else { better };
            let better = e.k.let_("better", better);
            let ix = e.ix(&c);
            at_best.set(better.select(ix.to_val(DType::U32), at_best.get()));
            best.set(better.select(value, best.get()));
            Ok(())
        };
        let team = team.filter(|_| how.crosses_lanes(held));
        let result = match team {
            Some(t) => self.lane_loop("k", &shape[axis], t, 1, &mut step),
            None => {
                let hi = self.size(&shape[axis])?;
                let most = self.size_max(&shape[axis]) as i64;
                self.each("k", hi, Range::new(0, (most - 1).max(0)), 1, false, step)
            }
        };
        self.tail = tail;
        result?;
        let (best, position) = (best.get(), at_best.get());
        Ok(match team {
            Some(t) => self.first_extreme(best, position, how, t),
            None => self.k.let_("position", position),
        })
    }

    /// One element (or vector of columns) of a matrix product.
    fn dot(&mut self, v: ValueId, coords: &[Coord], transpose_a: bool, transpose_b: bool) -> Lowered<Val<'k>> {
        let f = self.f;
        let (a, b) = (f.node(v).inputs[0], f.node(v).inputs[1]);
        let n = coords.len();
        let vector = self.is_vector(coords);
        if vector && (transpose_b || self.is_vector(&coords[..n - 1])) {
            // Rows of b are contiguous along the inner axis: one column at a time, vectors along k.
            return self.each_lane(coords, |e, c| e.emit(v, c));
        }
        let ta = f.ty(a);
        let inner = ta.shape[if transpose_a { n - 2 } else { n - 1 }].clone();
        let acc = compute(ta.dtype);
        let along = !vector && !transpose_a && transpose_b;
        let place = |c: &Coord, row: &Coord, flip: bool| {
            let mut at = coords[..n - 2].to_vec();
            at.extend(if flip { [c.clone(), row.clone()] } else { [row.clone(), c.clone()] });
            at
        };
        let zero = self.literal(Literal::Int(0), acc);
        let total = self.k.var("dot", if vector || along { zero.splat(self.width) } else { zero });
        let tail = self.tail;
        let mut step = |e: &mut Self, c: Coord, full: bool| {
            let inner_tail = e.tail;
            if vector {
                e.tail = tail;
            }
            let x = e.emit(a, &place(&c, &coords[n - 2], transpose_a))?;
            let y = e.emit(b, &place(&c, &coords[n - 1], !transpose_b))?;
            let (x, y) = (x, if along && y.ty().lanes() == 1 { y.splat(e.width) } else { y });
            let x = if x.ty().lanes() == y.ty().lanes() { x } else { x.splat(y.ty().lanes()) };
            let mut product = x;
            if !full {
                product = e.mask_tail(product, zero);
            }
            let lanes = if vector || along { f64::from(e.width) } else { 1.0 };
            e.work.flops += 2.0 * lanes * e.trips;
            total.set(product.mad(y, total.get()));
            e.tail = inner_tail;
            Ok(())
        };
        if along {
            self.tail = None;
            let result = self.vector_loop("k", &inner, &mut step);
            self.tail = tail;
            result?;
            let sum = total.get().hsum();
            return Ok(self.k.let_("product", sum));
        }
        let hi = self.size(&inner)?;
        let most = self.size_max(&inner) as i64;
        self.each("k", hi, Range::new(0, (most - 1).max(0)), 1, false, |e, c| step(e, c, true))?;
        Ok(self.k.let_("product", total.get()))
    }
}

/// Result coordinates with a place for each reduced axis.
fn expand(coords: &[Coord], axes: &[u32], keepdims: bool, rank: usize) -> Vec<Coord> {
    if keepdims {
        return coords.to_vec();
    }
    let mut rest = coords.iter();
    (0..rank)
        .map(|i| {
            if axes.contains(&(i as u32)) {
                Coord::constant(0)
            } else {
                rest.next().expect("every kept axis has a coordinate").clone()
            }
        })
        .collect()
}
