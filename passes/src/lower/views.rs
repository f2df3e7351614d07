//! Emission of ops that say where an element is: views, windows, joins, pads, gathers.

use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Refusal};
use crate::lower::pull;
use mlxc_ir::graph::{Literal, Op, Role, ValueId};
use mlxc_ir::kernel::Val;
use mlxc_ir::{DType, Range, Size};

impl<'k> Emitter<'k, '_> {
    /// The index an index tensor holds at coordinates, clamped; `None` where lanes differ.
    pub(super) fn gathered(
        &mut self,
        x: ValueId,
        indices: ValueId,
        axis: usize,
        at: &[Coord],
    ) -> Lowered<Option<Coord>> {
        if self.is_vector(at) {
            return Ok(None);
        }
        let i = self.emit(indices, at)?;
        let extent = self.f.ty(x).shape[axis].clone();
        let signed = i.dtype().is_signed_int();
        let hi = self.size(&extent)?;
        // MLX counts negative indices from the end.
        let i = if signed {
            let n = hi.to_val(i.dtype());
            i.lt(self.k.int_constant(0, i.dtype())).select(i + n, i)
        } else {
            i
        };
        let i = self.k.let_("row", i);
        let ix = self.k.let_index("at", i.clamp_index(self.k.int(0), hi));
        let most = extent.bounds(&self.ranges).hi;
        Ok(Some(self.index(ix, Range::new(0, (most - 1).max(0)), 1)))
    }

    /// The coordinates of x that indices of one shape name; `None` where lanes differ. `at` is the place in the indices,
    /// `kept` the coordinates of the axes that are not indexed.
    pub(super) fn indexed(
        &mut self,
        x: ValueId,
        indices: &[ValueId],
        axes: &[u32],
        at: &[Coord],
        kept: &[Coord],
    ) -> Lowered<Option<Vec<Coord>>> {
        let mut rest = kept.iter();
        let mut out = Vec::with_capacity(axes.len() + kept.len());
        for i in 0..axes.len() + kept.len() {
            let Some(n) = axes.iter().position(|a| *a as usize == i) else {
                out.push(rest.next().expect("every kept axis has a coordinate").clone());
                continue;
            };
            match self.gathered(x, indices[n], i, at)? {
                Some(c) => out.push(c),
                None => return Ok(None),
            }
        }
        Ok(Some(out))
    }

    pub(super) fn gather_nd(&mut self, v: ValueId, axes: &[u32], coords: &[Coord]) -> Lowered<Val<'k>> {
        let node = self.f.node(v);
        let (at, kept) = coords.split_at(self.f.ty(node.inputs[1]).rank());
        match self.indexed(node.inputs[0], &node.inputs[1..], axes, at, kept)? {
            Some(c) => self.emit(node.inputs[0], &c),
            None => self.each_lane(coords, |e, c| e.emit(v, c)),
        }
    }

    /// A run-time window start, clamped so that the window fits.
    pub fn window_start(&mut self, start: ValueId, whole: &Size, window: &Size) -> Lowered<Coord> {
        let room = whole.clone() - window.clone();
        let most = room.bounds(&self.ranges).hi.max(0);
        // A host scalar proved in range needs no clamp.
        if let Some(Role::Scalar(id)) = self.f.param_of(start).map(|p| p.role) {
            let symbol = Size::symbol(id);
            let fits =
                self.ranges[id.0 as usize].lo >= 0 && (room.clone() - symbol.clone()).bounds(&self.ranges).lo >= 0;
            let required = self.f.requires.contains(&(room.clone() - symbol.clone()));
            if fits || required {
                return self.size_coord(&symbol).ok_or_else(|| Refusal::new("symbolic-product", "a symbol is affine"));
            }
        }
        let s = self.emit(start, &[])?;
        let s = if self.uniform { self.k.let_("same", s.group_broadcast()) } else { s };
        let hi = self.size(&(room + Size::constant(1)))?;
        let ix = self.k.let_index("start", s.clamp_index(self.k.int(0), hi));
        Ok(self.index(ix, Range::new(0, most), 1))
    }

    pub(super) fn view(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        let f = self.f;
        let node = f.node(v);
        let x = node.inputs[0];
        let from = &f.ty(x).shape;
        let c = match &node.op {
            Op::Broadcast { shape } => pull::broadcast(from, shape, coords),
            Op::Transpose { perm } => pull::transpose(perm, coords),
            Op::Reshape { shape } => match pull::reshape(&mut self.space, shape, from, coords) {
                Some(c) => c,
                None => return self.load_reshaped(v, coords),
            },
            Op::Slice { start, step, .. } => {
                let mut c = Vec::with_capacity(coords.len());
                for i in 0..coords.len() {
                    let s = self
                        .size_coord(&start[i])
                        .ok_or_else(|| Refusal::new("symbolic-product", "a slice starts at a product of symbols"))?;
                    c.push(s.plus(&coords[i], step[i]));
                }
                c
            }
            Op::Reverse { axes } => {
                let mut c = coords.to_vec();
                for a in axes {
                    let n = self
                        .size_coord(&from[*a as usize])
                        .ok_or_else(|| Refusal::new("symbolic-product", "a reversed extent is a product of symbols"))?;
                    c[*a as usize] = n.offset(-1).plus(&coords[*a as usize], -1);
                }
                c
            }
            Op::Windows { axes, strides, dilations, .. } => {
                let (at, within) = coords.split_at(from.len());
                let mut c = at.to_vec();
                for (i, a) in axes.iter().enumerate() {
                    let a = *a as usize;
                    c[a] = at[a].scale(strides[i]).plus(&within[i], dilations[i]);
                }
                c
            }
            Op::DynamicSlice { axes, sizes } => {
                let mut c = coords.to_vec();
                for (i, a) in axes.iter().enumerate() {
                    let a = *a as usize;
                    let s = self.window_start(node.inputs[1 + i], &from[a], &sizes[a])?;
                    c[a] = s.plus(&coords[a], 1);
                }
                c
            }
            _ => unreachable!("only views are pulled"),
        };
        self.emit(x, &c)
    }

    pub(super) fn concat(&mut self, v: ValueId, axis: usize, coords: &[Coord]) -> Lowered<Val<'k>> {
        let f = self.f;
        let node = f.node(v);
        if self.is_vector(&coords[axis..=axis]) {
            return self.each_lane(coords, |e, c| e.emit(v, c));
        }
        let mut starts = vec![Coord::constant(0)];
        for x in &node.inputs {
            let n = self.size_coord(&f.ty(*x).shape[axis]);
            let n = n.ok_or_else(|| Refusal::new("symbolic-product", "a joined extent is a product of symbols"))?;
            let next = starts.last().expect("one start").plus(&n, 1);
            starts.push(next);
        }
        let inside: Vec<Option<bool>> =
            (0..node.inputs.len()).map(|i| self.within(&coords[axis], &starts[i], &starts[i + 1])).collect();
        if let Some(i) = inside.iter().position(|x| *x == Some(true)) {
            let mut at = coords.to_vec();
            at[axis] = at[axis].plus(&starts[i], -1);
            return self.emit(node.inputs[i], &at);
        }
        let zero = self.zero(node.types[0].dtype, self.is_vector(coords));
        let out = self.k.var("joined", zero);
        let mut result = Ok(());
        for (i, x) in node.inputs.iter().enumerate().filter(|(i, _)| inside[*i].is_none()) {
            let (lo, hi) = (self.ix(&starts[i]), self.ix(&starts[i + 1]));
            let c = self.ix(&coords[axis]);
            let inside = if i == 0 { c.lt(hi) } else { c.ge(lo) & c.lt(hi) };
            let mut at = coords.to_vec();
            at[axis] = at[axis].plus(&starts[i], -1);
            self.k.if_(inside, || {
                let value = self.guarded(*x, &at);
                match value {
                    Ok(v) => out.set(self.fit(v, zero)),
                    Err(r) => result = Err(r),
                }
            });
        }
        result.map(|()| self.k.let_("part", out.get()))
    }

    /// Whether `lo <= c < hi`, where ranges tell.
    fn within(&self, c: &Coord, lo: &Coord, hi: &Coord) -> Option<bool> {
        let (above, below) = (self.space.range(&c.plus(lo, -1)), self.space.range(&hi.plus(c, -1)));
        if above.lo >= 0 && below.lo >= 1 {
            Some(true)
        } else if above.hi < 0 || below.hi < 1 {
            Some(false)
        } else {
            None
        }
    }

    /// The elements of `x` where every listed axis is in its window, `otherwise` elsewhere. Axes are given as
    /// (axis, first, end); coordinates inside are relative to the first.
    fn windowed(
        &mut self,
        x: ValueId,
        coords: &[Coord],
        axes: &[(usize, Coord, Coord)],
        otherwise: Val<'k>,
    ) -> Lowered<Val<'k>> {
        let mut at = coords.to_vec();
        let mut open = Vec::new();
        for (i, lo, hi) in axes {
            at[*i] = coords[*i].plus(lo, -1);
            match self.within(&coords[*i], lo, hi) {
                Some(true) => {}
                Some(false) => return Ok(otherwise),
                None => open.push((coords[*i].clone(), lo, hi)),
            }
        }
        let mut condition: Option<Val<'k>> = None;
        for (c, lo, hi) in open {
            let (c, lo, hi) = (self.ix(&c), self.ix(lo), self.ix(hi));
            let here = c.ge(lo) & c.lt(hi);
            condition = Some(condition.map_or(here, |w| w & here));
        }
        let Some(condition) = condition else { return self.emit(x, &at) };
        let out = self.k.var("element", otherwise);
        let mut result = Ok(());
        self.k.if_(condition, || match self.guarded(x, &at) {
            Ok(v) => out.set(self.fit(v, otherwise)),
            Err(r) => result = Err(r),
        });
        result.map(|()| self.k.let_("chosen", out.get()))
    }

    fn zero(&self, dtype: DType, vector: bool) -> Val<'k> {
        let z = self.literal(Literal::Int(0), dtype);
        if vector { z.splat(self.width) } else { z }
    }

    fn fit(&self, v: Val<'k>, like: Val<'k>) -> Val<'k> {
        if v.ty().lanes() == like.ty().lanes() { v } else { v.splat(like.ty().lanes()) }
    }

    pub(super) fn pad(&mut self, v: ValueId, coords: &[Coord]) -> Lowered<Val<'k>> {
        let f = self.f;
        let node = f.node(v);
        let Op::Pad { low, high, value } = &node.op else { unreachable!("only pads are padded") };
        let x = node.inputs[0];
        let padded: Vec<usize> = (0..coords.len()).filter(|i| low[*i] != 0 || high[*i] != 0).collect();
        if padded.iter().any(|i| self.is_vector(&coords[*i..=*i])) {
            return self.each_lane(coords, |e, c| e.emit(v, c));
        }
        let mut fill = self.literal(*value, node.types[0].dtype);
        if self.is_vector(coords) {
            fill = fill.splat(self.width);
        }
        let mut axes = Vec::new();
        for i in padded {
            let n = self.size_coord(&f.ty(x).shape[i]);
            let n = n.ok_or_else(|| Refusal::new("symbolic-product", "a padded extent is a product of symbols"))?;
            axes.push((i, Coord::constant(low[i]), n.offset(low[i])));
        }
        self.windowed(x, coords, &axes, fill)
    }

    pub(super) fn slice_update(&mut self, v: ValueId, axes: &[u32], coords: &[Coord]) -> Lowered<Val<'k>> {
        let f = self.f;
        if self.home(v) != v {
            return Err(Refusal::new("state", format!("`{}` is read by the kernel that writes it", f.value_name(v))));
        }
        let node = f.node(v);
        let (x, update) = (node.inputs[0], node.inputs[1]);
        let (whole, window) = (f.ty(x).shape.clone(), f.ty(update).shape.clone());
        let partial: Vec<usize> = (0..coords.len()).filter(|i| whole[*i] != window[*i]).collect();
        if partial.is_empty() {
            return self.emit(update, coords);
        }
        if partial.iter().any(|i| self.is_vector(&coords[*i..=*i])) {
            return self.each_lane(coords, |e, c| e.emit(v, c));
        }
        let old = self.emit(x, coords)?;
        let old = self.fit(old, self.zero(node.types[0].dtype, self.is_vector(coords)));
        let mut places = Vec::new();
        for i in partial {
            let start = match axes.iter().position(|a| *a as usize == i) {
                Some(p) => self.window_start(node.inputs[2 + p], &whole[i], &window[i])?,
                None => Coord::constant(0),
            };
            let n = self.size_coord(&window[i]);
            let n = n.ok_or_else(|| Refusal::new("symbolic-product", "a window extent is a product of symbols"))?;
            let end = start.plus(&n, 1);
            places.push((i, start, end));
        }
        self.windowed(update, coords, &places, old)
    }
}
