//! Emission of loads and stores: which buffer a value lives in, and where in it.

use crate::lower::coord::Coord;
use crate::lower::elementwise::{self, compute};
use crate::lower::emit::{Binding, Emitter, Lowered, Refusal, home, is_free};
use mlxc_ir::graph::{Op, TensorType, ValueId};
use mlxc_ir::kernel::{Access, Buf, Ix, Val};
use mlxc_ir::{DType, Layout, Size};

impl<'k> Emitter<'k, '_> {
    /// The storage order of a value's memory.
    pub fn layout(&self, v: ValueId) -> Layout {
        match self.f.node(v).op {
            Op::Param(p) => self.target.layouts.get(&p).copied().unwrap_or_default(),
            _ => Layout::RowMajor,
        }
    }

    /// The memory a value lives in: versions of a state are one.
    pub fn home(&self, v: ValueId) -> ValueId {
        home(self.f, v)
    }

    /// Coordinates as they are stored.
    pub fn stored(&mut self, layout: Layout, coords: &[Coord]) -> Vec<Coord> {
        let Layout::Blocked { block, pair } = layout else { return coords.to_vec() };
        let n = coords.len();
        let (panel, row) = self.space.div_rem(&coords[n - 2], i64::from(block));
        let (column, neighbour) = self.space.div_rem(&coords[n - 1], i64::from(pair));
        let mut out = coords[..n - 2].to_vec();
        out.extend([panel, column, row.scale(i64::from(pair)).plus(&neighbour, 1)]);
        out
    }

    /// The kernel buffer of a value's memory, declared with `shape`.
    pub fn buffer(&mut self, v: ValueId, shape: &[Size], access: Access) -> Lowered<Buf<'k>> {
        let v = self.home(v);
        let key = (v, shape.to_vec());
        if let Some(b) = self.buffers.get(&key) {
            let known = self.bindings[b.id().index()].access;
            if known == access || (known == Access::Update && access == Access::Read) {
                return Ok(*b);
            }
            return Err(Refusal::new("read-write", format!("`{}` would be read and written", self.f.value_name(v))));
        }
        let f = self.f;
        let layout = self.layout(v);
        let mut extents = Vec::with_capacity(shape.len());
        if layout == Layout::RowMajor {
            for d in shape {
                extents.push(self.size(d)?);
            }
        } else {
            let plain: Option<Vec<u64>> = shape.iter().map(|d| d.as_const().map(|n| n as u64)).collect();
            let plain = plain.expect("only weights and states have storage orders, and their shapes are constant");
            extents.extend(layout.stored_shape(&plain).iter().map(|n| self.k.int(*n as i64)));
        }
        let b = self.k.buffer(&self.local_name(v), stored(f.ty(v).dtype), &extents, access);
        self.buffers.insert(key, b);
        self.bindings.push(Binding { value: v, access, scratch: None });
        Ok(b)
    }

    /// Memory of a value's own type that this kernel alone uses.
    pub(super) fn scratch(&mut self, v: ValueId) -> Lowered<Buf<'k>> {
        self.scratch_of(v, "scratch", self.f.ty(v).clone())
    }

    /// Memory of a type that this kernel alone uses, called after a value.
    pub(super) fn scratch_of(&mut self, v: ValueId, name: &str, ty: TensorType) -> Lowered<Buf<'k>> {
        let extents = ty.shape.iter().map(|d| self.size(d)).collect::<Lowered<Vec<_>>>()?;
        let b = self.k.buffer(&format!("{}_{name}", self.local_name(v)), ty.dtype, &extents, Access::Scratch);
        self.bindings.push(Binding { value: v, access: Access::Scratch, scratch: Some(ty) });
        Ok(b)
    }

    pub(super) fn load(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        let shape = self.f.ty(v).shape.clone();
        self.load_as(v, &shape, coords)
    }

    /// A reshape that is not affine is still free where the operand lies in memory: the buffer is declared anew.
    pub(super) fn load_reshaped(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        let f = self.f;
        let mut x = v;
        while let Op::Reshape { .. } = f.node(x).op {
            x = f.node(x).inputs[0];
        }
        let node = f.node(x);
        let in_memory = !self.region.contains(&x.node) && (!is_free(f, x.node) || matches!(node.op, Op::Param(_)));
        if !in_memory || self.layout(self.home(x)) != Layout::RowMajor {
            let name = f.value_name(v);
            return Err(Refusal::new(
                "reshape",
                format!("the reshape `{name}` of a computed value has no affine indices"),
            ));
        }
        self.load_as(x, &f.ty(v).shape.clone(), coords)
    }

    /// `count` neighbours along the last axis of a row-major value in memory.
    pub(super) fn load_run(&mut self, v: ValueId, coords: &[Coord], count: u8) -> Lowered<Val<'k>> {
        let ty = self.f.ty(v).clone();
        let buffer = self.buffer(v, &ty.shape, Access::Read)?;
        *self.loaded.entry(self.home(v)).or_default() += f64::from(count) * self.trips * ty.dtype.bytes() as f64;
        let at: Vec<Ix<'k>> = coords.iter().map(|c| self.ix(c)).collect();
        let place = buffer.at(&at);
        let value = if count == 1 { place.load() } else { place.vec(count).load() };
        Ok(self.k.let_(&self.local_name(v), value))
    }

    fn load_as(&mut self, v: ValueId, shape: &[Size], coords: &[Coord]) -> Lowered<Val<'k>> {
        let dtype = self.f.ty(v).dtype;
        let buffer = self.buffer(v, shape, Access::Read)?;
        let layout = self.layout(self.home(v));
        let stored = self.stored(layout, coords);
        let vector = self.is_vector(&stored);
        if vector && !self.is_contiguous(&stored) {
            return self.each_lane(coords, |e, c| {
                let key = (v, c.to_vec());
                if let Some(found) = e.scopes.iter().rev().find_map(|s| s.get(&key)) {
                    return Ok(*found);
                }
                e.load_as(v, shape, c)
            });
        }
        let lanes = if vector { f64::from(self.width) } else { 1.0 };
        *self.loaded.entry(self.home(v)).or_default() += lanes * self.trips * dtype.bytes() as f64;
        let base = self.base(&stored);
        let at: Vec<Ix<'k>> = base.iter().map(|c| self.ix(c)).collect();
        let place = buffer.at(&at);
        let raw = match (vector, self.tail) {
            (false, _) => place.load(),
            (true, None) => place.vec(self.width).load(),
            (true, Some(n)) => place.first(self.width, n).load(),
        };
        let value = match dtype {
            DType::Bool => {
                let zero = self.k.int_constant(0, DType::U8);
                raw.ne(if vector { zero.splat(self.width) } else { zero })
            }
            d => raw.cast(compute(d)),
        };
        Ok(self.k.let_(&format!("{}_v", self.local_name(v)), value))
    }

    /// True for results that the last-level cache cannot hold, whatever the sizes: who reads them finds them in memory,
    /// so a store need not fetch their lines first.
    fn streams(&self, home: ValueId, access: Access) -> bool {
        let cache = self.target.profile.caches.l3;
        let ty = self.f.ty(home);
        let least = |d: &Size| d.bounds(&self.ranges).lo.max(0) as f64;
        let bytes = ty.shape.iter().map(least).product::<f64>() * ty.dtype.bytes() as f64;
        access == Access::Write && cache > 0 && bytes > cache as f64
    }

    /// Stores a value in compute type at coordinates of `v`'s shape; lanes must be neighbours or are stored one by one.
    pub fn store(&mut self, v: ValueId, coords: &[Coord], value: Val<'k>, access: Access) -> Lowered<()> {
        let value = self.narrowed(value, self.f.ty(v).dtype);
        self.store_narrowed(v, coords, value, access)
    }

    /// A value in compute type as memory holds it.
    pub(super) fn narrowed(&self, value: Val<'k>, dtype: DType) -> Val<'k> {
        match dtype {
            DType::Bool => {
                let (one, zero) = (self.k.int_constant(1, DType::U8), self.k.int_constant(0, DType::U8));
                elementwise::select(value, one, zero)
            }
            d => value.cast(d),
        }
    }

    /// As [`Emitter::store`], of a value as memory holds it.
    pub(super) fn store_narrowed(
        &mut self,
        v: ValueId,
        coords: &[Coord],
        value: Val<'k>,
        access: Access,
    ) -> Lowered<()> {
        let home = self.home(v);
        let ty = self.f.ty(home).clone();
        let buffer = self.buffer(home, &ty.shape, access)?;
        let lanes = if self.is_vector(coords) { f64::from(self.width) } else { 1.0 };
        *self.loaded.entry(home).or_default() += lanes * self.trips * ty.dtype.bytes() as f64;
        let layout = self.layout(home);
        let stored = self.stored(layout, coords);
        if !self.is_vector(&stored) {
            let at: Vec<Ix<'k>> = stored.iter().map(|c| self.ix(c)).collect();
            buffer.at(&at).store(value);
            return Ok(());
        }
        let value = if value.ty().lanes() == 1 { value.splat(self.width) } else { value };
        if self.is_contiguous(&stored) {
            let base = self.base(&stored);
            let at: Vec<Ix<'k>> = base.iter().map(|c| self.ix(c)).collect();
            let place = buffer.at(&at);
            match self.tail {
                None if self.streams(home, access) => place.vec(self.width).store_nt(value),
                None => place.vec(self.width).store(value),
                Some(n) => place.first(self.width, n).store(value),
            }
            return Ok(());
        }
        let value = self.k.let_("lanes", value);
        let last = i64::from(self.width) - 1;
        self.k.for_("l", self.k.int(0), self.k.int(last + 1), 1, true, |l| {
            let lane = self.index(l, mlxc_ir::Range::new(0, last), 1);
            let at: Vec<Coord> = coords.iter().map(|c| self.space.substitute(c, self.lane, &lane)).collect();
            let at = self.stored(layout, &at);
            let at: Vec<Ix<'k>> = at.iter().map(|c| self.ix(c)).collect();
            let element = value.extract(l);
            match self.tail {
                None => buffer.at(&at).store(element),
                Some(n) => self.k.if_(l.lt(n), || buffer.at(&at).store(element)),
            }
        });
        Ok(())
    }
}

/// The type in which memory holds elements of a dtype.
pub(super) fn stored(dtype: DType) -> DType {
    if dtype == DType::Bool { DType::U8 } else { dtype }
}
