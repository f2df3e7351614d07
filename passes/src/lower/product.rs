//! The product template for two computed factors: blocks of both are packed into group memory.
//!
//! A task computes a block of rows and columns. It packs the same stretch of the inner axis of both factors through the
//! emitter, so that views and elementwise nodes before the product are computed while packing, and adds the products of small
//! tiles of registers to the block in group memory. What stands after the product reads it there: elementwise
//! nodes of the product's shape are epilogues.

use crate::choices;
use crate::lower::coord::Coord;
use crate::lower::elementwise::compute;
use crate::lower::emit::{Anchor, Emitter, Lowered, Refusal, Region, Target};
use crate::lower::map::{Built, store_all};
use mlxc_ir::graph::{Function, Op, ValueId};
use mlxc_ir::kernel::{Group, Ix, KernelBuilder, Subgroup, Type, Val};
use mlxc_ir::{DType, Range, Size};
use std::cell::RefCell;
use std::rc::Rc;

/// Inner elements packed at once.
const DEPTH: i64 = 256;
/// Extents from which blocks pay.
const SMALLEST: i64 = 16;

/// True for products this template computes: of f32 and half types, large enough in every extent.
pub fn fits(f: &Function, node: u32) -> bool {
    let n = &f.nodes[node as usize];
    let Op::MatMul { transpose_a, .. } = n.op else { return false };
    let ranges = f.ranges();
    let most = |d: &Size| d.bounds(&ranges).hi;
    let (out, a) = (&n.types[0], f.ty(n.inputs[0]));
    let rank = out.rank();
    let inner = &a.shape[if transpose_a { rank - 2 } else { rank - 1 }];
    let large = [&out.shape[rank - 2], &out.shape[rank - 1], inner].iter().all(|d| most(d) >= SMALLEST);
    large && compute(out.dtype) == DType::F32
}

/// Sizes of tiles and blocks.
struct Plan {
    /// Rows and vectors of a register tile.
    rows: i64,
    vectors: i64,
    /// Rows and columns of a block.
    block_rows: i64,
    block_columns: i64,
    lanes: i64,
}

impl Plan {
    /// For results of at most so many rows and columns, and so many of them.
    fn new(target: &Target<'_>, lanes: i64, [m, n, batches]: [i64; 3]) -> Self {
        // Accumulators, a vector of each column and one of the row fill the registers.
        let rows = if target.profile.registers >= 32 { 12 } else { 6 };
        let of = |side: i64| Plan { rows, vectors: 2, block_rows: side * rows, block_columns: side * lanes, lanes };
        // Blocks twice as large pack half as much for a product, if they stay in cache and every core has some.
        let large = of(16);
        let tasks = batches * (m / large.block_rows) * (n / large.block_columns);
        let fits = large.bytes() <= target.profile.limits.group_bytes as i64;
        if fits && tasks >= 4 * i64::from(target.profile.cores) { large } else { of(8) }
    }

    /// Bytes of group memory.
    fn bytes(&self) -> i64 {
        let (tall, wide) = (self.block_rows, self.block_columns + self.lanes);
        4 * (tall * (DEPTH + self.lanes) + DEPTH * wide + tall * wide)
    }

    fn tile_columns(&self) -> i64 {
        self.vectors * self.lanes
    }
}

/// The block's products and where the epilogue reads them.
struct Block<'k> {
    memory: Group<'k>,
    dtype: DType,
    place: Rc<RefCell<Place>>,
}

/// Where the epilogue stands.
#[derive(Default)]
struct Place {
    at: Vec<Coord>,
    row: Coord,
    column: Coord,
}

impl<'k> Anchor<'k> for Block<'k> {
    fn read(&self, e: &mut Emitter<'k, '_>, coords: &[Coord]) -> Lowered<Val<'k>> {
        let place = self.place.borrow();
        if coords != place.at {
            return Err(Refusal::new("epilogue", "an element of the product is read by another"));
        }
        let (row, column) = (e.ix(&place.row), e.ix(&place.column));
        // Group memory holds whole vectors, so a tail may read past its end.
        let value = self.memory.at([row, column]).vec(e.width).load();
        let value = e.rounded(value, self.dtype);
        Ok(e.k.let_("product", value))
    }
}

/// What the loops of a kernel share.
struct Product<'k> {
    plan: Plan,
    a: ValueId,
    b: ValueId,
    transpose_a: bool,
    transpose_b: bool,
    batch: Vec<Coord>,
    /// First row and column of the block, and how many there are.
    row: Coord,
    column: Coord,
    rows: Ix<'k>,
    columns: Ix<'k>,
    packed_a: Group<'k>,
    packed_b: Group<'k>,
    block: Group<'k>,
}

/// Builds the kernel of a product and what is computed before and after it.
///
/// # Errors
/// A refusal where no such kernel exists.
pub fn build(
    f: &Function,
    target: &Target<'_>,
    region: &Region,
    anchor: u32,
    outputs: &[ValueId],
    name: &str,
) -> Lowered<Built> {
    let v = ValueId::of(anchor as usize);
    let node = f.node(v);
    let Op::MatMul { transpose_a, transpose_b } = node.op else { unreachable!("called for products") };
    let shape = node.types[0].shape.clone();
    let other = region.iter().find(|n| **n != anchor && !f.nodes[**n as usize].op.is_elementwise());
    if let Some(n) = other {
        let op = f.nodes[*n as usize].op.name();
        return Err(Refusal::new("epilogue", format!("`{op}` is not computed beside a product")));
    }
    if outputs.iter().any(|o| f.ty(*o).shape != shape) {
        return Err(Refusal::new("domains", "a result has another shape than the product"));
    }
    let k = KernelBuilder::new(name);
    let mut e = Emitter::new(&k, f, target, region);
    let extents = shape.iter().map(|d| e.size_max(d) as i64).collect::<Vec<_>>();
    let (batches, matrix) = extents.split_at(extents.len() - 2);
    let mut plan = Plan::new(target, i64::from(e.width), [matrix[0], matrix[1], batches.iter().product()]);
    plan.block_rows = plan.rows * target.choose(&choices::PRODUCT_TILES, f, anchor, plan.block_rows / plan.rows);
    plan.block_columns =
        plan.lanes * target.choose(&choices::PRODUCT_VECTORS, f, anchor, plan.block_columns / plan.lanes);
    let rank = shape.len();
    let (m, n) = (shape[rank - 2].clone(), shape[rank - 1].clone());
    let depth = f.ty(node.inputs[0]).shape[if transpose_a { rank - 2 } else { rank - 1 }].clone();
    let blocks = [m.ceil_div(plan.block_rows), n.ceil_div(plan.block_columns)];
    let mut grid: Vec<(String, Ix<'_>)> = Vec::new();
    let mut most = Vec::new();
    for (i, d) in shape[..rank - 2].iter().chain(&blocks).enumerate() {
        grid.push((format!("i{i}"), e.size(d)?));
        most.push((e.size_max(d) as i64 - 1).max(0));
    }
    let axes: Vec<(&str, Ix<'_>)> = grid.iter().map(|(n, x)| (n.as_str(), *x)).collect();
    let tasks = most.iter().fold(1.0, |n, d| n * (*d + 1) as f64);
    let flops = [&m, &n, &depth].iter().fold(2.0, |p, d| p * e.size_max(d));
    e.work.dot_flops += flops * shape[..rank - 2].iter().fold(1.0, |p, d| p * e.size_max(d));
    let mut result = Ok(());
    k.phase("main", &axes, 1, Subgroup::None, |ix| {
        result = e.scoped(tasks, |e| {
            let at: Vec<Coord> = ix.iter().zip(&most).map(|(x, most)| e.index(*x, Range::new(0, *most), 1)).collect();
            let row = at[rank - 2].scale(plan.block_rows);
            let column = at[rank - 1].scale(plan.block_columns);
            let rows = left(e, "rows", &m, &row, plan.block_rows)?;
            let columns = left(e, "columns", &n, &column, plan.block_columns)?;
            let (tall, wide) = (plan.block_rows, plan.block_columns);
            let p = Product {
                a: node.inputs[0],
                b: node.inputs[1],
                transpose_a,
                transpose_b,
                batch: at[..rank - 2].to_vec(),
                row,
                column,
                rows,
                columns,
                // One vector more than a row needs: what a tail leaves over is stored with it.
                packed_a: k.group("left", DType::F32, &[tall, DEPTH + plan.lanes]),
                packed_b: k.group("right", DType::F32, &[DEPTH, wide + plan.lanes]),
                block: k.group("block", DType::F32, &[tall, wide + plan.lanes]),
                plan,
            };
            p.compute(e, &depth)?;
            let place = Rc::new(RefCell::new(Place::default()));
            e.set_anchor(v, Rc::new(Block { memory: p.block, dtype: node.types[0].dtype, place: place.clone() }));
            p.finish(e, outputs, &place)
        });
    });
    result?;
    let (bindings, work) = e.finish();
    Ok(Built { kernel: k.finish(), bindings, work, template: "product" })
}

/// What is left of an extent from `first` on, at most `most`.
fn left<'k>(e: &mut Emitter<'k, '_>, name: &str, whole: &Size, first: &Coord, most: i64) -> Lowered<Ix<'k>> {
    let (whole, first) = (e.size(whole)?, e.ix(first));
    let k = e.k;
    Ok(k.let_index(name, (whole - first).min(k.int(most))))
}

impl<'k> Product<'k> {
    /// The products of the block, in group memory.
    fn compute(&self, e: &mut Emitter<'k, '_>, depth: &Size) -> Lowered<()> {
        let k = e.k;
        let (p, zero) = (&self.plan, k.int(0));
        let nothing = k.constant(0.0, DType::F32).splat(e.width);
        k.for_("r", zero, k.int(p.block_rows), 1, false, |r| {
            k.for_("c", zero, k.int(p.block_columns), p.lanes, false, |c| {
                self.block.at([r, c]).vec(p.lanes as u8).store(nothing);
            });
        });
        let whole = e.size(depth)?;
        let most = e.size_max(depth) as i64;
        e.each("d", whole, Range::new(0, (most - 1).max(0) / DEPTH * DEPTH), DEPTH, false, |e, d| {
            let first = e.ix(&d);
            let live = k.let_index("live", (whole - first).min(k.int(DEPTH)));
            self.pack_left(e, &d, live)?;
            self.pack_right(e, &d, live)?;
            self.tiles(e, live);
            Ok(())
        })
    }

    /// Vectors of one packed row: `emit` gives the elements at a coordinate along it, which are zero past its end.
    fn pack_row(
        &self,
        e: &mut Emitter<'k, '_>,
        memory: Group<'k>,
        row: Ix<'k>,
        (live, most): (Ix<'k>, i64),
        emit: &mut dyn FnMut(&mut Emitter<'k, '_>, Coord) -> Lowered<Val<'k>>,
    ) -> Lowered<()> {
        let k = e.k;
        let lanes = self.plan.lanes;
        let mut result = Ok(());
        let mut put = |e: &mut Emitter<'k, '_>, c: Ix<'k>, tail: Option<Ix<'k>>| {
            let at = e.index(c, Range::new(0, most - lanes), lanes);
            let lane = e.lane();
            e.tail = tail;
            let value = e.scoped((most / lanes) as f64, |e| emit(e, at.plus(&lane, 1)));
            e.tail = None;
            match value {
                Ok(v) => {
                    let v = if v.ty().lanes() == 1 { v.splat(e.width) } else { v };
                    memory.at([row, c]).vec(lanes as u8).store(v);
                }
                Err(r) => result = Err(r),
            }
        };
        let full = live.div(lanes) * lanes;
        k.for_("c", k.int(0), full, lanes, false, |c| put(e, c, None));
        let rest = k.let_index("rest", live - full);
        if rest.as_const() != Some(0) {
            k.if_(rest.gt(k.int(0)), || put(e, full, Some(rest)));
        }
        result
    }

    fn pack_left(&self, e: &mut Emitter<'k, '_>, d: &Coord, live: Ix<'k>) -> Lowered<()> {
        let k = e.k;
        let mut result = Ok(());
        k.for_("r", k.int(0), self.rows, 1, false, |r| {
            let row = e.index(r, Range::new(0, self.plan.block_rows - 1), 1).plus(&self.row, 1);
            result = e.scoped(self.plan.block_rows as f64, |e| {
                self.pack_row(e, self.packed_a, r, (live, DEPTH), &mut |e, c| {
                    let inner = d.plus(&c, 1);
                    e.emit(self.a, &self.place(&row, &inner, self.transpose_a))
                })
            });
        });
        result?;
        // Rows that only fill up a tile.
        let padded = self.rows.ceil_div(self.plan.rows) * self.plan.rows;
        let nothing = k.constant(0.0, DType::F32).splat(e.width);
        k.for_("r", self.rows, padded, 1, false, |r| {
            k.for_("c", k.int(0), k.int(DEPTH), self.plan.lanes, false, |c| {
                self.packed_a.at([r, c]).vec(self.plan.lanes as u8).store(nothing);
            });
        });
        Ok(())
    }

    fn pack_right(&self, e: &mut Emitter<'k, '_>, d: &Coord, live: Ix<'k>) -> Lowered<()> {
        let k = e.k;
        let (lanes, wide) = (self.plan.lanes, self.plan.block_columns);
        let mut result = Ok(());
        k.for_("r", k.int(0), live, 1, false, |r| {
            let inner = e.index(r, Range::new(0, DEPTH - 1), 1).plus(d, 1);
            result = e.scoped(DEPTH as f64, |e| {
                self.pack_row(e, self.packed_b, r, (self.columns, wide), &mut |e, c| {
                    let column = self.column.plus(&c, 1);
                    e.emit(self.b, &self.place(&inner, &column, self.transpose_b))
                })
            });
            // Columns that only fill up a tile.
            let padded = self.columns.ceil_div(self.plan.tile_columns()) * self.plan.tile_columns();
            let nothing = k.constant(0.0, DType::F32).splat(e.width);
            k.for_("c", self.columns.ceil_div(lanes) * lanes, padded, lanes, false, |c| {
                self.packed_b.at([r, c]).vec(lanes as u8).store(nothing);
            });
        });
        result
    }

    fn place(&self, row: &Coord, column: &Coord, transposed: bool) -> Vec<Coord> {
        let (x, y) = if transposed { (column, row) } else { (row, column) };
        self.batch.iter().chain([x, y]).cloned().collect()
    }

    /// Adds the packed stretch's products to the block.
    fn tiles(&self, e: &mut Emitter<'k, '_>, live: Ix<'k>) {
        let k = e.k;
        let p = &self.plan;
        let lanes = p.lanes as u8;
        let ty = Type::vector(DType::F32, lanes);
        k.for_("j", k.int(0), self.columns.ceil_div(p.tile_columns()), 1, false, |j| {
            k.for_("i", k.int(0), self.rows.ceil_div(p.rows), 1, false, |i| {
                let acc = k.reg("acc", ty, &[p.rows as u32, p.vectors as u32], Some(k.constant(0.0, DType::F32)));
                let column = |v: i64| j * p.tile_columns() + v * p.lanes;
                k.for_("k", k.int(0), live, 1, false, |c| {
                    let b: Vec<Val<'k>> = (0..p.vectors)
                        .map(|v| k.let_("b", self.packed_b.at([c, column(v)]).vec(lanes).load()))
                        .collect();
                    k.for_("r", k.int(0), k.int(p.rows), 1, true, |r| {
                        let a = k.let_("a", self.packed_a.at([i * p.rows + r, c]).load().splat(lanes));
                        for (v, b) in b.iter().enumerate() {
                            let at = [r, k.int(v as i64)];
                            acc.set(at, a.mad(*b, acc.get(at)));
                        }
                    });
                });
                k.for_("r", k.int(0), k.int(p.rows), 1, true, |r| {
                    for v in 0..p.vectors {
                        let place = [i * p.rows + r, column(v)];
                        let before = k.let_("before", self.block.at(place).vec(lanes).load());
                        let sum = acc.get([r, k.int(v)]) + before;
                        self.block.at(place).vec(lanes).store(sum);
                    }
                });
            });
        });
    }

    /// Stores the results of the block.
    fn finish(&self, e: &mut Emitter<'k, '_>, outputs: &[ValueId], place: &Rc<RefCell<Place>>) -> Lowered<()> {
        let k = e.k;
        let (lanes, wide) = (self.plan.lanes, self.plan.block_columns);
        let mut result = Ok(());
        k.for_("r", k.int(0), self.rows, 1, false, |r| {
            let local = e.index(r, Range::new(0, self.plan.block_rows - 1), 1);
            let row = local.plus(&self.row, 1);
            let mut put = |e: &mut Emitter<'k, '_>, c: Ix<'k>, tail: Option<Ix<'k>>| {
                let column = e.index(c, Range::new(0, wide - lanes), lanes);
                let lane = e.lane();
                let mut at = self.batch.clone();
                at.extend([row.clone(), self.column.plus(&column, 1).plus(&lane, 1)]);
                *place.borrow_mut() = Place { at: at.clone(), row: local.clone(), column };
                e.tail = tail;
                let trips = (self.plan.block_rows * wide / lanes) as f64;
                let stored = e.scoped(trips, |e| store_all(e, outputs, &at));
                e.tail = None;
                if let Err(r) = stored {
                    result = Err(r);
                }
            };
            let full = self.columns.div(lanes) * lanes;
            k.for_("c", k.int(0), full, lanes, false, |c| put(e, c, None));
            let rest = k.let_index("rest", self.columns - full);
            if rest.as_const() != Some(0) {
                k.if_(rest.gt(k.int(0)), || put(e, full, Some(rest)));
            }
        });
        result
    }
}
