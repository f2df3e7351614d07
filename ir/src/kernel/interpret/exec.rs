//! Statements, for all lanes of a group at once.

use super::Machine;
use super::arith;
use super::eval::Indices;
use crate::Diagnostic;
use crate::kernel::types::*;
use smallvec::SmallVec;

/// Elements of every lane (or subgroup, for tiles), one after the other.
pub(super) type Bits = SmallVec<[u64; 16]>;

/// A local's registers: for each register each lane's elements.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) data: Bits,
    /// For each register and lane.
    pub(super) defined: SmallVec<[bool; 16]>,
}

pub(super) fn any(mask: &[bool]) -> bool {
    mask.iter().any(|on| *on)
}

impl<'k> Machine<'k> {
    pub(super) fn block(&mut self, block: &'k Block, mask: &[bool]) -> Result<(), Diagnostic> {
        for stmt in block {
            self.statement = Some(stmt);
            self.statements =
                self.statements.checked_sub(1).ok_or_else(|| Diagnostic::new(559, "the statement limit is reached"))?;
            self.stmt(stmt, mask)?;
        }
        Ok(())
    }

    /// Values a local or expression of this type has: one a lane, or one a subgroup.
    pub(super) fn holders(&self, ty: Type) -> usize {
        if ty.is_tile() { self.lanes.div_ceil(self.width) } else { self.lanes }
    }

    /// Elements of one value.
    pub(super) fn elements(ty: Type) -> usize {
        match ty {
            Type::Value { lanes, .. } => usize::from(lanes),
            Type::Tile { rows, columns, .. } => usize::from(rows) * usize::from(columns),
        }
    }

    pub(super) fn slot_registers(&self, id: LocalId) -> usize {
        match &self.k.local(id).kind {
            LocalKind::Reg(dims) => dims.iter().fold(1, |n: usize, d| n.saturating_mul(*d as usize)),
            _ => 1,
        }
    }

    fn fill(&mut self, id: LocalId, value: Option<&Bits>) -> Result<(), Diagnostic> {
        let ty = self.k.local(id).ty;
        let (registers, holders, n) = (self.slot_registers(id), self.holders(ty), Self::elements(ty));
        if registers.saturating_mul(holders * n) > 1 << 26 {
            return Err(Diagnostic::new(559, format!("`{}` is too large", self.k.local(id).name)));
        }
        let slot = &mut self.locals[id.index()];
        slot.data.clear();
        slot.defined.clear();
        slot.defined.resize(registers * holders, value.is_some());
        match value {
            Some(v) => (0..registers).for_each(|_| slot.data.extend_from_slice(v)),
            None => slot.data.resize(registers * holders * n, 0),
        }
        Ok(())
    }

    pub(super) fn register(&mut self, id: LocalId, at: &[IndexId]) -> Result<usize, Diagnostic> {
        let k = self.k;
        let LocalKind::Reg(dims) = &k.local(id).kind else { return Ok(0) };
        let mut register = 0;
        for (i, dim) in at.iter().zip(dims) {
            let v = self.uniform(*i)?;
            if v < 0 || v >= i64::from(*dim) {
                let message = format!("`{}`: index out of bounds", k.local(id).name);
                return Err(Diagnostic::new(554, message).expected(format!("0 <= index < {dim}")).found(v.to_string()));
            }
            register = register * *dim as usize + v as usize;
        }
        Ok(register)
    }

    fn stmt(&mut self, stmt: &'k Stmt, mask: &[bool]) -> Result<(), Diagnostic> {
        match stmt {
            Stmt::Let(local, e) => {
                let v = self.eval(*e, mask)?;
                self.fill(*local, Some(&v))?;
            }
            Stmt::LetIndex(var, i) => {
                let v = self.indices(*i, mask)?;
                self.vars[var.index()] = v;
            }
            Stmt::Declare(local, init) => {
                let v = match init {
                    Some(e) => Some(self.eval(*e, mask)?),
                    None => None,
                };
                self.fill(*local, v.as_ref())?;
            }
            Stmt::Set(local, at, e) => {
                let v = self.eval(*e, mask)?;
                let ty = self.k.local(*local).ty;
                let register = self.register(*local, at)?;
                let (holders, n) = (self.holders(ty), Self::elements(ty));
                let slot = &mut self.locals[local.index()];
                if slot.data.is_empty() {
                    return Err(Diagnostic::new(502, "a local is assigned where it is not declared"));
                }
                for h in (0..holders).filter(|h| ty.is_tile() || mask[*h]) {
                    let to = (register * holders + h) * n;
                    slot.data[to..to + n].copy_from_slice(&v[h * n..(h + 1) * n]);
                    slot.defined[register * holders + h] = true;
                }
            }
            Stmt::Store { place, value, .. } => {
                let v = self.eval(*value, mask)?;
                self.store(place, &v, mask)?;
            }
            Stmt::Atomic(op, place, e) => {
                let v = self.eval(*e, mask)?;
                let d = self.k.memory_dtype(place.memory);
                let at = self.place_indices(place, mask)?;
                for lane in (0..self.lanes).filter(|l| mask[*l]) {
                    let here: SmallVec<[i64; 4]> = at.iter().map(|i| i.at(lane)).collect();
                    let who = self.toucher(place.memory, lane);
                    let array = self.array(place.memory)?;
                    let offset = array.offset(&here)?;
                    array.update(offset, |old| arith::binary(op.binary(), d, old, v[lane]).unwrap_or(old), &who)?;
                }
            }
            // The address may be out of range; only its data values are read.
            Stmt::Prefetch(_) => {}
            Stmt::For { var, lo, hi, step, body, .. } => self.for_loop(*var, *lo, *hi, *step, body, mask)?,
            Stmt::If { cond, then, otherwise } => {
                let c = self.eval(*cond, mask)?;
                for (block, want) in [(then, 1), (otherwise, 0)] {
                    let inner: SmallVec<[bool; 16]> = mask.iter().zip(&c).map(|(on, c)| *on && *c == want).collect();
                    if any(&inner) {
                        self.block(block, &inner)?;
                    }
                }
            }
            Stmt::Barrier(scope) => {
                self.converged(mask, "a barrier")?;
                match scope {
                    BarrierScope::Group => self.who.interval += 1,
                    BarrierScope::Subgroup => self.who.subgroup_interval += 1,
                    BarrierScope::Buffers => {
                        self.who.interval += 1;
                        self.buffer_interval += 1;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn converged(&self, mask: &[bool], what: &str) -> Result<(), Diagnostic> {
        if mask.iter().all(|on| *on) {
            return Ok(());
        }
        let on = mask.iter().filter(|on| **on).count();
        Err(Diagnostic::new(555, format!("{what} is reached by {on} of {} lanes", self.lanes)))
    }

    fn for_loop(
        &mut self,
        var: VarId,
        lo: IndexId,
        hi: IndexId,
        step: i64,
        body: &'k Block,
        mask: &[bool],
    ) -> Result<(), Diagnostic> {
        let (lo, hi) = (self.indices(lo, mask)?, self.indices(hi, mask)?);
        let step = step.max(1);
        if let (Indices::One(lo), Indices::One(hi)) = (&lo, &hi) {
            let mut i = *lo;
            while i < *hi {
                self.vars[var.index()] = Indices::One(i);
                self.block(body, mask)?;
                i = i.saturating_add(step);
            }
            return Ok(());
        }
        let mut at: Vec<i64> = (0..self.lanes).map(|l| lo.at(l)).collect();
        loop {
            let inner: SmallVec<[bool; 16]> = (0..self.lanes).map(|l| mask[l] && at[l] < hi.at(l)).collect();
            if !any(&inner) {
                return Ok(());
            }
            self.vars[var.index()] = Indices::Many(at.clone().into());
            self.block(body, &inner)?;
            for i in &mut at {
                *i = i.saturating_add(step);
            }
        }
    }

    fn store(&mut self, place: &Place, v: &Bits, mask: &[bool]) -> Result<(), Diagnostic> {
        if let Shape::Tile(rows, columns) = place.shape {
            return self.store_tile(place, rows, columns, v, mask);
        }
        let at = self.place_indices(place, mask)?;
        let n = usize::from(self.k.place_type(place).lanes());
        let count = match place.shape {
            Shape::First { count, .. } => self.indices(count, mask)?,
            _ => Indices::One(n as i64),
        };
        for lane in (0..self.lanes).filter(|l| mask[*l]) {
            let who = self.toucher(place.memory, lane);
            let many = self.first(count.at(lane), n)?;
            let mut here: SmallVec<[i64; 4]> = at.iter().map(|i| i.at(lane)).collect();
            let array = self.array(place.memory)?;
            for e in 0..many {
                let offset = array.offset(&here)?;
                array.store(offset, v[lane * n + e], &who)?;
                if let Some(last) = here.last_mut() {
                    *last += 1;
                }
            }
        }
        Ok(())
    }

    pub(super) fn first(&self, count: i64, n: usize) -> Result<usize, Diagnostic> {
        usize::try_from(count).ok().filter(|c| *c <= n).ok_or_else(|| {
            Diagnostic::new(554, "`first` is out of bounds").expected(format!("0..={n}")).found(count.to_string())
        })
    }

    pub(super) fn place_indices(&mut self, place: &Place, mask: &[bool]) -> Result<SmallVec<[Indices; 4]>, Diagnostic> {
        place.at.iter().map(|i| self.indices(*i, mask)).collect()
    }
}
