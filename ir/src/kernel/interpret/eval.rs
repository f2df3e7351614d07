//! Expressions, for all lanes of a group at once. Lanes that are masked out compute on whatever they have and can
//! neither fail nor touch memory.

use super::Machine;
use super::arith::{self, Fault};
use super::exec::Bits;
use crate::Diagnostic;
use crate::kernel::index::{Builtin, Index};
use crate::kernel::ops::Comparison;
use crate::kernel::scalar;
use crate::kernel::types::*;
use smallvec::SmallVec;
use std::rc::Rc;

/// An index in each lane.
#[derive(Clone, Debug)]
pub(super) enum Indices {
    One(i64),
    Many(Rc<[i64]>),
}

impl Indices {
    pub(super) fn at(&self, lane: usize) -> i64 {
        match self {
            Indices::One(v) => *v,
            Indices::Many(v) => v[lane],
        }
    }

    fn map(&self, f: impl Fn(i64) -> i64) -> Self {
        match self {
            Indices::One(v) => Indices::One(f(*v)),
            Indices::Many(v) => Indices::Many(v.iter().map(|x| f(*x)).collect()),
        }
    }

    fn zip(&self, other: &Indices, f: impl Fn(i64, i64) -> i64) -> Self {
        match (self, other) {
            (Indices::One(a), Indices::One(b)) => Indices::One(f(*a, *b)),
            (Indices::Many(a), b) => Indices::Many(a.iter().enumerate().map(|(l, x)| f(*x, b.at(l))).collect()),
            (a, Indices::Many(b)) => Indices::Many(b.iter().enumerate().map(|(l, y)| f(a.at(l), *y)).collect()),
        }
    }
}

impl Machine<'_> {
    /// An index every lane agrees on.
    pub(super) fn uniform(&mut self, id: IndexId) -> Result<i64, Diagnostic> {
        let mask: SmallVec<[bool; 16]> = SmallVec::from_elem(true, self.lanes);
        match self.indices(id, &mask)? {
            Indices::One(v) => Ok(v),
            Indices::Many(v) if v.iter().all(|x| *x == v[0]) => Ok(v[0]),
            Indices::Many(_) => Err(Diagnostic::new(513, "an index differs between lanes where it may not")
                .found(crate::kernel::print_index(self.k, id))),
        }
    }

    pub(super) fn indices(&mut self, id: IndexId, mask: &[bool]) -> Result<Indices, Diagnostic> {
        let lanes = self.lanes as i64;
        let width = self.width as i64;
        let per_lane = |f: &dyn Fn(i64) -> i64| match lanes {
            1 => Indices::One(f(0)),
            _ => Indices::Many((0..lanes).map(f).collect()),
        };
        Ok(match self.k.index.get(id) {
            Index::Const(c) => Indices::One(c),
            Index::Var(v) => self.vars[v.index()].clone(),
            Index::Builtin(Builtin::Lane) => per_lane(&|l| l),
            Index::Builtin(Builtin::SubgroupId) => per_lane(&|l| l / width),
            Index::Builtin(Builtin::SubgroupLane) => per_lane(&|l| l % width),
            Index::Builtin(Builtin::SubgroupWidth) => Indices::One(width),
            Index::Add(a, b) => self.indices(a, mask)?.zip(&self.indices(b, mask)?, i64::saturating_add),
            Index::Scale(a, by) => self.indices(a, mask)?.map(|x| x.saturating_mul(by)),
            Index::Div(a, by) => self.indices(a, mask)?.map(|x| x.div_euclid(by.max(1))),
            Index::Mod(a, by) => self.indices(a, mask)?.map(|x| x.rem_euclid(by.max(1))),
            Index::DivBy(a, b) => self.indices(a, mask)?.zip(&self.indices(b, mask)?, |x, y| x.div_euclid(y.max(1))),
            Index::Min(a, b) => self.indices(a, mask)?.zip(&self.indices(b, mask)?, i64::min),
            Index::Max(a, b) => self.indices(a, mask)?.zip(&self.indices(b, mask)?, i64::max),
            Index::Clamp(e, lo, hi) => {
                let (lo, hi) = (self.indices(lo, mask)?, self.indices(hi, mask)?);
                let d = self.k.expr(e).ty.dtype();
                let bits = self.eval(e, mask)?;
                let clamp = |lane: usize| {
                    // An unsigned 64-bit value beyond i64 is above every bound.
                    let v = match d {
                        mlxc_package::DType::U64 => i64::try_from(bits[lane]).unwrap_or(i64::MAX),
                        _ => scalar::to_i64(d, bits[lane]),
                    };
                    v.min(hi.at(lane) - 1).max(lo.at(lane))
                };
                match self.lanes {
                    1 => Indices::One(clamp(0)),
                    n => Indices::Many((0..n).map(clamp).collect()),
                }
            }
        })
    }

    /// The value of an expression in every lane.
    pub(super) fn eval(&mut self, id: ExprId, mask: &[bool]) -> Result<Bits, Diagnostic> {
        let k = self.k;
        let e = k.expr(id);
        let (ty, d) = (e.ty, e.ty.dtype());
        let n = Self::elements(ty);
        let total = self.holders(ty) * n;
        Ok(match &e.kind {
            ExprKind::Const(bits) => Bits::from_elem(*bits, total),
            ExprKind::Arg(a) => Bits::from_elem(self.args[a.index()], total),
            ExprKind::FromIndex(i) => {
                let v = self.indices(*i, mask)?;
                (0..self.lanes).map(|l| scalar::from_i64(d, v.at(l))).collect()
            }
            ExprKind::CompareIndex(op, a, b) => {
                let (a, b) = (self.indices(*a, mask)?, self.indices(*b, mask)?);
                let of = |l: usize| {
                    let order = a.at(l).cmp(&b.at(l));
                    u64::from(match op {
                        Comparison::Eq => order.is_eq(),
                        Comparison::Ne => order.is_ne(),
                        Comparison::Lt => order.is_lt(),
                        Comparison::Le => order.is_le(),
                        Comparison::Gt => order.is_gt(),
                        Comparison::Ge => order.is_ge(),
                    })
                };
                (0..self.lanes).map(of).collect()
            }
            ExprKind::Get(local, at) => {
                let register = self.register(*local, at)?;
                let holders = self.holders(ty);
                let slot = &self.locals[local.index()];
                let missing = (0..holders)
                    .any(|h| (ty.is_tile() || mask[h]) && slot.defined.get(register * holders + h) != Some(&true));
                if missing {
                    return Err(Diagnostic::new(551, format!("`{}` is read before it is set", k.local(*local).name)));
                }
                Bits::from_slice(&slot.data[register * total..(register + 1) * total])
            }
            ExprKind::Load(place, otherwise) => self.load(place, *otherwise, mask)?,
            ExprKind::LoadTile { place, order } => self.load_tile(place, *order, ty, mask)?,
            ExprKind::Unary(op, a) => {
                let mut v = self.eval(*a, mask)?;
                v.iter_mut().for_each(|x| *x = arith::unary(*op, d, *x));
                v
            }
            ExprKind::Binary(op, a, b) => {
                let (mut a, b) = (self.eval(*a, mask)?, self.eval(*b, mask)?);
                for (i, (x, y)) in a.iter_mut().zip(&b).enumerate() {
                    match arith::binary(*op, d, *x, *y) {
                        Ok(v) => *x = v,
                        Err(fault) if mask[i / n] => return Err(fault.diagnostic()),
                        Err(_) => {}
                    }
                }
                a
            }
            ExprKind::Compare(op, a, b) => {
                let d = k.expr(*a).ty.dtype();
                let (mut a, b) = (self.eval(*a, mask)?, self.eval(*b, mask)?);
                for (x, y) in a.iter_mut().zip(&b) {
                    *x = u64::from(arith::compare(*op, d, *x, *y));
                }
                a
            }
            ExprKind::Fma(a, b, c) => {
                let (mut a, b, c) = (self.eval(*a, mask)?, self.eval(*b, mask)?, self.eval(*c, mask)?);
                for (i, x) in a.iter_mut().enumerate() {
                    *x = arith::fma(d, *x, b[i], c[i]);
                }
                a
            }
            ExprKind::Mad(a, b, c) => {
                let (mut a, b, c) = (self.eval(*a, mask)?, self.eval(*b, mask)?, self.eval(*c, mask)?);
                let fused = self.draw() & 1 == 0;
                for (i, x) in a.iter_mut().enumerate() {
                    *x = if fused { arith::fma(d, *x, b[i], c[i]) } else { arith::multiply_add(d, *x, b[i], c[i]) };
                }
                a
            }
            ExprKind::Select(c, a, b) => {
                let per = usize::from(k.expr(*c).ty.lanes());
                let (c, mut a, b) = (self.eval(*c, mask)?, self.eval(*a, mask)?, self.eval(*b, mask)?);
                for (i, x) in a.iter_mut().enumerate() {
                    // A tile is chosen by its subgroup's first lane.
                    let at = if ty.is_tile() { i / n * self.width } else { if per == 1 { i / n } else { i } };
                    if c[at] == 0 {
                        *x = b[i];
                    }
                }
                a
            }
            ExprKind::Cast(a) => {
                let from = k.expr(*a).ty.dtype();
                let mut v = self.eval(*a, mask)?;
                v.iter_mut().for_each(|x| *x = arith::cast(from, d, *x));
                v
            }
            ExprKind::Bits(a) => self.reinterpret(*a, ty, mask)?,
            ExprKind::Splat(a) => {
                let v = self.eval(*a, mask)?;
                let per = if ty.is_tile() { n * self.width } else { n };
                let step = if ty.is_tile() { self.width } else { 1 };
                (0..total).map(|i| v[(i / (per / step)) * step]).collect()
            }
            ExprKind::Vector(parts) => {
                let parts = parts.iter().map(|p| self.eval(*p, mask)).collect::<Result<Vec<_>, _>>()?;
                let wide = n / parts.len();
                (0..total).map(|i| parts[i % n / wide][i / n * wide + i % wide]).collect()
            }
            ExprKind::Table(f) => {
                let at = self.lane_fn(f, n)?;
                (0..total).map(|i| scalar::from_i64(d, at[i % n])).collect()
            }
            ExprKind::Extract(a, i) => {
                let wide = usize::from(k.expr(*a).ty.lanes());
                let at = self.uniform(*i)?;
                let at = self.element(at, wide)?;
                let v = self.eval(*a, mask)?;
                (0..self.lanes).map(|l| v[l * wide + at]).collect()
            }
            ExprKind::Shuffle(a, f) => {
                let wide = usize::from(k.expr(*a).ty.lanes());
                let mut from = SmallVec::<[usize; 16]>::new();
                for at in self.lane_fn(f, n)? {
                    from.push(self.element(at, wide)?);
                }
                let v = self.eval(*a, mask)?;
                (0..total).map(|i| v[i / n * wide + from[i % n]]).collect()
            }
            ExprKind::Lut(table, i) => {
                let wide = usize::from(k.expr(*table).ty.lanes());
                let (table, at) = (self.eval(*table, mask)?, self.eval(*i, mask)?);
                (0..total).map(|i| table[i / n * wide + (at[i] as usize & (wide - 1))]).collect()
            }
            ExprKind::Dot { terms, acc, a, b } => self.dot(usize::from(*terms), *acc, *a, *b, mask)?,
            ExprKind::Fold(op, a) => {
                let source = k.expr(*a).ty;
                let wide = usize::from(source.lanes());
                let v = self.eval(*a, mask)?;
                let mut out = Bits::new();
                for lane in v.chunks_exact(wide) {
                    let mut half = Bits::from_slice(lane);
                    while half.len() > 1 {
                        let m = half.len() / 2;
                        for i in 0..m {
                            half[i] = arith::binary(op.binary(), d, half[i], half[i + m]).unwrap_or(half[i]);
                        }
                        half.truncate(m);
                    }
                    out.push(half[0]);
                }
                out
            }
            ExprKind::Math(f, args) => {
                let mut a = self.eval(args[0], mask)?;
                let b = match args.get(1) {
                    Some(b) => Some(self.eval(*b, mask)?),
                    None => None,
                };
                for (i, x) in a.iter_mut().enumerate() {
                    *x = arith::math(*f, d, *x, b.as_ref().map_or(0, |b| b[i]));
                    if self.math_ulp > 0 && scalar::to_f64(d, *x).is_normal() {
                        // Neighbours of a normal number differ by one in its bits.
                        let shift = self.draw() % (2 * self.math_ulp + 1);
                        *x = x.wrapping_add(shift).wrapping_sub(self.math_ulp);
                    }
                }
                a
            }
            ExprKind::Lanes(op, run, a) => {
                self.converged(mask, "a lanes operation")?;
                let v = self.eval(*a, mask)?;
                self.fold_lanes(*op, d, v, n, *run as usize)
            }
            ExprKind::Subgroup(op, a) => {
                self.converged(mask, "a subgroup operation")?;
                let v = self.eval(*a, mask)?;
                self.subgroup(*op, d, v, n)?
            }
            ExprKind::GroupBroadcast(a) => {
                self.converged(mask, "group.bcast")?;
                let v = self.eval(*a, mask)?;
                (0..total).map(|i| v[i % n]).collect()
            }
            ExprKind::Mma(a, b, c) => self.mma(*a, *b, *c, mask)?,
            ExprKind::TileMap { tile, row, column, element, body } => {
                self.tile_map(*tile, *row, *column, *element, *body, mask)?
            }
        })
    }

    fn element(&self, at: i64, wide: usize) -> Result<usize, Diagnostic> {
        usize::try_from(at).ok().filter(|i| *i < wide).ok_or_else(|| {
            let message = "an element number is out of bounds";
            Diagnostic::new(554, message).expected(format!("0 <= element < {wide}")).found(at.to_string())
        })
    }

    fn lane_fn(&mut self, f: &LaneFn, n: usize) -> Result<SmallVec<[i64; 16]>, Diagnostic> {
        (0..n as i64)
            .map(|l| {
                self.vars[f.var.index()] = Indices::One(l);
                self.uniform(f.body)
            })
            .collect()
    }

    fn load(&mut self, place: &Place, otherwise: Option<ExprId>, mask: &[bool]) -> Result<Bits, Diagnostic> {
        let at = self.place_indices(place, mask)?;
        let n = usize::from(self.k.place_type(place).lanes());
        let count = match place.shape {
            Shape::First { count, .. } => self.indices(count, mask)?,
            _ => Indices::One(n as i64),
        };
        let mut out = match otherwise {
            Some(e) => self.eval(e, mask)?,
            None => Bits::from_elem(0, self.lanes * n),
        };
        for lane in (0..self.lanes).filter(|l| mask[*l]) {
            let who = self.toucher(place.memory, lane);
            let many = self.first(count.at(lane), n)?;
            let mut here: SmallVec<[i64; 4]> = at.iter().map(|i| i.at(lane)).collect();
            let array = self.array(place.memory)?;
            for e in 0..many {
                let offset = array.offset(&here)?;
                out[lane * n + e] = array.load(offset, &who)?;
                if let Some(last) = here.last_mut() {
                    *last += 1;
                }
            }
        }
        Ok(out)
    }

    /// The same bits, low elements first.
    fn reinterpret(&mut self, a: ExprId, to: Type, mask: &[bool]) -> Result<Bits, Diagnostic> {
        let from = self.k.expr(a).ty;
        let v = self.eval(a, mask)?;
        let width = |ty: Type| (ty.bits() / u64::from(ty.lanes())) as usize;
        let (narrow, wide) = (width(from).min(width(to)), width(from).max(width(to)));
        let parts = wide / narrow;
        let low = u64::MAX >> (64 - narrow);
        Ok(if width(from) == width(to) {
            v
        } else if width(from) > width(to) {
            v.iter().flat_map(|x| (0..parts).map(move |p| x >> (p * narrow) & low)).collect()
        } else {
            v.chunks_exact(parts).map(|c| c.iter().rev().fold(0, |x, part| x << narrow | part)).collect()
        })
    }

    fn dot(&mut self, terms: usize, acc: ExprId, a: ExprId, b: ExprId, mask: &[bool]) -> Result<Bits, Diagnostic> {
        let (da, db) = (self.k.expr(a).ty.dtype(), self.k.expr(b).ty.dtype());
        let mut acc = self.eval(acc, mask)?;
        let (a, b) = (self.eval(a, mask)?, self.eval(b, mask)?);
        let low_first = self.draw() & 1 == 0;
        for (i, sum) in acc.iter_mut().enumerate() {
            if terms == 2 {
                // Products of halves are exact in f32.
                let product = |j: usize| arith::f32_of(da, a[2 * i + j]) * arith::f32_of(db, b[2 * i + j]);
                let (first, second) = if low_first { (0, 1) } else { (1, 0) };
                let v = f32::from_bits(*sum as u32) + product(first) + product(second);
                *sum = u64::from(v.to_bits());
            } else {
                let v = (0..4).fold(*sum as u32 as i32, |s, j| {
                    let (x, y) = (scalar::to_i64(da, a[4 * i + j]), scalar::to_i64(db, b[4 * i + j]));
                    s.wrapping_add((x * y) as i32)
                });
                *sum = u64::from(v as u32);
            }
        }
        Ok(acc)
    }
}

impl Fault {
    fn diagnostic(self) -> Diagnostic {
        Diagnostic::new(
            557,
            match self {
                Fault::ZeroDivisor => "an integer is divided by 0",
                Fault::ShiftAmount => "a shift amount is not below the width",
            },
        )
    }
}
