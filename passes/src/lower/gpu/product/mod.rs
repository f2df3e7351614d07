//! The matrix-product template on GPUs, for every right factor: dense weights, quantised rows, computed values.
//!
//! A group computes a block of rows and columns. One row is a dot product for each column, shared by a team of lanes
//! ([`row`], and [`codes`] for quantised weights, whose words are read as they are). More rows are tiles: stretches of both
//! factors are packed into group memory through the emitter, so that what stands before the product is computed
//! while packing, and lanes (or the target's matrix units) multiply them ([`tiles`]). Products are left in group memory,
//! where the nodes after the product may read any column of the block, as on CPUs.

mod codes;
mod epilogue;
mod pack;
mod row;
mod tiles;

use super::power_of_two;
use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Binding, Emitter, Lowered, Refusal, Region, Target, Work};
use crate::lower::map::Built;
use crate::lower::matmul::parts::{Part, parts};
use crate::lower::matmul::quantized;
use crate::lower::matmul::{Staged, Window, lcm, weight_operand};
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, Subgroup};
use mlxc_ir::profile::Feature;
use mlxc_ir::{DType, Range, Size, TargetProfile};
use std::cell::RefCell;
use std::rc::Rc;

/// Extents from which a block pays for computed factors.
const SMALLEST: i64 = 16;
/// Group memory left to what legalisation adds for lanes that work together.
const RESERVED: u64 = 2 << 10;

/// True if the template fits a product.
pub(in crate::lower) fn fits(f: &Function, node: u32) -> bool {
    let n = &f.nodes[node as usize];
    let Op::MatMul { transpose_a, .. } = n.op else { return false };
    let out = &n.types[0];
    let rank = out.rank();
    if compute(out.dtype) != DType::F32 || rank < 2 {
        return false;
    }
    if weight_operand(f, node).is_some() || quantized::operand(f, node).is_some() {
        return true;
    }
    let ranges = f.ranges();
    let most = |d: &Size| d.bounds(&ranges).hi;
    let inner = &f.ty(n.inputs[0]).shape[if transpose_a { rank - 2 } else { rank - 1 }];
    let rows = most(&out.shape[rank - 2]);
    most(&out.shape[rank - 1]) >= SMALLEST && most(inner) >= SMALLEST && (rows == 1 || rows >= SMALLEST)
}

/// True if the right factor is a weight, whose parts may be written to different places.
fn has_weight(f: &Function, node: u32) -> bool {
    weight_operand(f, node).is_some() || quantized::operand(f, node).is_some()
}

/// Extents of a product and of the block that a group computes.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    /// Rows of a block.
    rows: i64,
    /// Columns a group computes of each segment.
    width: i64,
    /// Segments.
    segments: i64,
    /// Inner elements packed at a time.
    depth: i64,
    /// Lanes of a group.
    lanes: i64,
    /// How they multiply.
    how: How,
    splits: Vec<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Teams of lanes, each a dot product.
    Row,
    /// Four by four results a lane.
    Registers,
    /// Tiles of eight by eight in the target's matrix units.
    Matrix,
}

/// Lanes that share a dot product.
const TEAM: i64 = 32;
/// Rows and columns of a lane's tile.
const TILE: i64 = 4;
/// Rows and columns of a matrix unit's tile.
const MATRIX: i64 = 8;

/// What the loops of one kernel share.
struct Product<'a, 'k> {
    plan: &'a Plan,
    a: ValueId,
    b: ValueId,
    transpose_a: bool,
    transpose_b: bool,
    rows: Size,
    columns: Size,
    inner: Size,
    /// Coordinates of the batch axes.
    batch: Vec<Coord>,
    /// First row of the block.
    row: Coord,
    staged: Group<'k>,
    dtype: DType,
}

/// Builds the kernel of a region with one matrix product.
///
/// # Errors
/// A refusal where the template does not fit.
pub(in crate::lower) fn build(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    outputs: &[ValueId],
    name: &str,
) -> Lowered<Built> {
    let v = ValueId::of(anchor as usize);
    let shape = &f.ty(v).shape;
    let columns = &shape[shape.len() - 1];
    let parts = if has_weight(f, anchor) { parts(f, region, v, outputs)? } else { whole(f, region, v, outputs)? };
    let ragged =
        parts.len() == 1 && parts[0].segments == [0] && columns.as_const().is_none_or(|n| n == parts[0].columns);
    let mut splits = Vec::new();
    for _ in 0..6 {
        let plan = plan(f, target.profile, anchor, &parts, ragged, splits)?;
        let k = KernelBuilder::new(name);
        let (made, wanted) = emit_kernel(&k, f, target, region, anchor, &parts, &plan, ragged)?;
        if wanted == plan.splits {
            let (bindings, work) = made?;
            return Ok(Built { kernel: k.finish(), bindings, work, template: "matmul" });
        }
        splits = wanted;
    }
    Err(Refusal::new("nest", "no loop nest was found"))
}

/// A product of computed factors is one part, and what stands after it has its shape.
fn whole(f: &Function, region: &Region, anchor: ValueId, outputs: &[ValueId]) -> Lowered<Vec<Part>> {
    let other = region.iter().find(|n| **n != anchor.node && !f.nodes[**n as usize].op.is_elementwise());
    if let Some(n) = other {
        let op = f.nodes[*n as usize].op.name();
        return Err(Refusal::new("epilogue", format!("`{op}` is not computed beside a product")));
    }
    let shape = &f.ty(anchor).shape;
    if outputs.iter().any(|o| f.ty(*o).shape != *shape) {
        return Err(Refusal::new("domains", "a result has another shape than the product"));
    }
    let columns = shape[shape.len() - 1].bounds(&f.ranges()).hi.max(0);
    Ok(vec![Part { columns, start: 0, segments: vec![0], outputs: outputs.to_vec() }])
}

/// Chooses the block.
fn plan(
    f: &Function,
    profile: &TargetProfile,
    anchor: u32,
    parts: &[Part],
    ragged: bool,
    splits: Vec<i64>,
) -> Lowered<Plan> {
    let shape = &f.nodes[anchor as usize].types[0].shape;
    let ranges = f.ranges();
    let most_rows = shape[shape.len() - 2].bounds(&ranges).hi.max(1);
    let columns = shape[shape.len() - 1].bounds(&ranges).hi.max(1);
    let segments = parts.iter().map(|p| p.segments.len()).max().unwrap_or(1) as i64;
    let how = match (most_rows, profile.has(Feature::Tiles)) {
        (1, _) => How::Row,
        (_, true) => How::Matrix,
        _ => How::Registers,
    };
    let unit = if how == How::Matrix { 2 * MATRIX } else { TILE };
    let least = splits.iter().fold(unit, |w, s| lcm(w, *s));
    let fits = |w: i64| ragged || parts.iter().all(|p| p.columns % w == 0 && p.segments.iter().all(|s| s % TILE == 0));
    if !fits(least) {
        return Err(Refusal::new("parts", format!("the parts of the product are no multiples of {least} columns")));
    }
    // A block that is a stretch of the columns keeps the partner of a column in its group.
    if ragged && !splits.is_empty() && columns % least != 0 {
        return Err(Refusal::new("parts", format!("{columns} columns are no multiple of {least}")));
    }
    let goal = match how {
        // Enough groups to fill the device, enough columns to be worth one.
        How::Row => (columns / (i64::from(profile.cores) * 8)).clamp(8, 64),
        _ => 64,
    } / segments;
    let mut width = least;
    while 2 * width <= goal && fits(2 * width) {
        width *= 2;
    }
    let across = segments * width;
    let room = profile.limits.group_bytes.saturating_sub(RESERVED) as i64 / 4;
    let most_lanes = i64::from(profile.limits.group_lanes).min(256);
    let plan = |rows, depth, lanes| Plan { rows, width, segments, depth, lanes, how, splits: splits.clone() };
    let tall = |least: i64| i64::from(power_of_two(most_rows, 64)).max(least);
    let found = match how {
        How::Row => Some(plan(1, 0, most_lanes)).filter(|_| across <= room),
        How::Registers => [64, 32, 16, 8, 4].into_iter().filter(|r| *r <= tall(TILE)).find_map(|rows| {
            let lanes = rows * across / (TILE * TILE);
            let depth = [16, 8].into_iter().find(|d| (rows + across) * d + rows * across <= room)?;
            (lanes <= most_lanes).then(|| plan(rows, depth, lanes))
        }),
        How::Matrix => [32, 16].into_iter().filter(|r| *r <= tall(2 * MATRIX)).find_map(|rows| {
            let depth = [32, 16, 8].into_iter().find(|d| (rows + across) * d + rows * across <= room)?;
            Some(plan(rows, depth, 4 * TEAM))
        }),
    };
    found.ok_or_else(|| Refusal::new("group-memory", format!("{across} columns exceed the target's group memory")))
}

fn emit_kernel<'k>(
    k: &'k KernelBuilder,
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    parts: &[Part],
    plan: &Plan,
    ragged: bool,
) -> Lowered<(Lowered<(Vec<Binding>, Work)>, Vec<i64>)> {
    let v = ValueId::of(anchor as usize);
    let node = f.node(v);
    let Op::MatMul { transpose_a, transpose_b } = node.op else { unreachable!("called for products") };
    let mut e = Emitter::with_width(k, f, target, region, TILE as u8);
    let (batch, matrix) = node.types[0].shape.split_at(node.types[0].rank() - 2);
    let rank = f.ty(node.inputs[0]).rank();
    let inner = f.ty(node.inputs[0]).shape[if transpose_a { rank - 2 } else { rank - 1 }].clone();
    let (rows, columns) = (matrix[0].clone(), matrix[1].clone());
    let dtype = node.types[0].dtype;
    let groups: i64 = parts.iter().map(|p| (p.columns + plan.width - 1) / plan.width).sum();
    let row_blocks = rows.ceil_div(plan.rows);
    let mut grid = Vec::new();
    let mut most = Vec::new();
    for d in batch {
        grid.push(("b", e.size(d)?));
        most.push(e.size_max(d) as i64);
    }
    let stretch = if columns.as_const().is_some() { k.int(groups) } else { e.size(&columns.ceil_div(plan.width))? };
    grid.extend([("q", e.size(&row_blocks)?), ("g", stretch)]);
    most.extend([e.size_max(&row_blocks) as i64, groups]);
    k.knob("rows", plan.rows);
    k.knob("columns", plan.width);
    let tasks: i64 = most.iter().map(|n| (*n).max(1)).product();
    let flops = [&rows, &columns, &inner].iter().fold(2.0, |p, d| p * e.size_max(d));
    e.work.dot_flops += flops * batch.iter().fold(1.0, |p, d| p * e.size_max(d));
    let codes = match (plan.how, quantized::operand(f, anchor)) {
        (How::Row, Some(w)) => codes::Codes::new(&mut e, &w, &inner)?,
        _ => None,
    };
    let subgroup = if plan.how == How::Matrix { Subgroup::Fixed(TEAM as u8) } else { Subgroup::None };
    let mut result = Ok(());
    k.phase("blocks", &grid, plan.lanes as u32, subgroup, |ix| {
        let at: Vec<Coord> = ix.iter().zip(&most).map(|(i, n)| e.index(*i, Range::new(0, (n - 1).max(0)), 1)).collect();
        let lead = at[..batch.len()].to_vec();
        let (q, g) = (at[batch.len()].clone(), at[batch.len() + 1].clone());
        let staged = k.group("product", compute(dtype), &[plan.segments, plan.rows, plan.width]);
        let window = Rc::new(RefCell::new(Window { batch: lead.clone(), width: plan.width, ..Window::default() }));
        e.set_anchor(v, Rc::new(Staged { value: window.clone(), memory: staged }));
        let p = Product {
            plan,
            a: node.inputs[0],
            b: node.inputs[1],
            transpose_a,
            transpose_b,
            rows: rows.clone(),
            columns: columns.clone(),
            inner: inner.clone(),
            batch: lead,
            row: q.scale(plan.rows),
            staged,
            dtype,
        };
        result = e.scoped(tasks as f64, |e| {
            let shared = p.begin(e, codes.as_ref())?;
            let mut first = 0;
            let mut outcome = Ok(());
            for part in parts {
                let count = (part.columns + plan.width - 1) / plan.width;
                let body = |e: &mut Emitter<'k, '_>| -> Lowered<()> {
                    // Within the part the block number starts at 0; the branch proves it.
                    let base = if parts.len() == 1 {
                        g.clone()
                    } else {
                        let ix = e.ix(&g.offset(-first));
                        e.index(ix, Range::new(0, count - 1), 1)
                    };
                    let base = base.scale(plan.width);
                    p.multiply(e, part, &base, codes.as_ref().zip(shared.as_ref()))?;
                    p.epilogue(e, region, v, part, &window, base, ragged)
                };
                if parts.len() == 1 {
                    body(e)?;
                } else {
                    let (lo, hi) = (k.int(first), k.int(first + count));
                    let here = ix[batch.len() + 1].ge(lo) & ix[batch.len() + 1].lt(hi);
                    k.if_(here, || outcome = e.scoped(count as f64 / groups as f64, body));
                }
                outcome.clone()?;
                first += count;
            }
            Ok(())
        });
    });
    let mut wanted = e.wanted_splits(&plan.splits);
    wanted.retain(|s| columns.as_const().is_none_or(|n| *s < n));
    // A refusal may fall with the splits it asked for, so both are reported.
    Ok((result.map(|()| e.finish()), wanted))
}

impl<'k> Product<'_, 'k> {
    /// What every part of a group's columns shares.
    fn begin(&self, e: &mut Emitter<'k, '_>, codes: Option<&codes::Codes<'k>>) -> Lowered<Option<codes::Picked<'k>>> {
        codes.map(|c| c.pick(e, &self.batch)).transpose()
    }

    /// Computes the products of a part's block, and waits for them.
    fn multiply(
        &self,
        e: &mut Emitter<'k, '_>,
        part: &Part,
        base: &Coord,
        codes: Option<(&codes::Codes<'k>, &codes::Picked<'k>)>,
    ) -> Lowered<()> {
        let from: Vec<Coord> = part.segments.iter().map(|s| base.offset(*s)).collect();
        match (self.plan.how, codes) {
            (How::Row, Some((c, picked))) => self.row(e, &from, &mut |e, n| c.dots(e, self, picked, n))?,
            (How::Row, None) => self.row(e, &from, &mut |e, n| self.dots(e, n))?,
            _ => self.tiles(e, &from)?,
        }
        e.k.barrier(mlxc_ir::kernel::BarrierScope::Group);
        Ok(())
    }

    /// A column of the product; those past the last repeat it.
    fn clamped(
        &self,
        e: &mut Emitter<'k, '_>,
        at: Ix<'k>,
        first: &Coord,
        block: i64,
        extent: &Size,
    ) -> Lowered<Ix<'k>> {
        let most = e.space.range(first).hi.saturating_add(block);
        if extent.as_const().is_some_and(|n| most <= n) {
            return Ok(at);
        }
        let n = e.size(extent)?;
        Ok(at.min(n - 1))
    }

    /// Coordinates of an element of a factor.
    fn place(&self, major: &Coord, inner: &Coord, inner_last: bool) -> Vec<Coord> {
        let (x, y) = if inner_last { (major, inner) } else { (inner, major) };
        self.batch.iter().chain([x, y]).cloned().collect()
    }
}

/// True if a size is always a multiple of `by`.
fn divides(size: &Size, by: i64) -> bool {
    size.modulo(by).as_const() == Some(0)
}
