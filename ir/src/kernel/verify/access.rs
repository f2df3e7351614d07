//! Accesses and the expressions around them: modes, ranges, alignment, uniformity.

use super::linear::{Linear, gcd};
use super::{LocalState, Named, VarState, Verifier, types};
use crate::kernel::types::*;

/// What an access does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Load,
    Store,
    Atomic,
    Prefetch,
}

impl Verifier<'_> {
    /// Verifies an expression.
    pub(super) fn value(&mut self, id: ExprId) {
        let k = self.k;
        if let Some(message) = types::mistyped(k, id) {
            self.report(503, message);
        }
        let e = k.expr(id);
        match &e.kind {
            ExprKind::TileMap { tile, row, column, element, body } => {
                self.value(*tile);
                self.collective("tile.map");
                self.needs_width();
                let (rows, columns) = match e.ty {
                    Type::Tile { rows, columns, .. } => (rows, columns),
                    Type::Value { .. } => (1, 1),
                };
                let mut scope = self.open();
                for (var, extent) in [(*row, rows), (*column, columns)] {
                    let form = self.prover.atom(k.var_name(var).to_string(), 0, i64::from(extent) - 1);
                    self.declare_var(&mut scope, var, VarState { form, varies: true, constant: false });
                }
                self.declare_local(&mut scope, *element, LocalState { varies: true, value: None });
                let outer = std::mem::replace(&mut self.divergent, true);
                self.value(*body);
                self.divergent = outer;
                self.close(scope);
                return;
            }
            ExprKind::Get(local, at) => self.local_access(*local, at, false),
            ExprKind::Arg(a) => {
                let name = &k.args[a.index()].name;
                if !self.visible(name, Named::Arg(*a)) {
                    self.hidden(name.to_string());
                }
            }
            ExprKind::FromIndex(i) => {
                self.linear(*i);
            }
            ExprKind::CompareIndex(_, a, b) => {
                for i in [a, b] {
                    let form = self.linear(*i);
                    self.not_negative(*i, &form);
                }
            }
            ExprKind::Load(place, _) => self.access(place, Use::Load),
            ExprKind::LoadTile { place, .. } => {
                self.collective("a tile load");
                self.needs_width();
                self.access(place, Use::Load);
            }
            ExprKind::Extract(v, i) => {
                let form = self.linear(*i);
                self.element_index(*i, &form, k.expr(*v).ty.lanes());
            }
            ExprKind::Table(f) => self.lane_fn(f, e.ty.lanes(), None),
            ExprKind::Shuffle(v, f) => self.lane_fn(f, e.ty.lanes(), Some(k.expr(*v).ty.lanes())),
            ExprKind::Lanes(op, n, _) => {
                self.collective(&format!("lanes.{}", op.name()));
                if !n.is_power_of_two() || !self.lanes.is_multiple_of(*n) {
                    let message = format!("runs of {n} lanes do not divide a group of {}", self.lanes);
                    self.report(532, message);
                }
            }
            ExprKind::Subgroup(..) => {
                self.collective("a subgroup operation");
                if self.subgroup == Subgroup::None {
                    self.report(533, "a subgroup operation needs a phase with a subgroup width".into());
                }
            }
            ExprKind::GroupBroadcast(_) => self.collective("group.bcast"),
            ExprKind::Mma(..) => {
                self.collective("mma");
                self.needs_width();
            }
            _ => {}
        }
        let kind = &e.kind;
        let mut operands = smallvec::SmallVec::<[ExprId; 4]>::new();
        kind.operands(&mut |x| operands.push(x));
        for x in operands {
            self.value(x);
        }
    }

    pub(super) fn collective(&mut self, what: &str) {
        if self.divergent {
            self.report(531, format!("{what} in control flow that differs between lanes"));
        }
    }

    pub(super) fn needs_width(&mut self) {
        // A group of one lane is its own subgroup.
        if self.lanes != 1 && !matches!(self.subgroup, Subgroup::Fixed(_)) {
            self.report(533, "matrix tiles need a phase with a fixed subgroup width".into());
        }
    }

    fn element_index(&mut self, id: IndexId, form: &Linear, lanes: u8) {
        if !self.is_constant(id) {
            self.report(513, format!("`{}` is not constant after unrolling", self.show_index(id)));
        }
        self.within(form, 1, &Linear::constant(i64::from(lanes)), &format!("element `{}`", self.show_index(id)), id);
    }

    fn lane_fn(&mut self, f: &LaneFn, lanes: u8, source: Option<u8>) {
        let mut scope = self.open();
        let form = self.prover.atom(self.k.var_name(f.var).to_string(), 0, i64::from(lanes) - 1);
        self.declare_var(&mut scope, f.var, VarState { form, varies: false, constant: true });
        let form = self.linear(f.body);
        match source {
            Some(source) => self.element_index(f.body, &form, source),
            None => {
                if !self.is_constant(f.body) {
                    self.report(513, format!("`{}` is not constant after unrolling", self.show_index(f.body)));
                }
            }
        }
        self.close(scope);
    }

    /// Proves 0 <= form and form + width <= extent.
    fn within(&mut self, form: &Linear, width: i64, extent: &Linear, what: &str, id: IndexId) {
        if self.errors.len() >= self.most {
            return;
        }
        if !self.prover.prove(form) {
            self.unproved(522, format!("{what} may be negative"), format!("{} >= 0", self.show_index(id)), form);
        }
        let room = extent.combine(1, form, -1).and_then(|f| f.plus(-width)).unwrap_or(Linear::constant(-1));
        if !self.prover.prove(&room) {
            let needed = format!("{} + {width} <= {}", self.show_index(id), self.prover.show(extent));
            self.unproved(523, format!("{what} may exceed its extent"), needed, &room);
        }
    }

    pub(super) fn local_access(&mut self, id: LocalId, at: &[IndexId], store: bool) {
        let k = self.k;
        let local = k.local(id);
        if self.local(id).is_none() {
            self.hidden(local.name.to_string());
        }
        let dims: &[u32] = match &local.kind {
            LocalKind::Reg(dims) => dims,
            _ => &[],
        };
        if store && matches!(local.kind, LocalKind::Let | LocalKind::TileElement) {
            self.report(510, format!("`{}` cannot be assigned", local.name));
        }
        if dims.len() != at.len() {
            self.report(511, format!("`{}` has {} axes, not {}", local.name, dims.len(), at.len()));
            return;
        }
        for (i, dim) in at.iter().zip(dims) {
            let form = self.linear(*i);
            if !self.is_constant(*i) {
                let text = self.show_index(*i);
                self.report(513, format!("`{}[{text}]`: not constant after unrolling", local.name));
            }
            let extent = Linear::constant(i64::from(*dim));
            self.within(&form, 1, &extent, &format!("index of `{}`", local.name), *i);
        }
    }

    pub(super) fn access(&mut self, place: &Place, usage: Use) {
        let k = self.k;
        let name = k.memory_name(place.memory);
        if !self.visible(name, Named::Memory(place.memory)) {
            self.hidden(name.to_string());
            return;
        }
        self.mode(place, usage, name);
        let rank = k.memory_rank(place.memory);
        let wide = match place.shape {
            Shape::Tile(..) => 2,
            Shape::Vector(_) | Shape::First { .. } => 1,
            Shape::One => 0,
        };
        if rank != place.at.len() || rank < wide {
            self.report(511, format!("`{name}` has {rank} axes, not {}", place.at.len()));
            return;
        }
        if let Shape::Vector(n) | Shape::First { lanes: n, .. } = place.shape
            && (n < 2 || !Type::lanes_allowed(u64::from(n)))
        {
            self.report(525, format!("vectors of {n} do not exist"));
        }
        let forms: Vec<Linear> = place.at.iter().map(|i| self.linear(*i)).collect();
        let count = match place.shape {
            Shape::First { lanes, count } => Some((self.linear(count), count, lanes)),
            _ => None,
        };
        let extents = match place.memory {
            Memory::Buffer(b) => self.extents[b.index()].clone(),
            Memory::Group(g) => self.group_extents.get(&g).cloned().unwrap_or_default(),
        };
        if let Some((form, id, lanes)) = &count {
            self.first(form, *id, *lanes);
        }
        if usage == Use::Prefetch {
            return;
        }
        for (axis, (form, extent)) in forms.iter().zip(&extents).enumerate() {
            let last = axis + 1 == rank;
            let width = match place.shape {
                Shape::Vector(n) if last => i64::from(n),
                Shape::Tile(r, _) if axis + 2 == rank => i64::from(r),
                Shape::Tile(_, c) if last => i64::from(c),
                Shape::First { .. } if last => 0,
                _ => 1,
            };
            let id = place.at[axis];
            let what = format!("`{name}`, axis {axis}");
            match &count {
                Some((count, ..)) if last => {
                    let end = form.combine(1, count, 1).unwrap_or(Linear::constant(i64::MAX));
                    if !self.prover.prove(form) {
                        let needed = format!("{} >= 0", self.show_index(id));
                        self.unproved(522, format!("{what}: may be negative"), needed, form);
                    }
                    let room = extent.combine(1, &end, -1).unwrap_or(Linear::constant(-1));
                    if !self.prover.prove(&room) {
                        let needed = format!("{} <= {}", self.prover.show(&end), self.prover.show(extent));
                        self.unproved(523, format!("{what}: may exceed its extent"), needed, &room);
                    }
                }
                _ => self.within(form, width, extent, &what, id),
            }
        }
        self.align(place, &forms, &extents);
    }

    fn first(&mut self, form: &Linear, id: IndexId, lanes: u8) {
        let room = Linear::constant(i64::from(lanes)).combine(1, form, -1).unwrap_or(Linear::constant(-1));
        for part in [form, &room] {
            if !self.prover.prove(part) {
                let text = self.show_index(id);
                let needed = format!("0 <= {text} <= {lanes}");
                self.unproved(524, format!("`first {text}` may leave 0..={lanes}"), needed, part);
            }
        }
    }

    fn mode(&mut self, place: &Place, usage: Use, name: &str) {
        let (access, atomic) = match place.memory {
            Memory::Buffer(b) => (self.k.buffer(b).access, self.k.buffer(b).atomic),
            Memory::Group(g) => (Access::Scratch, self.k.group(g).atomic),
        };
        let wrong = match usage {
            Use::Load => access == Access::Write,
            Use::Store | Use::Atomic => access == Access::Read,
            Use::Prefetch => false,
        };
        if wrong {
            let verb = if usage == Use::Load { "loaded" } else { "stored" };
            self.report(510, format!("`{name}` is {} and cannot be {verb}", access.name()));
        }
        match usage {
            Use::Atomic if !atomic => self.report(512, format!("`{name}` is not declared atomic")),
            Use::Atomic if place.shape != Shape::One => self.report(512, "atomics take one element".into()),
            Use::Store if atomic && matches!(place.memory, Memory::Buffer(_)) => {
                self.report(512, format!("`{name}` is atomic: a plain store does not mix"));
            }
            _ => {}
        }
    }

    /// Bytes that divide the address: of each axis, what divides its index times the extents after it.
    fn align(&mut self, place: &Place, forms: &[Linear], extents: &[Linear]) {
        let (mut stride, mut divisor) = (1i64, 256);
        for (form, extent) in forms.iter().zip(extents).rev() {
            divisor = gcd(divisor, self.prover.divisor(form).saturating_mul(stride));
            // Alignment beyond 256 bytes is of no use, so the stride need not grow.
            stride = gcd(256, stride.saturating_mul(self.prover.divisor(extent)));
        }
        let bytes = self.k.memory_dtype(place.memory).bytes() as i64;
        let bytes = u32::try_from(gcd(256, divisor.saturating_mul(bytes))).unwrap_or(1);
        let known = self.facts.alignment.entry(place.clone()).or_insert(bytes);
        *known = (*known).min(bytes);
    }

    /// True if the value may differ between the lanes of a group.
    pub(super) fn varies(&self, id: ExprId) -> bool {
        if self.lanes <= 1 {
            return false;
        }
        let kind = &self.k.expr(id).kind;
        match kind {
            ExprKind::GroupBroadcast(_) => false,
            // What lint rules of targets take for uniform: never a load, never a subgroup's value.
            ExprKind::Load(..)
            | ExprKind::LoadTile { .. }
            | ExprKind::Lanes(..)
            | ExprKind::Subgroup(..)
            | ExprKind::Mma(..)
            | ExprKind::TileMap { .. } => true,
            ExprKind::Get(local, _) => self.locals[local.index()].is_none_or(|s| s.varies),
            _ => {
                let mut varies = false;
                kind.operands(&mut |x| varies |= self.varies(x));
                match kind {
                    ExprKind::FromIndex(i) => self.index_varies(*i),
                    ExprKind::CompareIndex(_, a, b) => self.index_varies(*a) || self.index_varies(*b),
                    _ => varies,
                }
            }
        }
    }
}
