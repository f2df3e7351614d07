//! Scans of long lines: a group a line. Each lane folds a stretch, folds what the lanes before it found, and goes over
//! its stretch again. Stretches depend on the largest length alone, so the bits do not depend on the device.

use super::{GROUP, power_of_two};
use crate::lower::coord::Coord;
use crate::lower::elementwise::{self, compute};
use crate::lower::emit::{Emitter, Lowered, Refusal};
use crate::lower::reduce::Combine;
use mlxc_ir::graph::{Op, ValueId};
use mlxc_ir::kernel::{Access, BarrierScope, Ix, Subgroup, Val};
use mlxc_ir::{DType, Range};

/// Elements from which a group scans a line faster than a lane.
pub(in crate::lower) const LONG: f64 = 64.0;

/// Builds the kernel of a scan.
pub(in crate::lower) fn build(e: &mut Emitter<'_, '_>, v: ValueId) -> Lowered<()> {
    let f = e.f;
    let k = e.k;
    let node = f.node(v);
    let Op::Scan { op, axis, reverse, exclusive } = node.op else { unreachable!("called for scans") };
    let (x, to, axis) = (node.inputs[0], node.types[0].dtype, axis as usize);
    let shape = node.types[0].shape.clone();
    let bools = f.ty(x).dtype == DType::Bool;
    let acc = if bools { DType::I32 } else { compute(to) };
    let how = Combine::of_scan(op);
    let most = e.size_max(&shape[axis]) as i64;
    let lanes = power_of_two((most + 3) / 4, GROUP);
    let axes = e.element_axes(&shape)?;
    let n = axes[axis].extent;
    let end = e
        .size_coord(&shape[axis])
        .ok_or_else(|| Refusal::new("symbolic-product", "a scanned extent is a product of symbols"))?;
    let others: Vec<usize> = (0..shape.len()).filter(|i| *i != axis).collect();
    let grid: Vec<(&str, Ix<'_>)> = others.iter().map(|i| (axes[*i].name.as_str(), axes[*i].extent)).collect();
    let trips: f64 = axes.iter().map(|a| a.most as f64).product();
    let mut result = Ok(());
    k.phase("main", &grid, lanes, Subgroup::None, |ix| {
        let totals = k.group("totals", acc, &[i64::from(lanes)]);
        let mut at = vec![Coord::constant(0); shape.len()];
        for (i, ix) in others.iter().zip(ix) {
            at[*i] = e.index(*ix, Range::new(0, axes[*i].most - 1), 1);
        }
        // A lane past the end of a short line has nothing.
        let stretch = (most + i64::from(lanes) - 1) / i64::from(lanes);
        let from = k.let_index("from", (k.lane() * stretch).min(n));
        let until = k.let_index("until", (k.lane() * stretch + stretch).min(n));
        let identity = e.literal(how.identity(acc, bools), acc);
        let place = |c: Coord| {
            let mut at = at.clone();
            at[axis] = if reverse { end.offset(-1).plus(&c, -1) } else { c };
            at
        };
        result = e.scoped(trips, |e| {
            let own = k.var("own", identity);
            let range = Range::new(0, most - 1);
            e.each_from("c", from, until, range, |e, c| {
                let at = place(c);
                let value = e.element(x, &at, acc)?;
                e.accumulate(&own, value, how, &at);
                Ok(())
            })?;
            totals.at([k.lane()]).store(own.get());
            k.barrier(BarrierScope::Group);
            let total = k.var("total", identity);
            k.for_("before", k.int(0), k.lane(), 1, false, |i| {
                let next = elementwise::binary(k, how.binary(), totals.at([i]).load(), total.get());
                total.set(next);
            });
            e.each_from("c", from, until, range, |e, c| {
                let at = place(c);
                let before = k.let_("before", total.get());
                let value: Val<'_> = e.element(x, &at, acc)?;
                let next = k.let_("next", elementwise::binary(k, how.binary(), value, before));
                total.set(next);
                let out = if exclusive { before } else { next };
                let out = if to == DType::Bool { elementwise::cast(k, out, DType::I32, DType::Bool) } else { out };
                e.store(v, &at, out, Access::Write)
            })
        });
    });
    result
}
