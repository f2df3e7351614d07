//! The map template: every output element from its coordinates, rows in parallel, columns in vectors.
//!
//! Elementwise chains, views, gathers, state writes, row reductions (norms, softmax) and reductions over any axes are
//! all maps. A reduction whose coordinates do not depend on the column is computed once a row, before the columns:
//! that makes a norm or a softmax one kernel. A first build finds those reductions and the loop splits that make
//! every index affine; the last build uses both.

use crate::lower::blocks::Block;
use crate::lower::coord::{Atom, Coord};
use crate::lower::emit::{Binding, Emitter, Lowered, Refusal, Region, Target, Work, home};
use crate::lower::gpu::{self, is_gpu};
use crate::lower::memory::stored;
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Access, Ix, Kernel, KernelBuilder, Subgroup, Type};
use mlxc_ir::{Range, Size};
use std::collections::BTreeMap;

/// Columns of one task where a row is split over tasks.
const COLUMN_BLOCK: i64 = 1024;

/// A kernel and what it is bound to.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel.
    pub kernel: Kernel,
    /// Its buffers' bindings, in order.
    pub bindings: Vec<Binding>,
    /// Work at the largest symbol values.
    pub work: Work,
    /// Template name.
    pub template: &'static str,
}

/// The shape over which a node's result is stored: a state write covers its window.
pub fn domain(f: &Function, v: ValueId) -> &[Size] {
    if home(f, v) != v {
        return &f.ty(f.node(v).inputs[1]).shape;
    }
    &f.ty(v).shape
}

/// How loops cover the outputs: factors by output axis, and whether every axis is a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nest {
    pub(super) splits: BTreeMap<usize, Vec<i64>>,
    pub(super) scalar: bool,
    pub(super) hoisted: Vec<(ValueId, Vec<Coord>)>,
}

impl Nest {
    /// Number of leading axes of `shape` that are rows, if all outputs have the same.
    pub(super) fn rows(&self, f: &Function, outputs: &[ValueId], shape: &[Size]) -> Lowered<usize> {
        let rows = if self.scalar { shape.len() } else { shape.len() - 1 };
        for v in outputs {
            let d = domain(f, *v);
            let fits = d.len() >= rows && d[..rows] == shape[..rows] && d.len() <= shape.len();
            let same = self.scalar && d == shape;
            if !(same || !self.scalar && (fits || d == &shape[..rows])) {
                let name = f.value_name(*v);
                return Err(Refusal::new("domains", format!("`{name}` does not share rows with the other results")));
            }
        }
        Ok(rows)
    }
}

/// The output whose domain the loops cover.
pub(super) fn primary(f: &Function, outputs: &[ValueId]) -> Option<ValueId> {
    let ranges = f.ranges();
    let elements = |d: &[Size]| d.iter().fold(1.0, |n: f64, s| n * s.bounds(&ranges).hi.max(0) as f64) as u64;
    let order = |v: &&ValueId| {
        let d = domain(f, **v);
        (d.len(), elements(d), std::cmp::Reverse(v.node))
    };
    outputs.iter().max_by_key(order).copied()
}

pub(super) fn no_output() -> Refusal {
    Refusal::new("no-output", "nothing outside uses the values")
}

/// Builds one map kernel that stores `outputs`.
///
/// # Errors
/// A refusal where no such kernel exists.
pub fn build(f: &Function, target: &Target<'_>, region: &Region, outputs: &[ValueId], name: &str) -> Lowered<Built> {
    let mut nest = Nest { scalar: outputs.iter().all(|v| domain(f, *v).is_empty()), ..Nest::default() };
    let mut last = None;
    // Each round can only add splits, switch to rows or hoist: a handful suffices.
    for _ in 0..6 {
        let (built, next) = if is_gpu(target.profile) {
            gpu::map::attempt(f, target, region, outputs, name, &nest)?
        } else {
            attempt(f, target, region, outputs, name, &nest)?
        };
        if next == nest {
            return Ok(built);
        }
        nest = next;
        last = Some(built);
    }
    last.ok_or_else(|| Refusal::new("nest", "no loop nest was found"))
}

fn attempt(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    outputs: &[ValueId],
    name: &str,
    nest: &Nest,
) -> Lowered<(Built, Nest)> {
    let k = KernelBuilder::new(name);
    let mut e = Emitter::new(&k, f, target, region);
    let shape = domain(f, primary(f, outputs).ok_or_else(no_output)?).to_vec();
    let rows = nest.rows(f, outputs, &shape)?;
    let mut axes = RowAxes::new(&mut e, &shape[..rows], nest)?;
    let block = if nest.scalar || !nest.hoisted.is_empty() || nest.splits.contains_key(&rows) {
        None
    } else {
        column_block(&e, &shape, rows)
    };
    if block.is_some() {
        let blocks = e.size(&shape[rows].ceil_div(COLUMN_BLOCK))?;
        axes.grid.push(("block".to_string(), blocks));
        axes.trips *= (e.size_max(&shape[rows]) / COLUMN_BLOCK as f64).ceil();
    }
    let grid: Vec<(&str, Ix<'_>)> = axes.grid.iter().map(|(n, x)| (n.as_str(), *x)).collect();
    let mut result = Ok(());
    let mut next = nest.clone();
    k.phase("main", &grid, 1, Subgroup::None, |ix| {
        let coords = axes.coords(&mut e, ix);
        let trips = axes.trips;
        result = e.scoped(trips, |e| {
            if !nest.scalar {
                e.keep_rows(&nest.hoisted, outputs, &coords);
            }
            e.emit_reductions(&nest.hoisted)?;
            if nest.scalar {
                return store_all(e, outputs, &coords);
            }
            let mut left: Vec<ValueId> = outputs.to_vec();
            while let Some(first) = left.first().copied() {
                let d = domain(e.f, first).to_vec();
                let (same, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|v| domain(e.f, *v) == d.as_slice());
                left = rest;
                if let Some(at) = once_a_row(&d, rows, &coords) {
                    store_all(e, &same, &at)?;
                    continue;
                }
                let part = block.filter(|_| d == shape).map(|()| ix[ix.len() - 1]);
                columns(e, &d[rows], nest, rows, part, &mut |e, block| store_block(e, &same, &coords, &block))?;
            }
            Ok(())
        });
        if result.is_ok() {
            refine(&mut e, &axes, rows, &shape, nest, &mut next);
        }
    });
    result?;
    let (bindings, work) = e.finish();
    Ok((Built { kernel: k.finish(), bindings, work, template: "map" }, next))
}

/// Where a row has its one element of a domain, if it has one.
pub(super) fn once_a_row(domain: &[Size], rows: usize, coords: &[Coord]) -> Option<Vec<Coord>> {
    match domain.get(rows) {
        None => Some(coords.to_vec()),
        Some(d) if d.as_const() == Some(1) => Some(coords.iter().cloned().chain([Coord::constant(0)]).collect()),
        Some(_) => None,
    }
}

/// Columns are split over tasks where rows alone would leave cores idle.
fn column_block(e: &Emitter<'_, '_>, shape: &[Size], rows: usize) -> Option<()> {
    let count = shape[..rows].iter().fold(1.0, |n, d| n * e.size_max(d));
    let columns = e.size_max(&shape[rows]);
    (count < 256.0 && columns > 2.0 * COLUMN_BLOCK as f64).then_some(())
}

/// Stores outputs at coordinates of their domain.
pub fn store_all(e: &mut Emitter<'_, '_>, outputs: &[ValueId], at: &[Coord]) -> Lowered<()> {
    for v in outputs {
        let value = e.emit(written(e.f, *v), at)?;
        let (place, access) = place(e, *v, at)?;
        e.store(*v, &place, value, access)?;
    }
    Ok(())
}

/// The value that is stored for an output: a state write stores its update.
fn written(f: &Function, v: ValueId) -> ValueId {
    if home(f, v) == v { v } else { f.node(v).inputs[1] }
}

/// Where an output's element at coordinates of its domain is stored: that of a state write at the window's place.
fn place(e: &mut Emitter<'_, '_>, v: ValueId, at: &[Coord]) -> Lowered<(Vec<Coord>, Access)> {
    let f = e.f;
    let mut place = at.to_vec();
    if home(f, v) == v {
        return Ok((place, Access::Write));
    }
    let node = f.node(v);
    let Op::SliceUpdate { axes } = &node.op else { unreachable!("only updates have another home") };
    let (whole, window) = (&f.ty(v).shape, &f.ty(node.inputs[1]).shape);
    for (i, a) in axes.iter().enumerate() {
        let a = *a as usize;
        let start = e.window_start(node.inputs[2 + i], &whole[a], &window[a])?;
        place[a] = start.plus(&at[a], 1);
    }
    Ok((place, Access::Update))
}

/// Stores a block of a row of outputs, after all of it is computed.
fn store_block(e: &mut Emitter<'_, '_>, outputs: &[ValueId], row: &[Coord], block: &Block) -> Lowered<()> {
    let at = |c: Coord| row.iter().cloned().chain([c]).collect::<Vec<_>>();
    if block.vectors == 1 {
        return block.each(e, &mut |e, c, _| store_all(e, outputs, &at(c)));
    }
    let held: Vec<_> = outputs
        .iter()
        .map(|v| {
            let ty = Type::vector(stored(e.f.ty(*v).dtype), e.width);
            e.k.reg(&format!("{}_block", e.local_name(*v)), ty, &[block.vectors], None)
        })
        .collect();
    block.each(e, &mut |e, c, i| {
        let at = at(c);
        for (v, held) in outputs.iter().zip(&held) {
            let value = e.emit(written(e.f, *v), &at)?;
            held.set([i], e.narrowed(value, e.f.ty(*v).dtype));
        }
        Ok(())
    })?;
    block.each(e, &mut |e, c, i| {
        let at = at(c);
        for (v, held) in outputs.iter().zip(&held) {
            let (place, access) = place(e, *v, &at)?;
            e.store_narrowed(*v, &place, held.get([i]), access)?;
        }
        Ok(())
    })
}

/// The vector loops over one row, with its splits or its block.
fn columns<'k>(
    e: &mut Emitter<'k, '_>,
    extent: &Size,
    nest: &Nest,
    axis: usize,
    block: Option<Ix<'k>>,
    body: &mut dyn FnMut(&mut Emitter<'k, '_>, Block) -> Lowered<()>,
) -> Lowered<()> {
    if let Some(b) = block {
        let whole = extent.clone();
        let n = e.size_max(&extent.ceil_div(COLUMN_BLOCK)) as i64;
        let base = e.index(b, Range::new(0, (n - 1).max(0)), 1).scale(COLUMN_BLOCK);
        // Full blocks need no bounds; the last one runs to the end.
        let full = whole.floor_div(COLUMN_BLOCK);
        let exact = whole.modulo(COLUMN_BLOCK).as_const() == Some(0);
        let mut result = Ok(());
        let mut inside = |e: &mut Emitter<'k, '_>| e.block_loop("c", &Size::constant(COLUMN_BLOCK), &base, body);
        if exact {
            return inside(e);
        }
        let hi = e.size(&full)?;
        let cond = b.lt(hi);
        e.k.if_(cond, || result = e.scoped(1.0, &mut inside));
        result?;
        let rest = whole.modulo(COLUMN_BLOCK);
        let start = e.size_coord(&(full * Size::constant(COLUMN_BLOCK))).expect("a rounded affine size is affine");
        let cond = b.ge(hi);
        let mut result = Ok(());
        e.k.if_(cond, || {
            result = e.scoped(1.0 / (n as f64).max(1.0), |e| e.block_loop("c", &rest, &start, body));
        });
        return result;
    }
    let factors = nest.splits.get(&axis).cloned().unwrap_or_default();
    e.split_block_loop("c", extent, &factors, body)
}

/// Grid axes for the rows.
pub(super) struct RowAxes<'k> {
    pub(super) grid: Vec<(String, Ix<'k>)>,
    /// For each row axis: (grid position, factor, largest value) of each part, outermost first; none for extent 1.
    pub(super) parts: Vec<Vec<(usize, i64, i64)>>,
    pub(super) trips: f64,
}

impl<'k> RowAxes<'k> {
    pub(super) fn new(e: &mut Emitter<'k, '_>, shape: &[Size], nest: &Nest) -> Lowered<Self> {
        let mut axes = RowAxes { grid: Vec::new(), parts: Vec::new(), trips: 1.0 };
        for (i, d) in shape.iter().enumerate() {
            axes.trips *= e.size_max(d).max(1.0);
            if d.as_const() == Some(1) {
                axes.parts.push(Vec::new());
                continue;
            }
            let name = match d.as_symbol() {
                Some(id) => e.f.symbols[id.0 as usize].name.to_lowercase(),
                None => format!("i{i}"),
            };
            let mut parts = Vec::new();
            let mut n = d.clone();
            for f in nest.splits.get(&i).into_iter().flatten() {
                if let Some(c) = n.as_const()
                    && *f > 1
                    && *f < c
                    && c % f == 0
                {
                    parts.push((axes.grid.len(), *f, c / f - 1));
                    let ix = e.k.int(c / f);
                    axes.grid.push((name.clone(), ix));
                    n = Size::constant(*f);
                }
            }
            parts.push((axes.grid.len(), 1, (e.size_max(&n) as i64 - 1).max(0)));
            let ix = e.size(&n)?;
            axes.grid.push((name, ix));
            axes.parts.push(parts);
        }
        Ok(axes)
    }

    pub(super) fn coords(&self, e: &mut Emitter<'k, '_>, ix: &[Ix<'k>]) -> Vec<Coord> {
        self.parts
            .iter()
            .map(|parts| {
                parts.iter().fold(Coord::constant(0), |c, (at, factor, most)| {
                    let part = e.index(ix[*at], Range::new(0, *most), 1);
                    c.plus(&part, *factor)
                })
            })
            .collect()
    }
}

/// What the next build should do differently.
pub(super) fn refine(
    e: &mut Emitter<'_, '_>,
    axes: &RowAxes<'_>,
    rows: usize,
    shape: &[Size],
    nest: &Nest,
    next: &mut Nest,
) {
    // Loop atoms are numbered by creation: the rows' parts first, in order.
    let mut owner = Vec::new();
    for (i, parts) in axes.parts.iter().enumerate() {
        owner.extend(parts.iter().map(|(_, step, _)| (i, *step)));
    }
    let columns = std::mem::take(&mut e.columns);
    for (atom, factor) in e.space.take_wanted() {
        let Atom::Loop(n) = *e.space.get(atom) else { continue };
        let along = || columns.iter().find(|(a, _)| *a == atom).map(|(_, step)| (rows, *step));
        let Some((axis, step)) = owner.get(n as usize).copied().or_else(along) else { continue };
        if axis >= shape.len() || shape[axis].as_const().is_none() {
            continue;
        }
        let list = next.splits.entry(axis).or_default();
        if !list.contains(&(factor * step)) {
            list.push(factor * step);
            list.sort_by(|a, b| b.cmp(a));
        }
    }
    if next.splits != nest.splits {
        // Coordinates of hoisted reductions change with the axes.
        next.hoisted.clear();
        return;
    }
    let stable = e.stable_atoms(axes.parts.iter().take(rows).map(Vec::len).sum());
    let mut hoisted = Vec::new();
    for (v, at) in e.reductions() {
        let on_row = at.iter().all(|c| c.terms.iter().all(|(a, _)| stable.contains(a)));
        // A constant place may exist only where a loop over a short extent runs at all.
        let shape = &e.f.ty(v).shape;
        let ranges = e.f.ranges();
        let exists = at.iter().zip(shape).all(|(c, d)| c.as_const().is_none_or(|c| c < d.bounds(&ranges).lo.max(1)));
        if on_row && exists {
            if !hoisted.contains(&(v, at.clone())) {
                hoisted.push((v, at));
            }
        } else if reduces_last(e.f, v) && !nest.scalar {
            next.scalar = true;
            next.hoisted.clear();
            return;
        }
    }
    if nest.scalar {
        // A lane by itself reduces what is short; what is long is shared.
        hoisted.retain(|(v, _)| !is_gpu(e.target.profile) || is_long(e.f, *v));
    }
    next.hoisted = hoisted;
}

/// Elements from which several lanes reduce faster than one.
const LONG: f64 = 64.0;

/// True for reductions of many elements.
fn is_long(f: &Function, v: ValueId) -> bool {
    let node = f.node(v);
    let ranges = f.ranges();
    let most = |a: &u32| f.ty(node.inputs[0]).shape[*a as usize].bounds(&ranges).hi as f64;
    match &node.op {
        Op::Reduce { axes, .. } => axes.iter().map(most).product::<f64>() >= LONG,
        Op::ArgReduce { axis, .. } => most(axis) >= LONG,
        _ => false,
    }
}

/// True for reductions that run along the memory order, so that lanes of their result are far apart.
fn reduces_last(f: &Function, v: ValueId) -> bool {
    let node = f.node(v);
    let rank = f.ty(node.inputs[0]).rank() as u32;
    match &node.op {
        Op::Reduce { axes, .. } => axes.last().is_some_and(|a| a + 1 == rank),
        Op::ArgReduce { axis, .. } => axis + 1 == rank,
        _ => false,
    }
}
