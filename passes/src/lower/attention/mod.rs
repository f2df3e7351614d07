//! The attention template: scaled dot-product attention of one or many queries with an online softmax.
//!
//! A task takes one key-value head and a block of queries of all query heads that share it. Keys come in chunks: scores
//! of a chunk stand in group memory, the running maximum, sum and output are rescaled, and the chunk's values are
//! added (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
//! 2022). Scores are vectors over keys, so a key cache stored in panels is read without horizontal sums.

mod tiles;

use crate::choices;
use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Anchor, Binding, Emitter, Lowered, Refusal, Region, Target, Work};
use crate::lower::gpu::{self, is_gpu};
use crate::lower::map::{Built, store_all};
use crate::lower::matmul::{push, spine, stored_value};
use crate::lower::pull;
use crate::lower::tiles::RegisterTile;
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, MathFn, Subgroup, Type, Val};
use mlxc_ir::{DType, Layout, Range, Size, TargetProfile};
use std::cell::RefCell;
use std::rc::Rc;
use tiles::Tiled;

/// Keys of a chunk for one query.
const CHUNK: i64 = 256;
/// Query rows of a task, at most, and keys of a chunk when there is more than one query: their scores stay in the
/// first-level cache.
const ROWS: i64 = 32;
const CHUNK_OF_ROWS: i64 = 128;

/// The storage order in which scores read a key cache best.
pub fn key_panels(profile: &TargetProfile) -> Layout {
    Layout::Blocked { block: (profile.vector_bits / 32).clamp(4, 16), pair: 1 }
}

/// Builds the kernel of a region with one attention.
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
        return gpu::attention::build(f, target, region, anchor, outputs, name);
    }
    let mut splits = Vec::new();
    for _ in 0..4 {
        let k = KernelBuilder::new(name);
        let (bindings, work, wanted) = emit_kernel(&k, f, target, region, anchor, outputs, &splits)?;
        if wanted == splits {
            return Ok(Built { kernel: k.finish(), bindings, work, template: "attention" });
        }
        splits = wanted;
    }
    Err(Refusal::new("nest", "no loop nest was found"))
}

/// Rows of the output that group memory holds.
struct Rows<'k> {
    at: Rc<RefCell<Vec<Coord>>>,
    row: Rc<RefCell<Option<Coord>>>,
    memory: Group<'k>,
    scale: Rc<RefCell<Option<Val<'k>>>>,
}

impl<'k> Anchor<'k> for Rows<'k> {
    fn read(&self, e: &mut Emitter<'k, '_>, coords: &[Coord]) -> Lowered<Val<'k>> {
        if coords[..3] != self.at.borrow()[..] {
            return Err(Refusal::new("rows", "a row of the attention's output is read by another row"));
        }
        let vector = e.is_vector(coords);
        let base = e.base(coords);
        if vector && base[3].plus(&e.lane(), 1) != coords[3] {
            return e.each_lane(coords, |e, c| self.read(e, c));
        }
        let row = self.row.borrow().clone().expect("rows are read inside the row loop");
        let at = [e.ix(&row), e.ix(&base[3])];
        let place = self.memory.at(at);
        let raw = if vector { place.vec(e.width).load() } else { place.load() };
        let scale = self.scale.borrow().expect("rows are read after they are finished");
        Ok(e.k.let_("attended", raw * scale))
    }
}

/// Extents and choices of one attention.
pub(super) struct Plan {
    pub q: ValueId,
    pub k: ValueId,
    pub v: ValueId,
    pub mask: Option<ValueId>,
    pub offset: Option<ValueId>,
    pub causal: bool,
    pub window: Option<i64>,
    pub softcap: Option<f64>,
    pub scale: f64,
    pub queries: Size,
    pub keys: Size,
    pub d: i64,
    pub dv: i64,
    pub group: i64,
    /// Queries of a task.
    pub block: i64,
    pub rows: i64,
    pub tile: i64,
    pub chunk: i64,
    pub acc: DType,
    /// The register tile of matrix tiles that products are made of, if they are.
    matrix: Option<RegisterTile>,
}

pub(super) fn plan(f: &Function, e: &Emitter<'_, '_>, anchor: u32) -> Lowered<Plan> {
    let node = &f.nodes[anchor as usize];
    let Op::Sdpa { scale, causal, mask, offset, window, softcap } = &node.op else {
        return Err(Refusal::new("anchor", "the anchor is no attention"));
    };
    let (q, k, v) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let extent = |v: ValueId, i: usize| f.ty(v).shape[i].clone();
    let constant = |s: Size| s.as_const().ok_or_else(|| Refusal::new("symbolic", "a head's extent is symbolic"));
    let (heads, shared) = (constant(extent(q, 1))?, constant(extent(k, 1))?);
    let (d, dv) = (constant(extent(q, 3))?, constant(extent(v, 3))?);
    let group = heads / shared;
    let queries = extent(q, 2);
    let one = queries.as_const() == Some(1);
    let most_queries = e.size_max(&queries) as i64;
    let matrix = if one { None } else { tiles::plan(f, e, [q, k, v], group, most_queries) };
    let block = match matrix {
        Some((block, _)) => block,
        None if one => 1,
        None => (e.target.choose(&choices::ATTENTION_ROWS, f, anchor, ROWS) / group).max(1),
    };
    let rows = group * block;
    // Rows of a register tile: each has an accumulator, and a load of a key or a value serves all of them.
    let most_tile = i64::from(e.target.profile.registers / 4).max(1);
    let tile = (1..=most_tile).rev().find(|t| rows % t == 0).unwrap_or(1);
    let keys = extent(k, 2);
    let lanes = i64::from(e.width);
    let most = e.size_max(&keys) as i64;
    let chunk = if one { CHUNK } else { CHUNK_OF_ROWS };
    // Whole vectors, or whole tiles.
    let unit = matrix.map_or(lanes, |(_, m)| m.depth());
    let chunk = chunk.min((most + unit - 1) / unit * unit).max(unit);
    Ok(Plan {
        q,
        k,
        v,
        mask: mask.then(|| node.inputs[3]),
        offset: offset.then(|| node.inputs[node.inputs.len() - 1]),
        causal: *causal,
        // A window over all keys hides none.
        window: window.map(i64::from).filter(|w| *w < most),
        softcap: softcap.map(|c| c.get()),
        scale: scale.get(),
        queries,
        keys,
        d,
        dv,
        group,
        block,
        rows,
        tile,
        chunk,
        acc: compute(node.types[0].dtype),
        matrix: matrix.map(|(_, m)| m),
    })
}

/// Group memory of a task.
struct Memory<'k> {
    query: Option<Group<'k>>,
    /// What matrix tiles multiply.
    tiled: Option<Tiled<'k>>,
    /// A vector of keys in compute type, where several tiles read one that is dear to load.
    keys: Option<Group<'k>>,
    scores: Group<'k>,
    output: Group<'k>,
    most: Group<'k>,
    sum: Group<'k>,
}

/// Where the task is.
pub(super) struct Task<'k> {
    pub batch: Coord,
    pub head: Coord,
    pub first: Coord,
    /// Position of query 0 among the keys.
    pub offset: Coord,
    /// Keys any query of the task sees.
    pub seen: Ix<'k>,
    /// First chunk in which a query of the task sees a key.
    pub begin: Ix<'k>,
}

fn emit_kernel<'k>(
    k: &'k KernelBuilder,
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    outputs: &[ValueId],
    splits: &[i64],
) -> Lowered<(Vec<Binding>, Work, Vec<i64>)> {
    let mut e = Emitter::new(k, f, target, region);
    let p = plan(f, &e, anchor)?;
    let paths: Vec<Vec<ValueId>> = outputs
        .iter()
        .map(|v| spine(f, region, ValueId::of(anchor as usize), stored_value(f, *v)))
        .collect::<Lowered<_>>()?;
    let (batch, shared) = (f.ty(p.k).shape[0].clone(), f.ty(p.k).shape[1].clone());
    let blocks = p.queries.ceil_div(p.block);
    let extents = [batch, shared, blocks];
    let most: Vec<i64> = extents.iter().map(|s| e.size_max(s) as i64).collect();
    let grid: Vec<Ix<'k>> = extents.iter().map(|s| e.size(s)).collect::<Lowered<_>>()?;
    let grid: Vec<(&str, Ix<'k>)> = ["b", "h", "q"].into_iter().zip(grid).collect();
    let mut result = Ok(());
    k.phase("heads", &grid, 1, Subgroup::None, |ix| {
        let lanes = i64::from(e.width);
        let wide = |n: i64| (n + lanes - 1) / lanes * lanes;
        // The last vector of a part that is no whole number of vectors ends past the part.
        let past = if splits.iter().any(|s| s % lanes != 0) { lanes } else { 0 };
        let panels = matches!(e.layout(e.home(p.k)), Layout::Blocked { .. });
        let dear = !panels || f.ty(p.k).dtype != p.acc;
        let m = Memory {
            keys: (p.matrix.is_none() && dear && p.rows > p.tile).then(|| k.group("keys", p.acc, &[p.d, lanes])),
            query: p.matrix.is_none().then(|| k.group("query", p.acc, &[p.rows, wide(p.d) + past])),
            tiled: p.matrix.map(|tile| Tiled::new(k, &p, tile)),
            scores: k.group("scores", p.acc, &[p.rows, p.chunk]),
            output: k.group("output", p.acc, &[p.rows, wide(p.dv)]),
            most: k.group("most", p.acc, &[p.rows]),
            sum: k.group("sum", p.acc, &[p.rows]),
        };
        let axes: Vec<Coord> = (0..3).map(|i| e.index(ix[i], Range::new(0, (most[i] - 1).max(0)), 1)).collect();
        let trips = most.iter().product::<i64>() as f64;
        result = e.scoped(trips, |e| {
            let task = begin(e, &p, axes)?;
            load_queries(e, &p, &m, &task, splits)?;
            chunks(e, &p, &m, &task)?;
            finish(e, &p, &m, &task, anchor, outputs, &paths)
        });
    });
    result?;
    let wanted = e.wanted_splits(splits);
    let (bindings, work) = e.finish();
    Ok((bindings, work, wanted))
}

pub(super) fn begin<'k>(e: &mut Emitter<'k, '_>, p: &Plan, axes: Vec<Coord>) -> Lowered<Task<'k>> {
    let [batch, head, block]: [Coord; 3] = axes.try_into().expect("the grid has three axes");
    let first = block.scale(p.block);
    let offset = match p.offset {
        Some(v) => e.window_start(v, &p.keys, &p.queries)?,
        None => {
            let lead = p.keys.clone() - p.queries.clone();
            if p.causal && lead.bounds(&e.f.ranges()).lo < 0 {
                return Err(Refusal::new("causal", "there may be more queries than keys"));
            }
            e.size_coord(&lead).ok_or_else(|| Refusal::new("symbolic-product", "keys less queries is not affine"))?
        }
    };
    let (queries, keys) = (e.size(&p.queries)?, e.size(&p.keys)?);
    let start = e.ix(&offset);
    let seen = if p.causal {
        let last = e.ix(&first.offset(p.block));
        start + last.min(queries)
    } else if p.offset.is_some() {
        start + queries
    } else {
        keys
    };
    let seen = e.k.let_index("seen", seen);
    let begin = match p.window {
        Some(w) => {
            let own = offset.plus(&first, 1);
            let begin = (e.ix(&own).max(e.k.int(w - 1)) - (w - 1)).div(p.chunk);
            e.k.let_index("begin", begin)
        }
        None => e.k.int(0),
    };
    Ok(Task { batch, head, first, offset, seen, begin })
}

/// A loop over the rows of the task: row number, query head, and query within the block.
fn each_row<'k>(
    e: &mut Emitter<'k, '_>,
    p: &Plan,
    body: &mut dyn FnMut(&mut Emitter<'k, '_>, Coord, Coord, Coord) -> Lowered<()>,
) -> Lowered<()> {
    let (block, group) = (e.k.int(p.block), e.k.int(p.group));
    e.each("i", block, Range::new(0, p.block - 1), 1, false, |e, i| {
        e.each("g", group, Range::new(0, p.group - 1), 1, false, |e, g| body(e, i.scale(p.group).plus(&g, 1), g, i))
    })
}

fn load_queries<'k>(e: &mut Emitter<'k, '_>, p: &Plan, m: &Memory<'k>, task: &Task<'k>, splits: &[i64]) -> Lowered<()> {
    let k = e.k;
    let put = |r: Ix<'k>, d: Ix<'k>, x: Val<'k>| match (&m.tiled, m.query) {
        (Some(tiled), _) => tiled.put_query(r, d, x),
        (None, Some(query)) => query.at([r, d]).vec(x.ty().lanes()).store(x),
        (None, None) => unreachable!("queries are kept one way"),
    };
    each_row(e, p, &mut |e, row, g, i| {
        let r = e.ix(&row);
        m.most.at([r]).store(k.constant(f64::from(f32::MIN), p.acc));
        m.sum.at([r]).store(k.constant(0.0, p.acc));
        let width = e.width;
        e.vector_loop("d", &Size::constant(p.dv), &mut |e, c, _| {
            let d = e.base(&[c])[0].clone();
            let at = [r, e.ix(&d)];
            m.output.at(at).vec(width).store(k.constant(0.0, p.acc).splat(width));
            Ok(())
        })?;
        let query = task.first.plus(&i, 1);
        let head = task.head.scale(p.group).plus(&g, 1);
        let load = |e: &mut Emitter<'k, '_>| {
            e.split_vector_loop("d", &Size::constant(p.d), splits, &mut |e, c, _| {
                let x = e.emit(p.q, &[task.batch.clone(), head.clone(), query.clone(), c.clone()])?;
                let x = if x.ty().lanes() == 1 { x.splat(e.width) } else { x };
                let d = e.base(&[c])[0].clone();
                put(r, e.ix(&d), if m.tiled.is_some() { x } else { x * p.scale });
                Ok(())
            })
        };
        if p.block == 1 && p.queries.as_const() == Some(1) {
            return load(e);
        }
        let (s, n) = (e.ix(&query), e.size(&p.queries)?);
        let mut result = Ok(());
        k.if_else(
            s.lt(n),
            || result = e.scoped(1.0, load),
            || {
                let (lanes, zero) = (i64::from(width), k.constant(0.0, p.acc).splat(width));
                k.for_("d", k.int(0), k.int((p.d + lanes - 1) / lanes), 1, false, |d| put(r, d * lanes, zero));
            },
        );
        result
    })
}

fn chunks<'k>(e: &mut Emitter<'k, '_>, p: &Plan, m: &Memory<'k>, task: &Task<'k>) -> Lowered<()> {
    let most_keys = e.size_max(&p.keys) as i64;
    let count = (most_keys + p.chunk - 1) / p.chunk;
    let n = task.seen.ceil_div(p.chunk);
    e.each_from("chunk", task.begin, n, Range::new(0, (count - 1).max(0)), |e, c| {
        let base = c.scale(p.chunk);
        let first = e.ix(&base);
        let here = e.k.let_index("here", (task.seen - first).min(e.k.int(p.chunk)));
        if let Some(tiled) = m.tiled {
            return tiled.chunk(e, p, m, task, &base, here);
        }
        scores(e, p, m, task, &base, here)?;
        softmax(e, p, m, here);
        values(e, p, m, task, &base, here)
    })
}

/// Scores of a chunk, hidden keys at minus infinity.
fn scores<'k>(
    e: &mut Emitter<'k, '_>,
    p: &Plan,
    m: &Memory<'k>,
    task: &Task<'k>,
    base: &Coord,
    here: Ix<'k>,
) -> Lowered<()> {
    let k = e.k;
    let lanes = i64::from(e.width);
    let vectors = here.ceil_div(lanes);
    let most = p.chunk / lanes;
    let query = m.query.expect("queries are kept in compute type");
    let panels = matches!(e.layout(e.home(p.k)), Layout::Blocked { .. });
    e.each("j", vectors, Range::new(0, most - 1), 1, false, |e, j| {
        let key = base.plus(&j, lanes);
        // A panel is padded to whole vectors; other keys end where the keys end.
        let exact = panels || p.keys.as_const().is_some_and(|n| n % lanes == 0);
        if !exact {
            let (at, n) = (e.ix(&key), e.size(&p.keys)?);
            e.tail = Some((n - at).min(k.int(lanes)));
        }
        let keys = key.plus(&e.lane(), 1);
        let load = |e: &mut Emitter<'k, '_>, d: &Coord| -> Lowered<Val<'k>> {
            let x = e.emit(p.k, &[task.batch.clone(), task.head.clone(), keys.clone(), d.clone()])?;
            Ok(if x.ty().lanes() == 1 { x.splat(e.width) } else { x })
        };
        if let Some(packed) = m.keys {
            e.each("d", k.int(p.d), Range::new(0, p.d - 1), 1, false, |e, d| {
                let x = load(e, &d)?;
                let d = e.ix(&d);
                packed.at([d, k.int(0)]).vec(e.width).store(x);
                Ok(())
            })?;
        }
        let tiles = k.int(p.rows / p.tile);
        let result = e.each("t", tiles, Range::new(0, p.rows / p.tile - 1), 1, false, |e, t| {
            let acc = k.reg("score", Type::vector(p.acc, e.width), &[p.tile as u32], Some(k.constant(0.0, p.acc)));
            let d = k.int(p.d);
            let row = e.ix(&t.scale(p.tile));
            e.each("d", d, Range::new(0, p.d - 1), 1, false, |e, d| {
                let x = match m.keys {
                    Some(packed) => {
                        let d = e.ix(&d);
                        packed.at([d, k.int(0)]).vec(e.width).load()
                    }
                    None => load(e, &d)?,
                };
                let x = k.let_("key", x);
                let d = e.ix(&d);
                e.work.dot_flops += 2.0 * (lanes * p.tile) as f64 * e.trips;
                k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
                    let q = query.at([row + i, d]).load().splat(x.ty().lanes());
                    acc.set([i], q.mad(x, acc.get([i])));
                });
                Ok(())
            })?;
            let mut result = Ok(());
            for i in 0..p.tile {
                let raw = acc.get([k.int(i)]);
                let first = e.base(std::slice::from_ref(&keys))[0].clone();
                let lanes_of = k.table(Type::vector(DType::I32, e.width), |l| l);
                let number = e.ix(&first).to_val(DType::I32).splat(e.width) + lanes_of;
                match hide(e, p, task, &t.scale(p.tile).offset(i), &keys, number, raw) {
                    Ok(v) => {
                        let at = [row + i, e.ix(&j.scale(lanes))];
                        m.scores.at(at).vec(e.width).store(v);
                    }
                    Err(r) => result = Err(r),
                }
            }
            result
        });
        e.tail = None;
        result
    })
}

/// Applies the cap, the mask, the causal limit, the window and the live length to a vector of scores. `number` has the
/// keys' places.
pub(super) fn hide<'k>(
    e: &mut Emitter<'k, '_>,
    p: &Plan,
    task: &Task<'k>,
    row: &Coord,
    keys: &Coord,
    number: Val<'k>,
    raw: Val<'k>,
) -> Lowered<Val<'k>> {
    let k = e.k;
    let width = e.width;
    let (i, g) = e.space.div_rem(row, p.group);
    let query = task.first.plus(&i, 1);
    let mut score = raw;
    if let Some(cap) = p.softcap {
        e.work.flops += 40.0 * f64::from(width) * e.trips;
        score = k.let_("capped", (score * (1.0 / cap)).math(MathFn::Tanh) * cap);
    }
    if let Some(mask) = p.mask {
        // Rows past the last query repeat it: their scores are not used.
        let head = task.head.scale(p.group).plus(&g, 1);
        let most = e.size_max(&p.queries) as i64 - 1;
        let clamped = {
            let (s, n) = (e.ix(&query), e.size(&p.queries)?);
            e.index(s.min(n - 1), Range::new(0, most.max(0)), 1)
        };
        let scores = [e.f.ty(p.q).shape[0].clone(), e.f.ty(p.q).shape[1].clone(), p.queries.clone(), p.keys.clone()];
        let at = [task.batch.clone(), head, clamped, keys.clone()];
        let at = pull::broadcast(&e.f.ty(mask).shape.clone(), &scores, &at);
        // Mask loads end where the keys end, whatever the storage order of the keys.
        let outer = e.tail;
        if p.keys.as_const().is_none_or(|n| n % i64::from(width) != 0) {
            let (first, n) = (e.base(std::slice::from_ref(keys))[0].clone(), e.size(&p.keys)?);
            e.tail = Some((n - e.ix(&first)).min(k.int(i64::from(width))));
        }
        let value = e.emit(mask, &at)?;
        e.tail = outer;
        let value = if value.ty().lanes() == 1 { value.splat(width) } else { value };
        score = if value.dtype() == DType::Bool {
            // Finite, so that a row with every key masked stays defined: the mean, as in MLX.
            value.select(score, k.constant(-1e38, p.acc).splat(width))
        } else {
            score + value
        };
    }
    let last = if p.causal {
        let own = task.offset.plus(&query, 1);
        let own = e.ix(&own);
        own.min(task.seen - 1)
    } else {
        task.seen - 1
    };
    let mut visible = number.le(last.to_val(DType::I32).splat(width));
    if let Some(w) = p.window {
        let own = e.ix(&task.offset.plus(&query, 1)).to_val(DType::I32).splat(width);
        visible = visible & (number + k.int_constant(w - 1, DType::I32).splat(width)).ge(own);
    }
    Ok(visible.select(score, k.constant(f64::NEG_INFINITY, p.acc).splat(width)))
}

/// Turns a chunk's scores into weights and rescales what was summed before.
fn softmax<'k>(e: &mut Emitter<'k, '_>, p: &Plan, m: &Memory<'k>, here: Ix<'k>) {
    let k = e.k;
    let lanes = i64::from(e.width);
    let width = e.width;
    let vectors = here.ceil_div(lanes);
    e.work.flops += 22.0 * (p.rows * p.chunk) as f64 * e.trips;
    k.for_("r", k.int(0), k.int(p.rows), 1, false, |r| {
        let old = k.let_("old", m.most.at([r]).load());
        let peak = k.var("peak", old.splat(width));
        k.for_("j", k.int(0), vectors, 1, false, |j| {
            peak.set(m.scores.at([r, j * lanes]).vec(width).load().max(peak.get()));
        });
        let new = k.let_("new", peak.get().hmax());
        let total = k.var("total", k.constant(0.0, p.acc).splat(width));
        k.for_("j", k.int(0), vectors, 1, false, |j| {
            let place = m.scores.at([r, j * lanes]).vec(width);
            let weight = k.let_("weight", (place.load() - new.splat(width)).exp());
            m.scores.at([r, j * lanes]).vec(width).store(weight);
            total.set(total.get() + weight);
        });
        let shrink = k.let_("shrink", (old - new).exp());
        let sum = k.let_("sum_new", m.sum.at([r]).load() * shrink + total.get().hsum());
        m.sum.at([r]).store(sum);
        m.most.at([r]).store(new);
        k.for_("d", k.int(0), k.int((p.dv + lanes - 1) / lanes), 1, false, |d| {
            let scaled = k.let_("scaled", m.output.at([r, d * lanes]).vec(width).load() * shrink.splat(width));
            m.output.at([r, d * lanes]).vec(width).store(scaled);
        });
    });
}

/// Adds the chunk's values, weighted.
fn values<'k>(
    e: &mut Emitter<'k, '_>,
    p: &Plan,
    m: &Memory<'k>,
    task: &Task<'k>,
    base: &Coord,
    here: Ix<'k>,
) -> Lowered<()> {
    let k = e.k;
    let width = e.width;
    let tiles = k.int(p.rows / p.tile);
    e.each("t", tiles, Range::new(0, p.rows / p.tile - 1), 1, false, |e, t| {
        let row = e.ix(&t.scale(p.tile));
        e.vector_loop("d", &Size::constant(p.dv), &mut |e, c, _| {
            let d = e.base(std::slice::from_ref(&c))[0].clone();
            let d = e.ix(&d);
            let acc = k.reg("sum", Type::vector(p.acc, width), &[p.tile as u32], None);
            k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
                acc.set([i], m.output.at([row + i, d]).vec(width).load());
            });
            e.each("j", here, Range::new(0, p.chunk - 1), 1, false, |e, j| {
                let key = base.plus(&j, 1);
                let x = e.emit(p.v, &[task.batch.clone(), task.head.clone(), key, c.clone()])?;
                let x = if x.ty().lanes() == 1 { x.splat(width) } else { x };
                let x = k.let_("value", x);
                let j = e.ix(&j);
                e.work.dot_flops += 2.0 * (i64::from(width) * p.tile) as f64 * e.trips;
                k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
                    let weight = m.scores.at([row + i, j]).load().splat(width);
                    acc.set([i], weight.mad(x, acc.get([i])));
                });
                Ok(())
            })?;
            k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
                m.output.at([row + i, d]).vec(width).store(acc.get([i]));
            });
            Ok(())
        })
    })
}

/// Divides by the sums and stores what is fused after the attention.
fn finish<'k>(
    e: &mut Emitter<'k, '_>,
    p: &Plan,
    m: &Memory<'k>,
    task: &Task<'k>,
    anchor: u32,
    outputs: &[ValueId],
    paths: &[Vec<ValueId>],
) -> Lowered<()> {
    let k = e.k;
    let rows = Rows { at: Rc::default(), row: Rc::default(), memory: m.output, scale: Rc::default() };
    let (at, current, scale) = (rows.at.clone(), rows.row.clone(), rows.scale.clone());
    e.set_anchor(ValueId::of(anchor as usize), Rc::new(rows));
    each_row(e, p, &mut |e, row, g, i| {
        let query = task.first.plus(&i, 1);
        let head = task.head.scale(p.group).plus(&g, 1);
        let place = vec![task.batch.clone(), head, query.clone()];
        *at.borrow_mut() = place.clone();
        *current.borrow_mut() = Some(row.clone());
        let store = |e: &mut Emitter<'k, '_>| {
            let r = e.ix(&row);
            let sum = m.sum.at([r]).load();
            *scale.borrow_mut() = Some(k.let_("inverse", k.constant(1.0, p.acc) / sum));
            e.vector_loop("d", &Size::constant(p.dv), &mut |e, c, _| {
                let mut start = place.clone();
                start.push(c);
                for (v, path) in outputs.iter().zip(paths) {
                    let at = push(e, path, &start)?;
                    store_all(e, &[*v], &at)?;
                }
                Ok(())
            })
        };
        if p.queries.as_const() == Some(1) {
            return store(e);
        }
        let (s, n) = (e.ix(&query), e.size(&p.queries)?);
        let mut result = Ok(());
        k.if_(s.lt(n), || result = e.scoped(1.0, store));
        result
    })
}
