//! The matrix-product template: `a [M, K]` times a weight `[N, K]`, stored in panels or quantised.
//!
//! A task packs a block of rows of a (with whatever is fused before it), multiplies it with a block of columns of the
//! weight, leaves the products in group memory, and computes the fused nodes after it from there. Because the
//! products are staged, an epilogue may read any column of its block: a rotary embedding finds its partner, a gated
//! activation its gate, and a merged projection writes each of its parts where it belongs.

mod panels;
pub(super) mod parts;
pub(crate) mod quantized;
mod rows;
mod tiles;

pub(super) use parts::{push, spine, stored_value};

use crate::choices;
use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Anchor, Binding, Emitter, Lowered, Refusal, Region, Target, Work};
use crate::lower::gpu::{self, is_gpu};
use crate::lower::map::{Built, domain, store_all};
use mlxc_ir::graph::{Function, Op, Role, ValueId};
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, Subgroup, Val};
use mlxc_ir::profile::Feature;
use mlxc_ir::{DType, Layout, Range, Size, TargetProfile};
use parts::{Part, parts};
use rows::Shape;
use std::cell::RefCell;
use std::rc::Rc;

/// The panel layout a profile's matrix products want for a weight of this dtype.
pub fn panels(profile: &TargetProfile, dtype: DType) -> Layout {
    Layout::Blocked { block: 2 * lanes(profile) as u32, pair: pair(profile, dtype) as u32 }
}

/// Elements of one dot-product step along the inner axis: a pair where the target multiplies pairs in tiles, or faster than
/// one by one.
fn pair(profile: &TargetProfile, dtype: DType) -> i64 {
    let faster = !profile.tiles.is_empty() || profile.rates.bf16_flops >= profile.rates.f32_flops;
    if dtype == DType::BF16 && profile.has(Feature::Bf16Dot) && faster { 2 } else { 1 }
}

/// True for a parameter whose value is known when the package is made.
fn is_weight(f: &Function, v: ValueId) -> Option<u32> {
    let Op::Param(p) = f.node(v).op else { return None };
    let param = &f.params[p as usize];
    (matches!(param.role, Role::Weight(_) | Role::Block) && param.ty.const_shape().is_some()).then_some(p)
}

/// The parameter of a dense weight that a product reads as its right factor, if the template fits the node.
pub fn weight_operand(f: &Function, node: u32) -> Option<u32> {
    let n = &f.nodes[node as usize];
    let Op::MatMul { transpose_a: false, transpose_b: true } = n.op else { return None };
    is_weight(f, n.inputs[1]).filter(|_| n.types[0].rank() == 2)
}

/// The parameter that a product's weight is called after.
pub fn named_weight(f: &Function, node: u32) -> Option<u32> {
    weight_operand(f, node).or_else(|| quantized::operand(f, node).and_then(|w| is_weight(f, w.words)))
}

/// True if the template fits a product: its right factor is a quantised weight, or one stored in panels.
pub fn fits(f: &Function, target: &Target<'_>, node: u32) -> bool {
    if is_gpu(target.profile) {
        return gpu::product::fits(f, node);
    }
    factor(f, target, node).is_ok()
}

/// The right factor of a product.
enum Factor {
    /// A weight in panels of so many rows, in pairs along the inner axis.
    Panels { weight: ValueId, block: i64, pair: i64 },
    /// Quantised rows.
    Quantized(quantized::Weight),
}

impl Factor {
    /// Columns that are computed together.
    fn block(&self, profile: &TargetProfile) -> i64 {
        match self {
            Factor::Panels { block, .. } => *block,
            Factor::Quantized(_) => 2 * lanes(profile),
        }
    }
}

/// f32 lanes of a vector.
fn lanes(profile: &TargetProfile) -> i64 {
    i64::from((profile.vector_bits / 32).clamp(4, 16))
}

fn factor(f: &Function, target: &Target<'_>, node: u32) -> Lowered<Factor> {
    if let Some(w) = quantized::operand(f, node) {
        if w.int8 && !quantized::multiplies_int8(f, target.profile, node) {
            return Err(Refusal::new("int8", "the target does not multiply 8-bit integers here"));
        }
        return Ok(Factor::Quantized(w));
    }
    let weight = weight_operand(f, node).ok_or_else(|| Refusal::new("operand", "the right factor is no weight"))?;
    let Layout::Blocked { block, pair } = target.layouts.get(&weight).copied().unwrap_or_default() else {
        return Err(Refusal::new("layout", "the weight is not stored in panels"));
    };
    let weight = f.nodes[node as usize].inputs[1];
    Ok(Factor::Panels { weight, block: i64::from(block), pair: i64::from(pair) })
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
    if is_gpu(target.profile) {
        return gpu::product::build(f, target, region, anchor, outputs, name);
    }
    let factor = factor(f, target, anchor)?;
    let parts = parts(f, region, ValueId::of(anchor as usize), outputs)?;
    let product = &f.nodes[anchor as usize].types[0].shape;
    let columns = product[product.len() - 1].as_const().expect("a weight's shape is constant");
    let block = factor.block(target.profile);
    let ragged = parts.len() == 1 && parts[0].segments == [0] && parts[0].columns == columns;
    let fits = |w: i64| parts.iter().all(|p| p.columns % w == 0 && p.segments.iter().all(|s| s % block == 0));
    if !ragged && !fits(block) {
        return Err(Refusal::new("panels", format!("the parts of the product are no multiples of {block} columns")));
    }
    let one_row = product[product.len() - 2].as_const() == Some(1);
    let (inner, dtype) =
        (f.ty(f.nodes[anchor as usize].inputs[0]).shape.last(), f.nodes[anchor as usize].types[0].dtype);
    let inner = inner.and_then(Size::as_const).unwrap_or(1);
    let tiled = !one_row && tiles::shape_of(target.profile, dtype, i64::MAX, inner).is_some();
    let dear = match &factor {
        Factor::Quantized(w) => !one_row && w.digits(target.profile, dtype, lanes(target.profile), tiled).is_some(),
        Factor::Panels { .. } => false,
    };
    let goal = match &factor {
        Factor::Quantized(_) if one_row => quantized::columns_of_a_task(columns, block),
        _ if one_row => 2 * block,
        // Every task packs its rows, which costs more beside fast products: wider ones where all cores have some.
        _ if dear => (columns / (2 * i64::from(target.profile.cores))).clamp(8 * block, 32 * block),
        _ if tiled && columns >= 16 * block * 2 * i64::from(target.profile.cores) => 16 * block,
        _ => 8 * block,
    };
    let goal = target.choose(&choices::MATMUL_BLOCKS, f, anchor, goal / block) * block;
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
        let (built, next) = attempt(f, target, region, anchor, &factor, &parts, name, &plan, ragged)?;
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

pub(super) fn lcm(a: i64, b: i64) -> i64 {
    fn gcd(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    a / gcd(a, b) * b
}

/// Products of one block of rows and columns, in group memory.
pub(super) struct Staged<'k> {
    pub value: Rc<RefCell<Window>>,
    pub memory: Group<'k>,
}

/// Which rows and columns group memory holds now.
#[derive(Default)]
pub(super) struct Window {
    /// Coordinates of the batch axes.
    pub batch: Vec<Coord>,
    pub row: Coord,
    pub local_row: Coord,
    /// First column of the block within its part.
    pub base: Coord,
    pub segments: Vec<i64>,
    pub width: i64,
}

impl<'k> Anchor<'k> for Staged<'k> {
    fn read(&self, e: &mut Emitter<'k, '_>, coords: &[Coord]) -> Lowered<Val<'k>> {
        let w = self.value.borrow();
        let n = coords.len();
        if coords[..n - 2] != w.batch || coords[n - 2] != w.row {
            return Err(Refusal::new("rows", "a row of the product is read by another row"));
        }
        for (i, segment) in w.segments.iter().enumerate() {
            let local = coords[n - 1].plus(&w.base, -1).offset(-segment);
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

fn attempt(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    factor: &Factor,
    parts: &[Part],
    name: &str,
    plan: &Plan,
    ragged: bool,
) -> Lowered<(Lowered<Built>, Plan)> {
    let k = KernelBuilder::new(name);
    let (made, next) = emit_kernel(&k, f, target, region, anchor, factor, parts, plan, ragged)?;
    let built = made.map(|(bindings, work)| Built { kernel: k.finish(), bindings, work, template: "matmul" });
    Ok((built, next))
}

fn emit_kernel<'k>(
    k: &'k KernelBuilder,
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    factor: &Factor,
    parts: &[Part],
    plan: &Plan,
    ragged: bool,
) -> Lowered<(Lowered<(Vec<Binding>, Work)>, Plan)> {
    let node = &f.nodes[anchor as usize];
    let a = node.inputs[0];
    let mut e = Emitter::new(k, f, target, region);
    let (batch, matrix) = node.types[0].shape.split_at(node.types[0].rank() - 2);
    let inner = f.ty(a).shape[batch.len() + 1].as_const().expect("the inner extent is a weight's");
    let columns = matrix[1].as_const().expect("a weight's shape is constant");
    let (rows, dtype) = (matrix[0].clone(), node.types[0].dtype);
    let s = match factor {
        Factor::Panels { pair, .. } => {
            let most = e.size_max(&rows) as i64;
            match tiles::shape_of(target.profile, dtype, most, inner).filter(|_| *pair == 2) {
                Some(tile) => tiles::shape(&e, tile, rows, inner, 1),
                None => rows::shape(&e, target.profile, rows, inner, dtype, *pair),
            }
        }
        Factor::Quantized(w) => w.shape(&e, target.profile, rows, inner, dtype),
    };
    let tiles = target.choose(&choices::MATMUL_TILES, f, anchor, s.tiles);
    let s = s.with_tiles(&e, tiles);
    let rows_block = s.mr * s.tiles;
    let groups: i64 = parts.iter().map(|p| (p.columns + plan.width - 1) / plan.width).sum();
    let most_rows = e.size_max(&s.rows) as i64;
    let row_blocks = (most_rows + rows_block - 1) / rows_block;
    let mut grid = Vec::new();
    for d in batch {
        grid.push(("b", e.size(d)?));
    }
    grid.extend([("g", k.int(groups)), ("q", e.size(&s.rows.ceil_div(rows_block))?)]);
    let most_batches: Vec<i64> = batch.iter().map(|d| e.size_max(d) as i64).collect();
    k.knob("mr", s.mr);
    k.knob("columns", plan.width);
    let right = match factor {
        Factor::Panels { weight, block, .. } => Right::Panels(panels::Panels::new(&mut e, *weight, *block)?),
        Factor::Quantized(w) => Right::Codes(quantized::Codes::new(&mut e, w, &s, columns)?),
    };
    let mut result = Ok(());
    let mut next = plan.clone();
    k.phase("tiles", &grid, 1, Subgroup::None, |ix| {
        let (lead, ix) = ix.split_at(batch.len());
        let segments = parts.iter().map(|p| p.segments.len()).max().unwrap_or(1) as i64;
        let staged = k.group("product", compute(s.dtype), &[segments, rows_block, plan.width + s.lanes]);
        let lead: Vec<Coord> =
            lead.iter().zip(&most_batches).map(|(i, n)| e.index(*i, Range::new(0, (n - 1).max(0)), 1)).collect();
        let g = e.index(ix[0], Range::new(0, (groups - 1).max(0)), 1);
        let q = e.index(ix[1], Range::new(0, (row_blocks - 1).max(0)), 1);
        let window = Rc::new(RefCell::new(Window { batch: lead.clone(), width: plan.width, ..Window::default() }));
        e.set_anchor(ValueId::of(anchor as usize), Rc::new(Staged { value: window.clone(), memory: staged }));
        let batches: i64 = most_batches.iter().product();
        let trips = (batches * groups * row_blocks) as f64;
        result = e.scoped(trips, |e| {
            let work = right.begin(e, a, &s, &lead, &q)?;
            let flops = 2.0 * (batches * most_rows * columns * inner) as f64;
            if s.tile.is_some() {
                e.work.tile_flops += flops;
            } else if s.digits > 0 {
                e.work.int8_ops += flops * s.digits as f64;
            } else if s.pair == 2 {
                e.work.pair_flops += flops;
            } else {
                e.work.dot_flops += flops;
            }
            if let Right::Codes(c) = &right {
                e.work.flops += c.unpacking(batches * row_blocks);
            }
            // Parts that follow each other are one stretch of panels, computed before they part ways.
            let mut end = 0;
            let follows = |p: &Part| std::mem::replace(&mut end, p.start + p.columns) == p.start;
            let together = parts.len() > 1
                && parts.iter().all(|p| p.segments == [p.start] && p.columns % plan.width == 0)
                && parts.iter().all(follows);
            if together {
                work.multiply(e, staged, &[g.scale(plan.width)], plan.width)?;
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
                        let from: Vec<Coord> = p.segments.iter().map(|s| base.offset(*s)).collect();
                        work.multiply(e, staged, &from, plan.width)?;
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

/// The right factor in the kernel.
enum Right<'k> {
    Panels(panels::Panels<'k>),
    Codes(quantized::Codes<'k>),
}

impl<'k> Right<'k> {
    /// Packs what one block of rows needs before any columns are computed.
    fn begin<'a>(
        &'a self,
        e: &mut Emitter<'k, '_>,
        a: ValueId,
        s: &'a Shape,
        batch: &[Coord],
        q: &'a Coord,
    ) -> Lowered<Started<'a, 'k>> {
        Ok(match self {
            Right::Panels(p) => Started::Panels(p, p.begin(e, a, s, q)?),
            Right::Codes(c) if s.is_one_row() => Started::Row(c, c.pack_row(e, a, s, batch)?),
            Right::Codes(c) => Started::Rows(c, c.begin_rows(e, a, s, q)?),
        })
    }
}

/// The multiplication of one block of rows.
enum Started<'a, 'k> {
    Panels(&'a panels::Panels<'k>, panels::Rows<'a, 'k>),
    Row(&'a quantized::Codes<'k>, quantized::Row<'k>),
    Rows(&'a quantized::Codes<'k>, quantized::Rows<'a, 'k>),
}

impl<'k> Started<'_, 'k> {
    /// Computes `width` columns from each of `from` on, into the segments of group memory.
    fn multiply(&self, e: &mut Emitter<'k, '_>, staged: Group<'k>, from: &[Coord], width: i64) -> Lowered<()> {
        match self {
            Started::Panels(p, rows) => p.multiply(e, rows, staged, from, width),
            Started::Row(c, row) => {
                from.iter().enumerate().try_for_each(|(i, at)| c.multiply_row(e, row, staged, at, i as i64, width))
            }
            Started::Rows(c, rows) => c.multiply_rows(e, rows, staged, from, width),
        }
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
                        let mut start = window.borrow().batch.clone();
                        start.extend([row.clone(), column.clone()]);
                        let at = push(e, path, &start)?;
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
