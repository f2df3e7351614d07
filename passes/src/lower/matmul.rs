//! The matrix-product template: `a [M, K]` times a weight `[N, K]` stored in panels.
//!
//! A task packs a block of rows of a (with whatever is fused before it), multiplies it with the panels of a block of
//! columns, leaves the products in group memory, and computes the fused nodes after it from there. Because the
//! products are staged, an epilogue may read any column of its block: a rotary embedding finds its partner, a gated
//! activation its gate, and a merged projection writes each of its parts where it belongs.

use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Anchor, Binding, Emitter, Lowered, Refusal, Region, Target, Work, home, is_free};
use crate::lower::map::{Built, domain, store_all};
use crate::lower::pull;
use mlxc_ir::graph::{Function, Op, Role, ValueId};
use mlxc_ir::kernel::{Access, Buf, Group, Ix, KernelBuilder, Subgroup, Type, Val};
use mlxc_ir::profile::Feature;
use mlxc_ir::{DType, Layout, Range, Size, TargetProfile};
use std::cell::RefCell;
use std::rc::Rc;

/// The panel layout a profile's matrix products want for a weight of this dtype.
pub fn panels(profile: &TargetProfile, dtype: DType) -> Layout {
    let w = (profile.vector_bits / 32).clamp(4, 16);
    let pair = if dtype == DType::BF16 && profile.has(Feature::Bf16Dot) { 2 } else { 1 };
    Layout::Blocked { block: 2 * w, pair }
}

/// The parameter of a weight that a product reads as its right factor, if the template fits the node.
pub fn weight_operand(f: &Function, node: u32) -> Option<u32> {
    let n = &f.nodes[node as usize];
    let Op::MatMul { transpose_a: false, transpose_b: true } = n.op else { return None };
    let b = f.node(n.inputs[1]);
    match b.op {
        Op::Param(p)
            if n.types[0].rank() == 2
                && matches!(f.params[p as usize].role, Role::Weight(_) | Role::Block)
                && f.params[p as usize].ty.const_shape().is_some() =>
        {
            Some(p)
        }
        _ => None,
    }
}

/// Columns of the product that one set of outputs is computed from.
#[derive(Clone, Debug)]
struct Part {
    /// Extent of the outputs' column space.
    columns: i64,
    /// First column of the product, for the spine.
    start: i64,
    /// First columns of every stretch of the product the outputs read.
    segments: Vec<i64>,
    outputs: Vec<ValueId>,
}

#[derive(Clone, Debug, PartialEq)]
struct Plan {
    /// Columns a task computes of each segment.
    width: i64,
    splits: Vec<i64>,
}

/// Builds the kernel of a region with one matrix product.
///
/// # Errors
/// A refusal where the template does not fit.
pub fn build(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    outputs: &[ValueId],
    name: &str,
) -> Lowered<Built> {
    let weight = weight_operand(f, anchor).ok_or_else(|| Refusal::new("operand", "the right factor is no weight"))?;
    let Layout::Blocked { block, .. } = target.layouts.get(&weight).copied().unwrap_or_default() else {
        return Err(Refusal::new("layout", "the weight is not stored in panels"));
    };
    let parts = parts(f, region, ValueId::of(anchor as usize), outputs)?;
    let columns = f.nodes[anchor as usize].types[0].shape[1].as_const().expect("a weight's shape is constant");
    let block = i64::from(block);
    let ragged = parts.len() == 1 && parts[0].segments == [0] && parts[0].columns == columns;
    let fits = |w: i64| parts.iter().all(|p| p.columns % w == 0 && p.segments.iter().all(|s| s % block == 0));
    if !ragged && !fits(block) {
        return Err(Refusal::new("panels", format!("the parts of the product are no multiples of {block} columns")));
    }
    let one_row = f.nodes[anchor as usize].types[0].shape[0].as_const() == Some(1);
    let goal = if one_row { 2 * block } else { 8 * block };
    let widest = |least: i64| {
        let padded = ((columns + block - 1) / block) * block;
        let mut w = least;
        while w * 2 <= goal && (if ragged { padded % (w * 2) == 0 } else { fits(w * 2) }) {
            w *= 2;
        }
        w
    };
    let mut plan = Plan { width: widest(block), splits: Vec::new() };
    for _ in 0..6 {
        let (built, next) = attempt(f, target, region, anchor, weight, &parts, name, &plan, ragged)?;
        if next == plan {
            return built;
        }
        // A wanted split must divide the block, else the partner of a column lies in another task.
        let least = next.splits.iter().fold(block, |w, s| lcm(w, *s));
        if !ragged && !fits(least) {
            return Err(Refusal::new("panels", format!("the parts are no multiples of {least} columns")));
        }
        if ragged && (((columns + block - 1) / block) * block) % least != 0 {
            return Err(Refusal::new("panels", format!("{columns} columns are no multiple of {least}")));
        }
        plan = Plan { width: widest(least), splits: next.splits };
    }
    Err(Refusal::new("nest", "no loop nest was found"))
}

fn lcm(a: i64, b: i64) -> i64 {
    fn gcd(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    a / gcd(a, b) * b
}

/// Groups outputs by the columns they come from.
fn parts(f: &Function, region: &Region, anchor: ValueId, outputs: &[ValueId]) -> Lowered<Vec<Part>> {
    let whole = f.ty(anchor).shape[1].as_const().expect("a weight's shape is constant");
    let mut parts: Vec<Part> = Vec::new();
    for v in outputs {
        let spine = spine(f, region, anchor, stored_value(f, *v))?;
        let (start, columns) = match spine.first().map(|v| f.node(*v)) {
            Some(n) => match &n.op {
                Op::Slice { start, stop, .. } => column_slice(f, n, start, stop)?,
                _ => (0, whole),
            },
            None => (0, whole),
        };
        let mut segments = Vec::new();
        read_segments(f, region, anchor, stored_value(f, *v), &mut segments, &mut Vec::new())?;
        segments.sort_unstable();
        segments.dedup();
        match parts.iter_mut().find(|p| p.start == start && p.columns == columns) {
            Some(p) => {
                p.outputs.push(*v);
                p.segments.extend(segments);
                p.segments.sort_unstable();
                p.segments.dedup();
            }
            None => parts.push(Part { columns, start, segments, outputs: vec![*v] }),
        }
    }
    parts.sort_by_key(|p| p.start);
    Ok(parts)
}

/// What an output stores: a state write stores its update.
pub(super) fn stored_value(f: &Function, v: ValueId) -> ValueId {
    if home(f, v) == v { v } else { f.node(v).inputs[1] }
}

fn column_slice(f: &Function, n: &mlxc_ir::graph::Node, start: &[Size], stop: &[Size]) -> Lowered<(i64, i64)> {
    let x = &f.ty(n.inputs[0]).shape;
    let Op::Slice { step, .. } = &n.op else { unreachable!("called for slices") };
    let rows_whole = start[0].as_const() == Some(0) && stop[0] == x[0] && step.iter().all(|s| *s == 1);
    match (rows_whole, start[1].as_const(), stop[1].as_const()) {
        (true, Some(a), Some(b)) => Ok((a, b - a)),
        _ => Err(Refusal::new("slice", "the product is sliced by rows or with steps")),
    }
}

/// The values from the anchor (exclusive) to `v`, along one path.
pub(super) fn spine(f: &Function, region: &Region, anchor: ValueId, v: ValueId) -> Lowered<Vec<ValueId>> {
    fn walk(f: &Function, region: &Region, anchor: ValueId, v: ValueId, path: &mut Vec<ValueId>) -> bool {
        if v == anchor {
            return true;
        }
        let n = f.node(v);
        if !(region.contains(&v.node) || is_free(f, v.node)) {
            return false;
        }
        if n.inputs.iter().any(|x| walk(f, region, anchor, *x, path)) {
            path.push(v);
            return true;
        }
        false
    }
    let mut path = Vec::new();
    if walk(f, region, anchor, v, &mut path) {
        return Ok(path);
    }
    Err(Refusal::new("unrelated", format!("`{}` does not depend on the product", f.value_name(v))))
}

/// First columns of the slices of the product that `v` reads; 0 for a direct read.
fn read_segments(
    f: &Function,
    region: &Region,
    anchor: ValueId,
    v: ValueId,
    out: &mut Vec<i64>,
    seen: &mut Vec<ValueId>,
) -> Lowered<()> {
    if seen.contains(&v) {
        return Ok(());
    }
    seen.push(v);
    let n = f.node(v);
    if v == anchor {
        out.push(0);
        return Ok(());
    }
    if !(region.contains(&v.node) || is_free(f, v.node)) {
        return Ok(());
    }
    if let Op::Slice { start, stop, .. } = &n.op
        && n.inputs[0] == anchor
    {
        out.push(column_slice(f, n, start, stop)?.0);
        return Ok(());
    }
    n.inputs.iter().try_for_each(|x| read_segments(f, region, anchor, *x, out, seen))
}

/// Coordinates of the last value of a path, from those of the anchor at its beginning.
pub(super) fn push(e: &mut Emitter<'_, '_>, path: &[ValueId], start: &[Coord]) -> Lowered<Vec<Coord>> {
    let mut at = start.to_vec();
    let f = e.f;
    for (i, v) in path.iter().enumerate() {
        let n = f.node(*v);
        at = match &n.op {
            // The first slice is what made the part.
            Op::Slice { .. } if i == 0 => at,
            Op::Reshape { shape } => {
                let spine_input = n.inputs[0];
                pull::reshape(&mut e.space, &f.ty(spine_input).shape.clone(), shape, &at)
                    .ok_or_else(|| Refusal::new("reshape", "a reshape after the product has no affine indices"))?
            }
            Op::Transpose { perm } => perm.iter().map(|p| at[*p as usize].clone()).collect(),
            Op::Reverse { axes } => {
                for a in axes {
                    let d = e.size_coord(&n.types[0].shape[*a as usize]);
                    let d = d.ok_or_else(|| Refusal::new("symbolic-product", "a reversed extent is a product"))?;
                    at[*a as usize] = d.offset(-1).plus(&at[*a as usize], -1);
                }
                at
            }
            op if op.is_elementwise() => at,
            op => {
                let text = format!("`{}` after a product changes its shape", op.name());
                return Err(Refusal::new("epilogue", text));
            }
        };
    }
    Ok(at)
}

/// Products of one block of rows and columns, in group memory.
struct Staged<'k> {
    value: Rc<RefCell<Window>>,
    memory: Group<'k>,
}

/// Which rows and columns group memory holds now.
#[derive(Default)]
struct Window {
    row: Coord,
    local_row: Coord,
    /// First column of the block within its part.
    base: Coord,
    segments: Vec<i64>,
    width: i64,
}

impl<'k> Anchor<'k> for Staged<'k> {
    fn read(&self, e: &mut Emitter<'k, '_>, coords: &[Coord]) -> Lowered<Val<'k>> {
        let w = self.value.borrow();
        if coords[0] != w.row {
            return Err(Refusal::new("rows", "a row of the product is read by another row"));
        }
        for (i, segment) in w.segments.iter().enumerate() {
            let local = coords[1].plus(&w.base, -1).offset(-segment);
            let r = e.space.range(&local);
            if r.lo < 0 || r.hi >= w.width {
                continue;
            }
            let at = [Coord::constant(i as i64), w.local_row.clone(), local];
            drop(w);
            return self.load(e, &at);
        }
        Err(Refusal::new("columns", "a column of the product is read by a task that does not compute it"))
    }
}

impl<'k> Staged<'k> {
    fn load(&self, e: &mut Emitter<'k, '_>, at: &[Coord]) -> Lowered<Val<'k>> {
        let vector = e.is_vector(at);
        let base = e.base(at);
        let contiguous = base[2].plus(&e.lane(), 1) == at[2];
        if vector && !contiguous {
            return e.each_lane(at, |e, at| self.load(e, at));
        }
        let ix: Vec<Ix<'k>> = base.iter().map(|c| e.ix(c)).collect();
        let place = self.memory.at(&ix);
        // Group memory is padded to whole vectors, so a tail may read past its end.
        let value = if vector { place.vec(e.width).load() } else { place.load() };
        Ok(e.k.let_("product", value))
    }
}

struct Shape {
    rows: Size,
    k: i64,
    dtype: DType,
    /// Rows of a register tile.
    mr: i64,
    /// Tiles of a task.
    tiles: i64,
    /// f32 lanes.
    lanes: i64,
    pair: i64,
}

fn attempt(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    weight: u32,
    parts: &[Part],
    name: &str,
    plan: &Plan,
    ragged: bool,
) -> Lowered<(Lowered<Built>, Plan)> {
    let k = KernelBuilder::new(name);
    let (made, next) = emit_kernel(&k, f, target, region, anchor, weight, parts, plan, ragged)?;
    let built = made.map(|(bindings, work)| Built { kernel: k.finish(), bindings, work, template: "matmul" });
    Ok((built, next))
}

fn emit_kernel<'k>(
    k: &'k KernelBuilder,
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    weight: u32,
    parts: &[Part],
    plan: &Plan,
    ragged: bool,
) -> Lowered<(Lowered<(Vec<Binding>, Work)>, Plan)> {
    let node = &f.nodes[anchor as usize];
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let Some(Layout::Blocked { block, pair }) = target.layouts.get(&weight).copied() else {
        unreachable!("the caller checked the layout");
    };
    let mut e = Emitter::new(k, f, target, region);
    let inner = f.ty(a).shape[1].as_const().expect("the inner extent is a weight's");
    let columns = node.types[0].shape[1].as_const().expect("a weight's shape is constant");
    let s = shape(&e, target.profile, node.types[0].shape[0].clone(), inner, node.types[0].dtype, i64::from(pair));
    let rows_block = s.mr * s.tiles;
    let groups: i64 = parts.iter().map(|p| (p.columns + plan.width - 1) / plan.width).sum();
    let most_rows = e.size_max(&s.rows) as i64;
    let row_blocks = (most_rows + rows_block - 1) / rows_block;
    let (grid_g, grid_q) = (k.int(groups), e.size(&s.rows.ceil_div(rows_block))?);
    k.knob("mr", s.mr);
    k.knob("columns", plan.width);
    let weight_buffer = e.buffer(b, &f.ty(b).shape.clone(), Access::Read)?;
    let mut result = Ok(());
    let mut next = plan.clone();
    k.phase("tiles", &[("g", grid_g), ("q", grid_q)], 1, Subgroup::None, |ix| {
        let segments = parts.iter().map(|p| p.segments.len()).max().unwrap_or(1) as i64;
        let staged = k.group("product", compute(s.dtype), &[segments, rows_block, plan.width + s.lanes]);
        let packed = Packed::new(k, &s);
        let g = e.index(ix[0], Range::new(0, (groups - 1).max(0)), 1);
        let q = e.index(ix[1], Range::new(0, (row_blocks - 1).max(0)), 1);
        let window = Rc::new(RefCell::new(Window { width: plan.width, ..Window::default() }));
        e.set_anchor(ValueId::of(anchor as usize), Rc::new(Staged { value: window.clone(), memory: staged }));
        let trips = groups as f64 * row_blocks as f64;
        result = e.scoped(trips, |e| {
            let source = packed.fill(e, a, &s, &q)?;
            e.work.dot_flops += 2.0 * (most_rows * columns * inner) as f64;
            let panels = Panels { buffer: weight_buffer, block: i64::from(block), s: &s };
            // Parts that follow each other are one stretch of panels, computed before they part ways.
            let mut end = 0;
            let follows = |p: &Part| std::mem::replace(&mut end, p.start + p.columns) == p.start;
            let together = parts.len() > 1
                && parts.iter().all(|p| p.segments == [p.start] && p.columns % plan.width == 0)
                && parts.iter().all(follows);
            if together {
                panels.multiply(e, &source, staged, &g.scale(plan.width), 0, plan.width)?;
            }
            let mut first = 0;
            let mut outcome = Ok(());
            for p in parts {
                let count = (p.columns + plan.width - 1) / plan.width;
                let body = |e: &mut Emitter<'k, '_>| -> Lowered<()> {
                    let base = if parts.len() == 1 { g.clone() } else { g.offset(-first) };
                    // Within the part the block number starts at 0; the branch proves it.
                    let base = if parts.len() == 1 {
                        base
                    } else {
                        let ix = e.ix(&base);
                        e.index(ix, Range::new(0, count - 1), 1)
                    };
                    let base = base.scale(plan.width);
                    if !together {
                        for (i, segment) in p.segments.iter().enumerate() {
                            panels.multiply(e, &source, staged, &base.offset(*segment), i as i64, plan.width)?;
                        }
                    }
                    epilogue(e, region, anchor, p, plan, &s, &window, &q, base, ragged)
                };
                if parts.len() == 1 {
                    body(e)?;
                } else {
                    let (lo, hi) = (e.k.int(first), e.k.int(first + count));
                    let here = ix[0].ge(lo) & ix[0].lt(hi);
                    let share = count as f64 / groups as f64;
                    e.k.if_(here, || outcome = e.scoped(share, body));
                }
                outcome.clone()?;
                first += count;
            }
            Ok(())
        });
        next.splits = e.wanted_splits(&plan.splits);
        next.splits.retain(|s| *s < columns);
    });
    // A refusal may fall with the splits it asked for, so both are reported.
    Ok((result.map(|()| e.finish()), next))
}

fn shape(e: &Emitter<'_, '_>, profile: &TargetProfile, rows: Size, k: i64, dtype: DType, pair: i64) -> Shape {
    let lanes = i64::from(e.width);
    let most = e.size_max(&rows) as i64;
    // Two vectors of columns: accumulators, two panel vectors and a broadcast fill the register file.
    let mr = ((i64::from(profile.registers) - 3) / 2).min(14).min(most.max(1));
    let bytes = k * mr * if pair == 2 { 2 } else { 4 };
    let room = (profile.limits.group_bytes as i64 / 2).max(1);
    let tiles = (room / bytes.max(1)).clamp(1, 4).min((most + mr - 1) / mr).max(1);
    Shape { rows, k, dtype, mr, tiles, lanes, pair }
}

/// Rows of the left factor in the order the register tile reads them: `[tile, k / pair, row]`.
struct Packed<'k> {
    memory: Group<'k>,
}

/// Where the register tile finds the left factor.
struct Source<'k> {
    memory: Group<'k>,
}

impl<'k> Packed<'k> {
    fn new(k: &'k KernelBuilder, s: &Shape) -> Self {
        let dtype = if s.pair == 2 { DType::U32 } else { compute(s.dtype) };
        Packed { memory: k.group("rows", dtype, &[s.tiles, (s.k + s.pair - 1) / s.pair, s.mr]) }
    }

    fn fill(&self, e: &mut Emitter<'k, '_>, a: ValueId, s: &Shape, q: &Coord) -> Lowered<Source<'k>> {
        let memory = self.memory;
        let (tiles, mr) = (e.k.int(s.tiles), e.k.int(s.mr));
        e.each("t", tiles, Range::new(0, s.tiles - 1), 1, false, |e, t| {
            e.each("i", mr, Range::new(0, s.mr - 1), 1, false, |e, i| {
                let row = q.scale(s.mr * s.tiles).plus(&t.scale(s.mr), 1).plus(&i, 1);
                let at = [e.ix(&t), e.ix(&i)];
                let row_loop = |e: &mut Emitter<'k, '_>| {
                    e.vector_loop("k", &Size::constant(s.k), &mut |e, c, full| {
                        let value = e.emit(a, &[row.clone(), c.clone()])?;
                        let value = if value.ty().lanes() == 1 { value.splat(e.width) } else { value };
                        let base = e.base(&[c])[0].clone();
                        let tail = if full { None } else { Some(s.k % s.lanes) };
                        scatter(e, memory, at, &base, value, s, tail);
                        Ok(())
                    })
                };
                if s.rows.as_const().is_some_and(|m| m % (s.mr * s.tiles) == 0) {
                    return row_loop(e);
                }
                // Rows past the end are zero: their products are computed and not stored.
                let (m, hi) = (e.ix(&row), e.size(&s.rows)?);
                let mut result = Ok(());
                let k = e.k;
                k.if_else(
                    m.lt(hi),
                    || result = e.scoped(1.0, row_loop),
                    || {
                        let zero =
                            if s.pair == 2 { k.int_constant(0, DType::U32) } else { k.constant(0.0, compute(s.dtype)) };
                        let steps = k.int((s.k + s.pair - 1) / s.pair);
                        k.for_("k", k.int(0), steps, 1, false, |c| memory.at([at[0], c, at[1]]).store(zero));
                    },
                );
                result
            })
        })?;
        Ok(Source { memory })
    }
}

/// Stores a vector of one row down the packed columns.
fn scatter<'k>(
    e: &mut Emitter<'k, '_>,
    memory: Group<'k>,
    at: [Ix<'k>; 2],
    base: &Coord,
    value: Val<'k>,
    s: &Shape,
    tail: Option<i64>,
) {
    let k = e.k;
    let (value, count) = if s.pair == 2 {
        let words = value.cast(DType::BF16).bits(Type::vector(DType::U32, (s.lanes / 2) as u8));
        (words, s.lanes / 2)
    } else {
        (value, s.lanes)
    };
    let value = k.let_("row", value);
    let live = tail.map_or(count, |n| (n + s.pair - 1) / s.pair);
    let (first, _) = e.space.div_rem(base, s.pair);
    let first = e.ix(&first);
    k.for_("l", k.int(0), k.int(live), 1, true, |l| {
        memory.at([at[0], first + l, at[1]]).store(value.extract(l));
    });
}

struct Panels<'k, 's> {
    buffer: Buf<'k>,
    block: i64,
    s: &'s Shape,
}

impl<'k> Panels<'k, '_> {
    /// Multiplies the packed rows with the panels from column `from` on, into segment `segment` of group memory.
    fn multiply(
        &self,
        e: &mut Emitter<'k, '_>,
        source: &Source<'k>,
        staged: Group<'k>,
        from: &Coord,
        segment: i64,
        width: i64,
    ) -> Lowered<()> {
        let (k, s) = (e.k, self.s);
        let (first, _) = e.space.div_rem(from, self.block);
        let count = k.int(width / self.block);
        let lanes = s.lanes as u8;
        let acc_type = Type::vector(compute(s.dtype), lanes);
        let steps = k.int((s.k + s.pair - 1) / s.pair);
        let segment = k.int(segment);
        e.each("p", count, Range::new(0, width / self.block - 1), 1, false, |e, p| {
            let panel = e.ix(&first.plus(&p, 1));
            let column = e.ix(&p.scale(self.block));
            let tiles = e.k.int(s.tiles);
            e.k.for_("t", e.k.int(0), tiles, 1, false, |t| {
                let zero = k.constant(0.0, acc_type.dtype());
                let acc = k.reg("acc", acc_type, &[s.mr as u32, 2], Some(zero));
                k.for_("k", k.int(0), steps, 1, false, |c| {
                    let half = s.lanes * s.pair;
                    let load = |j: i64| {
                        let place = self.buffer.at([panel, c, k.int(j * half)]).vec(half as u8);
                        if s.pair == 2 { place.load() } else { place.load().cast(acc_type.dtype()) }
                    };
                    let b = [k.let_("b0", load(0)), k.let_("b1", load(1))];
                    k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
                        let a = source.memory.at([t, c, i]).load();
                        let a = if s.pair == 2 {
                            a.splat(lanes).bits(Type::vector(DType::BF16, 2 * lanes))
                        } else {
                            a.splat(lanes)
                        };
                        let a = k.let_("a", a);
                        for (j, b) in b.iter().enumerate() {
                            let j = k.int(j as i64);
                            let sum = acc.get([i, j]);
                            acc.set([i, j], if s.pair == 2 { sum.dot2(a, *b) } else { a.mad(*b, sum) });
                        }
                    });
                });
                k.for_("i", k.int(0), k.int(s.mr), 1, true, |i| {
                    for j in 0..2 {
                        let at = [segment, t * s.mr + i, column + j * s.lanes];
                        staged.at(at).vec(lanes).store(acc.get([i, k.int(j)]));
                    }
                });
            });
            Ok(())
        })
    }
}

/// The fused nodes after the product, for one block of rows and columns.
fn epilogue<'k>(
    e: &mut Emitter<'k, '_>,
    region: &Region,
    anchor: u32,
    part: &Part,
    plan: &Plan,
    s: &Shape,
    window: &Rc<RefCell<Window>>,
    q: &Coord,
    base: Coord,
    ragged: bool,
) -> Lowered<()> {
    let f = e.f;
    let anchor = ValueId::of(anchor as usize);
    let paths: Vec<Vec<ValueId>> =
        part.outputs.iter().map(|v| spine(f, region, anchor, stored_value(f, *v))).collect::<Lowered<_>>()?;
    // A quotient by more than the block is wide asks for a wider block.
    e.columns.extend_from_slice(&base.terms);
    let rows_block = s.mr * s.tiles;
    let hi = e.k.int(rows_block);
    e.each("r", hi, Range::new(0, rows_block - 1), 1, false, |e, r| {
        let row = q.scale(rows_block).plus(&r, 1);
        {
            let mut w = window.borrow_mut();
            w.row = row.clone();
            w.local_row = r;
            w.base = base.clone();
            w.segments = part.segments.clone();
        }
        let store = |e: &mut Emitter<'k, '_>| {
            let exact = part.columns % plan.width == 0;
            e.split_vector_loop("c", &Size::constant(plan.width), &plan.splits, &mut |e, c, _| {
                let column = base.plus(&c, 1);
                let body = |e: &mut Emitter<'k, '_>| {
                    for (v, path) in part.outputs.iter().zip(&paths) {
                        let at = push(e, path, &[row.clone(), column.clone()])?;
                        debug_assert_eq!(at.len(), domain(f, *v).len());
                        store_all(e, &[*v], &at)?;
                    }
                    Ok(())
                };
                if exact {
                    return body(e);
                }
                debug_assert!(ragged, "only a whole product may have a ragged last block");
                let at = e.base(std::slice::from_ref(&column))[0].clone();
                let first = e.ix(&at);
                let end = e.k.int(part.columns);
                let count = (end - first).min(e.k.int(s.lanes));
                let mut result = Ok(());
                e.k.if_(first.lt(end), || {
                    let outer = e.tail.replace(count);
                    result = e.scoped(1.0, body);
                    e.tail = outer;
                });
                result
            })
        };
        if s.rows.as_const().is_some_and(|m| m % rows_block == 0) {
            return store(e);
        }
        let (m, hi) = (e.ix(&row), e.size(&s.rows)?);
        let mut result = Ok(());
        e.k.if_(m.lt(hi), || result = e.scoped(1.0, store));
        result
    })
}
