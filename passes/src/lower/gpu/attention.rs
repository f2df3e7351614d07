//! The attention template on GPUs: an online softmax over chunks of keys, as on CPUs, shared by the lanes of a group.
//!
//! A group takes a key-value head, some of the query heads that share it and a block of queries. For each chunk of keys,
//! lanes compute scores a key each, teams of lanes turn rows of scores into weights, and lanes add values a column each.
//! One query over a long cache would leave a device idle: its keys are split over groups, each of which leaves a
//! maximum, a sum and a weighted sum, and a second phase merges them ("Flash-Decoding", Dao et al., 2023). Where the splits
//! are depends on the length alone.

use crate::lower::attention::{Plan, Task, begin, hide, plan};
use crate::lower::coord::Coord;
use crate::lower::emit::{Anchor, Binding, Emitter, Lowered, Refusal, Region, Target, Team, Work};
use crate::lower::map::{Built, store_all};
use crate::lower::matmul::{push, spine, stored_value};
use mlxc_ir::graph::{Function, Role, TensorType, ValueId};
use mlxc_ir::kernel::{BarrierScope, Buf, FoldOp, Group, Ix, KernelBuilder, Subgroup, Type, Val};
use mlxc_ir::{DType, Range, Size, TargetProfile};
use std::cell::RefCell;
use std::rc::Rc;

/// Keys of a chunk.
const CHUNK: i64 = 64;
/// Keys of a split, where one query has a long cache.
const SPLIT: i64 = 256;
/// Rows of a group, at most.
const ROWS: i64 = 16;
/// Rows that a lane computes at once.
const TILE: i64 = 4;
/// Lanes of a group.
const LANES: i64 = 128;
/// Group memory left to what legalisation adds for lanes that work together.
const RESERVED: u64 = 2 << 10;

/// Builds the kernel of a region with one attention.
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

/// Rows of the output, from group memory or from a lane's own registers.
struct Rows<'k> {
    place: Rc<RefCell<Vec<Coord>>>,
    /// The row of group memory and what it is multiplied with.
    memory: Option<(Group<'k>, Rc<RefCell<Option<(Ix<'k>, Val<'k>)>>>)>,
    /// The merged value at the current column.
    merged: Rc<RefCell<Option<(Coord, Val<'k>)>>>,
}

impl<'k> Anchor<'k> for Rows<'k> {
    fn read(&self, e: &mut Emitter<'k, '_>, coords: &[Coord]) -> Lowered<Val<'k>> {
        if coords[..3] != self.place.borrow()[..] {
            return Err(Refusal::new("rows", "a row of the attention's output is read by another row"));
        }
        let Some((memory, row)) = &self.memory else {
            let merged = self.merged.borrow();
            let (column, value) = merged.as_ref().expect("merged values are read after they are computed");
            return match coords[3] == *column {
                true => Ok(*value),
                false => Err(Refusal::new("columns", "a column of the attention's output is read by another lane")),
            };
        };
        let vector = e.is_vector(coords);
        let base = e.base(coords);
        if vector && base[3].plus(&e.lane(), 1) != coords[3] {
            return e.each_lane(coords, |e, c| self.read(e, c));
        }
        let (row, scale) = row.borrow().expect("rows are read after they are finished");
        let at = [row, e.ix(&base[3])];
        let place = memory.at(at);
        let raw = if vector { place.vec(e.width).load() } else { place.load() };
        Ok(e.k.let_("attended", raw * scale))
    }
}

/// How the work is dealt out.
struct Shape {
    p: Plan,
    /// Groups that share a key-value head.
    parts: i64,
    /// Teams of lanes that each turn a row of scores into weights.
    teams: i64,
    /// Keys of a split; none where one group sees all keys.
    split: Option<i64>,
    /// Elements of a vector along a head.
    across: i64,
}

fn shape(f: &Function, e: &Emitter<'_, '_>, profile: &TargetProfile, anchor: u32) -> Lowered<Shape> {
    let mut p = plan(f, e, anchor)?;
    let room = profile.limits.group_bytes.saturating_sub(RESERVED) as i64 / p.acc.bytes() as i64;
    let across = if p.d % TILE == 0 && p.dv % TILE == 0 { TILE } else { 1 };
    p.chunk = CHUNK;
    let row = p.d + p.dv + p.chunk + 4;
    let most = (room / row).min(ROWS);
    if most < 1 {
        return Err(Refusal::new(
            "group-memory",
            format!("heads of {} exceed the target's group memory", p.d.max(p.dv)),
        ));
    }
    let whole = p.group;
    p.group = (1..=whole.min(most)).rev().find(|n| whole % n == 0).unwrap_or(1);
    let one = p.queries.as_const() == Some(1);
    p.block = if one { 1 } else { (most / p.group).max(1) };
    p.rows = p.group * p.block;
    p.tile = (1..=TILE).rev().find(|t| p.rows % t == 0).unwrap_or(1);
    let teams = (0..3).map(|n| 1 << n).rev().find(|t| p.rows % t == 0).unwrap_or(1);
    let keys = e.size_max(&p.keys) as i64;
    let split = (one && keys >= 2 * SPLIT).then_some(SPLIT);
    Ok(Shape { parts: whole / p.group, p, teams, split, across })
}

/// Group memory and registers of a group's phase.
struct Memory<'k> {
    query: Group<'k>,
    scores: Group<'k>,
    output: Group<'k>,
    /// What a row's earlier sums are multiplied with; at the end one over its sum.
    shrink: Group<'k>,
    /// The largest score of each row before the chunk, and with it.
    most: Group<'k>,
    fresh: Group<'k>,
    /// The sum of each row, which the first lane of its team keeps.
    sum: Group<'k>,
}

/// Partial results of the splits of a row.
struct Partial<'k> {
    /// Weighted sums `[batch, head, split, column]`.
    output: Buf<'k>,
    /// Largest score and sum `[batch, head, split, 2]`.
    ends: Buf<'k>,
}

fn emit_kernel(
    k: &KernelBuilder,
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    outputs: &[ValueId],
    splits: &[i64],
) -> Lowered<(Vec<Binding>, Work, Vec<i64>)> {
    let mut e = Emitter::with_width(k, f, target, region, TILE as u8);
    let s = shape(f, &e, target.profile, anchor)?;
    let v = ValueId::of(anchor as usize);
    let paths: Vec<Vec<ValueId>> =
        outputs.iter().map(|o| spine(f, region, v, stored_value(f, *o))).collect::<Lowered<_>>()?;
    let finish = Finish { v, outputs, paths: &paths, splits };
    let p = &s.p;
    let (batch, shared) = (f.ty(p.k).shape[0].clone(), f.ty(p.k).shape[1].clone());
    let heads = Size::constant(p.group * s.parts) * shared.clone();
    let keys = e.size_max(&p.keys) as i64;
    let count = s.split.map(|n| (keys + n - 1) / n);
    let partial = match count {
        None => None,
        Some(n) => {
            let ty = |last: i64| {
                let shape = vec![batch.clone(), heads.clone(), Size::constant(n), Size::constant(last)];
                TensorType { dtype: DType::F32, shape }
            };
            Some(Partial { output: e.scratch_of(v, "parts", ty(p.dv))?, ends: e.scratch_of(v, "ends", ty(2))? })
        }
    };
    attend(&mut e, &s, &[batch.clone(), shared], partial.as_ref(), &finish)?;
    if let Some(partial) = &partial {
        merge(&mut e, &s, &[batch, heads], partial, &finish)?;
    }
    let wanted = e.wanted_splits(splits);
    let (bindings, work) = e.finish();
    Ok((bindings, work, wanted))
}

/// What is stored at the end.
struct Finish<'a> {
    v: ValueId,
    outputs: &'a [ValueId],
    paths: &'a [Vec<ValueId>],
    splits: &'a [i64],
}

impl Finish<'_> {
    fn store<'k>(&self, e: &mut Emitter<'k, '_>, start: &[Coord]) -> Lowered<()> {
        for (v, path) in self.outputs.iter().zip(self.paths) {
            let at = push(e, path, start)?;
            store_all(e, &[*v], &at)?;
        }
        Ok(())
    }
}

/// The phase that sees keys and values.
fn attend<'k>(
    e: &mut Emitter<'k, '_>,
    s: &Shape,
    [batch, shared]: &[Size; 2],
    partial: Option<&Partial<'k>>,
    finish: &Finish<'_>,
) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    let mut extents = vec![batch.clone(), shared.clone(), Size::constant(s.parts), p.queries.ceil_div(p.block)];
    if let Some(n) = s.split {
        extents.push(live_keys(e.f, p).ceil_div(n));
    }
    let most: Vec<i64> = extents.iter().map(|x| e.size_max(x) as i64).collect();
    let sizes: Vec<Ix<'k>> = extents.iter().map(|x| e.size(x)).collect::<Lowered<_>>()?;
    let grid: Vec<(&str, Ix<'k>)> = ["b", "h", "part", "q", "split"].into_iter().zip(sizes).collect();
    let mut result = Ok(());
    k.phase("attend", &grid, LANES as u32, Subgroup::None, |ix| {
        let m = Memory {
            query: k.group("query", p.acc, &[p.rows, p.d]),
            scores: k.group("scores", p.acc, &[p.rows, p.chunk]),
            output: k.group("output", p.acc, &[p.rows, p.dv]),
            shrink: k.group("shrink", p.acc, &[p.rows]),
            most: k.group("most", p.acc, &[p.rows]),
            fresh: k.group("fresh", p.acc, &[p.rows]),
            sum: k.group("sum", p.acc, &[p.rows]),
        };
        let axes: Vec<Coord> =
            ix.iter().zip(&most).map(|(i, n)| e.index(*i, Range::new(0, (n - 1).max(0)), 1)).collect();
        let trips = most.iter().map(|n| (*n).max(1)).product::<i64>() as f64;
        result = e.scoped(trips, |e| {
            let own = axes[1].scale(s.parts).plus(&axes[2], 1);
            e.uniform = true;
            let task = begin(e, p, vec![axes[0].clone(), own, axes[3].clone()]);
            e.uniform = false;
            let at = At { task: task?, shared: axes[1].clone(), split: axes.get(4).cloned() };
            load_queries(e, s, &m, &at, finish.splits)?;
            chunks(e, s, &m, &at)?;
            match partial {
                None => write_rows(e, s, &m, &at, finish),
                Some(partial) => write_partial(e, s, &m, &at, partial),
            }
        });
    });
    result
}

/// The keys that may be seen, as far as the host knows when it launches; splits past what is seen have nothing to do.
fn live_keys(f: &Function, p: &Plan) -> Size {
    match p.offset.and_then(|v| f.param_of(v)).map(|param| param.role) {
        Some(Role::Scalar(id)) => Size::symbol(id) + p.queries.clone(),
        _ => p.keys.clone(),
    }
}

/// Where a group is.
struct At<'k> {
    task: Task<'k>,
    /// The key-value head.
    shared: Coord,
    split: Option<Coord>,
}

impl At<'_> {
    /// The query head of a row and its query.
    fn row(&self, p: &Plan, head: &Coord, query: &Coord) -> (Coord, Coord) {
        (self.task.head.scale(p.group).plus(head, 1), self.task.first.plus(query, 1))
    }
}

fn lanes<'k>(e: &Emitter<'k, '_>) -> Team<'k> {
    Team { lanes: LANES as u32, at: e.k.lane() }
}

/// A row of the group from its number: head within the group, query within the block.
fn row_parts<'k>(e: &mut Emitter<'k, '_>, p: &Plan, row: Ix<'k>) -> (Coord, Coord) {
    let k = e.k;
    let (g, i) = (k.let_index("g", row.rem(p.group)), k.let_index("i", row.div(p.group)));
    (e.index(g, Range::new(0, p.group - 1), 1), e.index(i, Range::new(0, p.block - 1), 1))
}

/// A query that exists: rows past the last query repeat it.
fn existing<'k>(e: &mut Emitter<'k, '_>, p: &Plan, query: &Coord) -> Lowered<Coord> {
    if p.queries.as_const().is_some_and(|n| n % p.block == 0) {
        return Ok(query.clone());
    }
    let most = (e.size_max(&p.queries) as i64 - 1).max(0);
    let (i, n) = (e.ix(query), e.size(&p.queries)?);
    let at = e.k.let_index("query", i.min(n - 1));
    Ok(e.index(at, Range::new(0, most), 1))
}

fn load_queries<'k>(e: &mut Emitter<'k, '_>, s: &Shape, m: &Memory<'k>, at: &At<'k>, splits: &[i64]) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    let w = if splits.iter().all(|x| x % s.across == 0) { s.across } else { 1 };
    let outer = std::mem::replace(&mut e.width, w as u8);
    let result = e.lane_loop("item", &Size::constant(p.rows * p.d / w), lanes(e), 1, &mut |e, item| {
        let item = e.ix(&item);
        let r = k.let_index("r", item.div(p.d / w));
        let c = e.split_number(item.rem(p.d / w), p.d, splits, w);
        e.columns.extend_from_slice(&c.terms);
        let (g, i) = row_parts(e, p, r);
        let (head, query) = at.row(p, &g, &i);
        let query = existing(e, p, &query)?;
        let x = e.emit(p.q, &[at.task.batch.clone(), head, query, c.plus(&e.lane(), 1)])?;
        let x = if i64::from(x.ty().lanes()) == w { x } else { x.splat(w as u8) };
        let place = [r, e.ix(&c)];
        m.query.at(place).vec(w as u8).store(x * p.scale);
        Ok(())
    });
    e.width = outer;
    result?;
    let items = Size::constant(p.rows * p.dv);
    e.lane_loop("item", &items, lanes(e), 1, &mut |e, item| {
        let item = e.ix(&item);
        m.output.at([item.div(p.dv), item.rem(p.dv)]).store(k.constant(0.0, p.acc));
        Ok(())
    })?;
    k.if_(k.lane().lt(k.int(p.rows)), || {
        m.most.at([k.lane()]).store(k.constant(f64::from(f32::MIN), p.acc));
        m.sum.at([k.lane()]).store(k.constant(0.0, p.acc));
    });
    k.barrier(BarrierScope::Group);
    Ok(())
}

fn chunks<'k>(e: &mut Emitter<'k, '_>, s: &Shape, m: &Memory<'k>, at: &At<'k>) -> Lowered<()> {
    let p = &s.p;
    let k = e.k;
    let most_keys = e.size_max(&p.keys) as i64;
    let count = (most_keys + p.chunk - 1) / p.chunk;
    let (mut first, mut end) = (at.task.begin, at.task.seen.ceil_div(p.chunk));
    if let (Some(split), Some(n)) = (&at.split, s.split) {
        let start = e.ix(&split.scale(n / p.chunk));
        first = k.let_index("from", first.max(start));
        end = k.let_index("to", end.min(start + n / p.chunk));
    }
    let range = Range::new(0, (count - 1).max(0));
    e.each_from("chunk", first, end, range, |e, c| {
        let base = c.scale(p.chunk);
        let first = e.ix(&base);
        let here = k.let_index("here", (at.task.seen - first).min(k.int(p.chunk)));
        scores(e, s, m, at, &base)?;
        k.barrier(BarrierScope::Group);
        softmax(e, s, m);
        k.barrier(BarrierScope::Group);
        values(e, s, m, at, &base, here)?;
        k.barrier(BarrierScope::Group);
        Ok(())
    })
}

/// Scores of a chunk, a key a lane; those of hidden keys are minus infinity.
fn scores<'k>(e: &mut Emitter<'k, '_>, s: &Shape, m: &Memory<'k>, at: &At<'k>, base: &Coord) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    let tiles = p.rows / p.tile;
    let last = (e.size_max(&p.keys) as i64 - 1).max(0);
    let outer = e.width;
    let result = e.lane_loop("item", &Size::constant(tiles * p.chunk), lanes(e), 1, &mut |e, item| {
        let item = e.ix(&item);
        let (t, j) = (k.let_index("t", item.div(p.chunk)), k.let_index("j", item.rem(p.chunk)));
        let number = k.let_index("key", e.ix(base) + j);
        // Keys past the last repeat it, and are hidden.
        let exists = k.let_index("own", number.min(at.task.seen - 1));
        let key = e.index(exists, Range::new(0, last), 1);
        let width = s.across as u8;
        e.width = width;
        let zero = Some(k.constant(0.0, p.acc));
        let acc = k.reg("score", Type::vector(p.acc, width), &[p.tile as u32], zero);
        let hi = k.int(p.d);
        e.each("d", hi, Range::new(0, p.d - s.across), s.across, false, |e, d| {
            let x = e.emit(p.k, &[at.task.batch.clone(), at.shared.clone(), key.clone(), d.plus(&e.lane(), 1)])?;
            let x = k.bound("key_v", if x.ty().lanes() == width { x } else { x.splat(width) });
            let d = e.ix(&d);
            e.work.dot_flops += 2.0 * (s.across * p.tile) as f64 * e.trips;
            k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
                let q = m.query.at([t * p.tile + i, d]).vec(width).load();
                acc.set([i], q.mad(x, acc.get([i])));
            });
            Ok(())
        })?;
        e.width = 1;
        let number = number.to_val(DType::I32);
        let tile = e.index(t, Range::new(0, tiles - 1), 1);
        for i in 0..p.tile {
            let raw = k.let_("raw", acc.get([k.int(i)]).hsum());
            let row = tile.scale(p.tile).offset(i);
            let score = hide(e, p, &at.task, &row, &key, number, raw)?;
            m.scores.at([t * p.tile + i, j]).store(score);
        }
        Ok(())
    });
    e.width = outer;
    result
}

/// Rows of scores become weights; what was summed before shrinks.
fn softmax<'k>(e: &mut Emitter<'k, '_>, s: &Shape, m: &Memory<'k>) {
    let k = e.k;
    let p = &s.p;
    let lanes = LANES / s.teams;
    let turns = p.rows / s.teams;
    e.work.flops += 22.0 * (p.rows * p.chunk) as f64 * e.trips;
    let (team, own) = (k.let_index("team", k.lane().div(lanes)), k.let_index("member", k.lane().rem(lanes)));
    // Lanes beyond the chunk take part with nothing.
    let each = |body: &mut dyn FnMut(Ix<'k>)| {
        if lanes <= p.chunk {
            k.for_("j", k.int(0), k.int(p.chunk), lanes, false, |j| body(j + own));
        } else {
            k.if_(own.lt(k.int(p.chunk)), || body(own));
        }
    };
    k.for_("turn", k.int(0), k.int(turns), 1, false, |turn| {
        let r = k.let_index("r", turn * s.teams + team);
        let old = k.let_("old", m.most.at([r]).load());
        let peak = k.var("peak", old);
        each(&mut |j| peak.set(m.scores.at([r, j]).load().max(peak.get())));
        let new = k.let_("new", peak.get().lanes(FoldOp::Max, lanes as u32));
        let total = k.var("total", k.constant(0.0, p.acc));
        each(&mut |j| {
            let weight = k.let_("weight", (m.scores.at([r, j]).load() - new).exp());
            m.scores.at([r, j]).store(weight);
            total.set(total.get() + weight);
        });
        let all = k.let_("all", total.get().lanes(FoldOp::Add, lanes as u32));
        let shrink = k.let_("shrink_by", (old - new).exp());
        k.if_(own.eq(k.int(0)), || {
            let sum = m.sum.at([r]).load() * shrink + all;
            m.sum.at([r]).store(sum);
            m.shrink.at([r]).store(shrink);
            m.fresh.at([r]).store(new);
        });
    });
}

/// Adds the chunk's values, weighted; a lane has some rows of some columns.
fn values<'k>(
    e: &mut Emitter<'k, '_>,
    s: &Shape,
    m: &Memory<'k>,
    at: &At<'k>,
    base: &Coord,
    here: Ix<'k>,
) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    let w = s.across;
    let tiles = p.rows / p.tile;
    k.if_(k.lane().lt(k.int(p.rows)), || {
        let most = m.fresh.at([k.lane()]).load();
        m.most.at([k.lane()]).store(most);
    });
    let outer = std::mem::replace(&mut e.width, w as u8);
    let result = e.lane_loop("item", &Size::constant(tiles * p.dv / w), lanes(e), 1, &mut |e, item| {
        let item = e.ix(&item);
        let (t, d) = (k.let_index("t", item.div(p.dv / w)), k.let_index("d", item.rem(p.dv / w) * w));
        let column = e.index(d, Range::new(0, p.dv - w), w).plus(&e.lane(), 1);
        let acc = k.reg("sums", Type::vector(p.acc, w as u8), &[p.tile as u32], None);
        k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
            let row = t * p.tile + i;
            let before = m.output.at([row, d]).vec(w as u8).load();
            acc.set([i], before * m.shrink.at([row]).load());
        });
        e.each("j", here, Range::new(0, p.chunk - 1), 1, false, |e, j| {
            let key = base.plus(&j, 1);
            let x = e.emit(p.v, &[at.task.batch.clone(), at.shared.clone(), key, column.clone()])?;
            let x = k.bound("value", if i64::from(x.ty().lanes()) == w { x } else { x.splat(w as u8) });
            let j = e.ix(&j);
            e.work.dot_flops += 2.0 * (w * p.tile) as f64 * e.trips;
            k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
                let weight = m.scores.at([t * p.tile + i, j]).load().splat(w as u8);
                acc.set([i], weight.mad(x, acc.get([i])));
            });
            Ok(())
        })?;
        k.for_("i", k.int(0), k.int(p.tile), 1, true, |i| {
            m.output.at([t * p.tile + i, d]).vec(w as u8).store(acc.get([i]));
        });
        Ok(())
    });
    e.width = outer;
    result
}

/// Divides by the sums and stores what is fused after the attention.
fn write_rows<'k>(e: &mut Emitter<'k, '_>, s: &Shape, m: &Memory<'k>, at: &At<'k>, finish: &Finish<'_>) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    k.if_(k.lane().lt(k.int(p.rows)), || {
        let inverse = k.constant(1.0, p.acc) / m.sum.at([k.lane()]).load();
        m.shrink.at([k.lane()]).store(inverse);
    });
    k.barrier(BarrierScope::Group);
    let rows = Rows { place: Rc::default(), memory: Some((m.output, Rc::default())), merged: Rc::default() };
    let place = rows.place.clone();
    let current = rows.memory.as_ref().expect("made above").1.clone();
    e.set_anchor(finish.v, Rc::new(rows));
    let w = s.across;
    let outer = std::mem::replace(&mut e.width, w as u8);
    let result = e.lane_loop("item", &Size::constant(p.rows * p.dv / w), lanes(e), 1, &mut |e, item| {
        let item = e.ix(&item);
        let r = k.let_index("r", item.div(p.dv / w));
        let c = e.split_number(item.rem(p.dv / w), p.dv, &[], w);
        let (g, i) = row_parts(e, p, r);
        let (head, query) = at.row(p, &g, &i);
        let start = [at.task.batch.clone(), head, query.clone(), c.plus(&e.lane(), 1)];
        *place.borrow_mut() = start[..3].to_vec();
        let store = |e: &mut Emitter<'k, '_>| {
            *current.borrow_mut() = Some((r, k.let_("inverse", m.shrink.at([r]).load())));
            finish.store(e, &start)
        };
        if p.queries.as_const().is_some_and(|n| n % p.block == 0) {
            return store(e);
        }
        let (i, n) = (e.ix(&query), e.size(&p.queries)?);
        let mut result = Ok(());
        k.if_(i.lt(n), || result = e.scoped(1.0, store));
        result
    });
    e.width = outer;
    result
}

/// Leaves a split's sums for the merge.
fn write_partial<'k>(
    e: &mut Emitter<'k, '_>,
    s: &Shape,
    m: &Memory<'k>,
    at: &At<'k>,
    partial: &Partial<'k>,
) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    let batch = e.ix(&at.task.batch);
    let split = e.ix(at.split.as_ref().expect("only split attention leaves partial sums"));
    // One query: rows are heads.
    let first = e.ix(&at.task.head.scale(p.group));
    k.if_(k.lane().lt(k.int(p.rows)), || {
        let row = k.lane();
        partial.ends.at([batch, first + row, split, k.int(0)]).store(m.most.at([row]).load());
        partial.ends.at([batch, first + row, split, k.int(1)]).store(m.sum.at([row]).load());
    });
    let w = s.across;
    e.lane_loop("item", &Size::constant(p.rows * p.dv / w), lanes(e), 1, &mut |e, item| {
        let item = e.ix(&item);
        let (row, d) = (k.let_index("r", item.div(p.dv / w)), k.let_index("d", item.rem(p.dv / w) * w));
        let sums = m.output.at([row, d]).vec(w as u8).load();
        partial.output.at([batch, first + row, split, d]).vec(w as u8).store(sums);
        Ok(())
    })
}

/// The phase that merges the splits of each head: a lane has some columns.
fn merge<'k>(
    e: &mut Emitter<'k, '_>,
    s: &Shape,
    [batch, heads]: &[Size; 2],
    partial: &Partial<'k>,
    finish: &Finish<'_>,
) -> Lowered<()> {
    let k = e.k;
    let p = &s.p;
    let w = s.across;
    let n = s.split.expect("only split attention is merged");
    let mut most = vec![];
    let mut grid: Vec<(&str, Ix<'k>)> = Vec::new();
    for (name, size) in ["b", "h"].into_iter().zip([batch, heads]) {
        most.push(e.size_max(size) as i64);
        grid.push((name, e.size(size)?));
    }
    let rows = Rows { place: Rc::default(), memory: None, merged: Rc::default() };
    let (place, merged) = (rows.place.clone(), rows.merged.clone());
    e.set_anchor(finish.v, Rc::new(rows));
    let team = super::power_of_two(p.dv / w, LANES as u32);
    let outer = std::mem::replace(&mut e.width, w as u8);
    let mut result = Ok(());
    k.phase("merge", &grid, team, Subgroup::None, |ix| {
        let axes: Vec<Coord> =
            ix.iter().zip(&most).map(|(i, n)| e.index(*i, Range::new(0, (n - 1).max(0)), 1)).collect();
        result = e.scoped(most.iter().product::<i64>() as f64, |e| {
            let seen = begin(e, p, vec![axes[0].clone(), Coord::constant(0), Coord::constant(0)])?.seen;
            let live = k.let_index("live", seen.ceil_div(n));
            let team = Team { lanes: team, at: k.lane() };
            e.lane_loop("d", &Size::constant(p.dv), team, w, &mut |e, c| {
                let d = e.ix(&c);
                let most = k.var("most", k.constant(f64::from(f32::MIN), p.acc));
                let sum = k.var("sum", k.constant(0.0, p.acc));
                let total = k.var("total", k.constant(0.0, p.acc).splat(w as u8));
                k.for_("split", k.int(0), live, 1, false, |split| {
                    let end = |i: i64| partial.ends.at([ix[0], ix[1], split, k.int(i)]).load();
                    let peak = k.let_("peak", end(0));
                    let old = k.let_("old", most.get());
                    let new = k.let_("new", peak.max(old));
                    let (before, here) = (k.let_("before", (old - new).exp()), k.let_("here", (peak - new).exp()));
                    sum.set(sum.get() * before + end(1) * here);
                    let part = partial.output.at([ix[0], ix[1], split, d]).vec(w as u8).load();
                    total.set(total.get() * before + part * here);
                    most.set(new);
                });
                let value = k.let_("attended", total.get() / sum.get());
                let column = c.plus(&e.lane(), 1);
                let start = [axes[0].clone(), axes[1].clone(), Coord::constant(0), column.clone()];
                *place.borrow_mut() = start[..3].to_vec();
                *merged.borrow_mut() = Some((column, value));
                finish.store(e, &start)
            })
        });
    });
    e.width = outer;
    result
}
