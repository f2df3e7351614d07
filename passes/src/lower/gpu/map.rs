//! The map template on GPUs.
//!
//! Where no reduction is shared by a row, every element or vector of four has a lane of its own. A row with reductions
//! (a norm, a softmax, a sum) belongs to a team of lanes: they reduce together, then each computes a part of the row.

use super::items::Axis;
use super::{GROUP, power_of_two};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Region, Target, Team};
use crate::lower::map::{Built, Nest, RowAxes, domain, no_output, once_a_row, primary, refine, store_all};
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Ix, KernelBuilder, Subgroup};
use mlxc_ir::{Range, Size};

/// Lanes that a group has at least, where rows are short.
const LEAST: u32 = 64;

pub(in crate::lower) fn attempt(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    outputs: &[ValueId],
    name: &str,
    nest: &Nest,
) -> Lowered<(Built, Nest)> {
    let k = KernelBuilder::new(name);
    let first = primary(f, outputs).ok_or_else(no_output)?;
    let shape = domain(f, first).to_vec();
    let width = if nest.scalar { 1 } else { width(f, outputs, shape.len(), nest) };
    let mut e = Emitter::with_width(&k, f, target, region, width);
    let rows = nest.rows(f, outputs, &shape)?;
    let mut next = nest.clone();
    let alike = outputs.iter().all(|v| domain(f, *v) == shape.as_slice());
    let built = if nest.hoisted.is_empty() && alike {
        elements(&mut e, outputs, &shape, rows, nest, &mut next)
    } else {
        by_rows(&mut e, outputs, &shape, rows, nest, &mut next)
    };
    built?;
    let (bindings, work) = e.finish();
    Ok((Built { kernel: k.finish(), bindings, work, template: "map" }, next))
}

/// Elements of a vector along the columns: four where every row is whole vectors, so that there are no tails.
fn width(f: &Function, outputs: &[ValueId], rank: usize, nest: &Nest) -> u8 {
    let whole = |v: &ValueId| {
        let d = domain(f, *v);
        d.len() < rank || d[rank - 1].as_const() == Some(1) || divides(f, &d[rank - 1], 4)
    };
    let split = nest.splits.get(&(rank - 1)).into_iter().flatten().all(|s| s % 4 == 0);
    if split && outputs.iter().all(whole) { 4 } else { 1 }
}

/// True if a size is always a multiple of `by`.
fn divides(f: &Function, size: &Size, by: i64) -> bool {
    size.modulo(by).as_const() == Some(0)
        || size.as_symbol().is_some_and(|s| f.symbols[s.0 as usize].multiple % by == 0)
}

/// Every element, or vector, is an item.
fn elements<'k>(
    e: &mut Emitter<'k, '_>,
    outputs: &[ValueId],
    shape: &[Size],
    rows: usize,
    nest: &Nest,
    next: &mut Nest,
) -> Lowered<()> {
    let axes = RowAxes::new(e, shape, nest)?;
    let w = i64::from(e.width);
    let vector = rows < shape.len();
    let mut grid: Vec<Axis<'_>> = axes.items();
    // The last part of the columns counts vectors.
    let column = axes.parts.last().and_then(|p| p.last()).filter(|_| vector && w > 1).map(|p| p.0);
    if let Some(at) = column {
        grid[at].extent = grid[at].extent.div(w);
        grid[at].most /= w;
    }
    let trips = axes.trips / if column.is_some() { w as f64 } else { 1.0 };
    e.each_item("main", &grid, |e, ix| {
        let mut ix = ix.to_vec();
        if let Some(at) = column {
            ix[at] = ix[at] * w;
        }
        let mut coords = axes.coords_in_steps(e, &ix, column.map(|at| (at, w)));
        if column.is_some() {
            let lane = e.lane();
            let last = coords.len() - 1;
            coords[last] = coords[last].plus(&lane, 1);
        }
        e.scoped(trips, |e| store_all(e, outputs, &coords))?;
        refine(e, &axes, rows, shape, nest, next);
        Ok(())
    })
}

/// A team of lanes for each row.
fn by_rows<'k>(
    e: &mut Emitter<'k, '_>,
    outputs: &[ValueId],
    shape: &[Size],
    rows: usize,
    nest: &Nest,
    next: &mut Nest,
) -> Lowered<()> {
    let k = e.k;
    let axes = RowAxes::new(e, &shape[..rows], nest)?;
    let mut grid = axes.items();
    let lanes = power_of_two(work_of_a_row(e, outputs, rows, nest), GROUP);
    let most_rows = grid.last().map_or(1, |a| a.most);
    let together = i64::from((LEAST / lanes).max(1)).min(i64::from(power_of_two(most_rows, GROUP)));
    let extent = grid.last().map(|a| a.extent);
    if let Some(last) = grid.last_mut() {
        last.extent = last.extent.ceil_div(together);
    }
    let named: Vec<(&str, Ix<'_>)> = grid.iter().map(|a| (a.name.as_str(), a.extent)).collect();
    let mut result = Ok(());
    k.phase("main", &named, lanes * together as u32, Subgroup::None, |ix| {
        let mut at = ix.to_vec();
        let mut inside = None;
        let own = if together == 1 { k.lane() } else { k.lane().rem(i64::from(lanes)) };
        if together > 1
            && let (Some(last), Some(n)) = (at.last_mut(), extent)
        {
            // Rows past the end repeat the last one, so that every lane takes part in what lanes do together.
            let row = k.let_index("row", *last * together + k.lane().div(i64::from(lanes)));
            *last = k.let_index("own_row", row.min(n - 1));
            inside = n.as_const().is_none_or(|n| n % together != 0).then(|| row.lt(n));
        }
        let coords = axes.coords(e, &at);
        let team = Team { lanes, at: own };
        result = e.scoped(axes.trips, |e| {
            for (v, at) in &nest.hoisted {
                e.team = Some(team);
                let value = e.emit(*v, at);
                e.team = None;
                value?;
            }
            let rest = |e: &mut Emitter<'k, '_>| store_row(e, outputs, rows, nest, &coords, team);
            let Some(inside) = inside else { return rest(e) };
            let mut result = Ok(());
            k.if_(inside, || result = e.scoped(1.0, rest));
            result
        });
        if result.is_ok() {
            refine(e, &axes, rows, shape, nest, next);
        }
    });
    result
}

/// Vectors that the widest loop of a row has: how many lanes are of use.
fn work_of_a_row(e: &Emitter<'_, '_>, outputs: &[ValueId], rows: usize, nest: &Nest) -> i64 {
    let f = e.f;
    let w = i64::from(e.width);
    let columns = outputs.iter().filter_map(|v| domain(f, *v).get(rows)).map(|d| e.size_max(d) as i64 / w);
    let reduced = nest.hoisted.iter().map(|(v, _)| {
        let node = f.node(*v);
        let shape = &f.ty(node.inputs[0]).shape;
        let last = match &node.op {
            Op::Reduce { axes, .. } => axes.last().copied().unwrap_or(0),
            Op::ArgReduce { axis, .. } => *axis,
            _ => return 1,
        };
        e.size_max(&shape[last as usize]) as i64 / w
    });
    columns.chain(reduced).max().unwrap_or(1)
}

/// Stores the outputs of one row, its lanes taking turns.
fn store_row<'k>(
    e: &mut Emitter<'k, '_>,
    outputs: &[ValueId],
    rows: usize,
    nest: &Nest,
    coords: &[Coord],
    team: Team<'k>,
) -> Lowered<()> {
    let k = e.k;
    let mut left: Vec<ValueId> = outputs.to_vec();
    while let Some(first) = left.first().copied() {
        let d = domain(e.f, first).to_vec();
        let (same, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|v| domain(e.f, *v) == d.as_slice());
        left = rest;
        if let Some(at) = once_a_row(&d, rows, coords) {
            // One lane stores what a row has one of.
            let mut result = Ok(());
            if team.lanes == 1 {
                store_all(e, &same, &at)?;
                continue;
            }
            let one = team.at.eq(k.int(0));
            k.if_(one, || result = e.scoped(1.0, |e| store_all(e, &same, &at)));
            result?;
            continue;
        }
        let step = i64::from(e.width);
        let factors = nest.splits.get(&rows).cloned().unwrap_or_default();
        e.split_parts(&d[rows], &factors, Coord::constant(0), &mut |e, extent, base| {
            e.lane_loop("c", extent, team, step, &mut |e, c| {
                e.columns.extend_from_slice(&base.plus(&c, 1).terms);
                let mut at = coords.to_vec();
                at.push(base.plus(&c, 1).plus(&e.lane(), 1));
                store_all(e, &same, &at)
            })
        })?;
    }
    Ok(())
}

impl<'k> RowAxes<'k> {
    /// The grid as axes of items.
    fn items(&self) -> Vec<Axis<'k>> {
        let most = |at: usize| self.parts.iter().flatten().find(|p| p.0 == at).map_or(1, |p| p.2 + 1);
        let axis = |(i, (name, extent)): (usize, &(String, Ix<'k>))| Axis {
            name: name.clone(),
            extent: *extent,
            most: most(i),
        };
        self.grid.iter().enumerate().map(axis).collect()
    }

    /// As [`RowAxes::coords`]; one grid position counts elements in steps.
    fn coords_in_steps(&self, e: &mut Emitter<'k, '_>, ix: &[Ix<'k>], steps: Option<(usize, i64)>) -> Vec<Coord> {
        self.parts
            .iter()
            .map(|parts| {
                parts.iter().fold(Coord::constant(0), |c, (at, factor, most)| {
                    let step = steps.filter(|s| s.0 == *at).map_or(1, |s| s.1);
                    let part = e.index(ix[*at], Range::new(0, (most + 1 - step).max(0)), step);
                    c.plus(&part, *factor)
                })
            })
            .collect()
    }
}
