//! Statements: structured control flow as basic blocks, variables as stack slots that sroa turns into registers.

use inkwell::AtomicRMWBinOp;
use inkwell::IntPredicate;
use inkwell::values::{IntValue, PointerValue};
use mlxc_ir::DType;
use mlxc_ir::kernel::{ExprId, FoldOp, IndexId, LocalId, LocalKind, Stmt};

use super::phase::Writer;

impl<'c> Writer<'_, 'c> {
    pub(super) fn block(&mut self, block: &[Stmt]) {
        let tiles = self.tiles.used;
        for stmt in block {
            if !self.tile(stmt) {
                self.stmt(stmt);
            }
        }
        self.tiles.used = tiles;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(local, value) => {
                let value = self.value(*value);
                self.lets.insert(*local, value);
            }
            Stmt::LetIndex(var, value) => {
                let value = self.index(*value);
                self.vars.insert(*var, value);
            }
            Stmt::Declare(local, value) => self.declare(*local, *value),
            Stmt::Set(local, at, value) => {
                let value = self.value(*value);
                let slot = self.slot(*local, at);
                self.emit.builder_store(slot, value);
            }
            Stmt::Store { place, value, nontemporal } => self.store(place, *value, *nontemporal),
            Stmt::Atomic(op, place, value) => {
                let signed = self.kernel().expr(*value).ty.dtype() == DType::I32;
                self.atomic(atomic_op(*op, signed), place, *value);
            }
            Stmt::Prefetch(place) => self.prefetch(place),
            Stmt::For { var, lo, hi, step, unroll: true, body } => {
                let (lo, hi) = (self.constant_index(*lo), self.constant_index(*hi));
                for i in (lo..hi).step_by(*step as usize) {
                    self.vars.insert(*var, self.emit.index(i));
                    self.block(body);
                }
            }
            Stmt::For { var, lo, hi, step, unroll: false, body } => {
                let (lo, hi) = (self.index(*lo), self.index(*hi));
                self.repeat(lo, hi, *step, |writer, i| {
                    writer.vars.insert(*var, i);
                    writer.block(body);
                });
            }
            Stmt::If { cond, then, otherwise } => self.branch(*cond, then, otherwise),
            Stmt::Barrier(_) => panic!("invariant: legalise leaves no barriers on CPUs"),
        }
    }

    /// A value that unrolling has made constant.
    pub(super) fn constant_index(&mut self, id: IndexId) -> i64 {
        self.index(id)
            .get_sign_extended_constant()
            .expect("invariant: the verifier proved the index constant after unrolling")
    }

    fn declare(&mut self, local: LocalId, value: Option<ExprId>) {
        let value = value.map(|e| self.value(e));
        let declared = self.kernel().local(local);
        let registers = match &declared.kind {
            LocalKind::Reg(dims) => dims.iter().product::<u32>() as usize,
            _ => 1,
        };
        let kind = self.kind(declared.ty);
        if !self.storage.contains_key(&local) {
            // A slot an element: sroa then has no array to split.
            let slots = (0..registers).map(|_| self.emit.slot(self.slots, kind)).collect();
            self.storage.insert(local, slots);
        }
        if let Some(value) = value {
            for slot in &self.storage[&local] {
                self.emit.builder_store(*slot, value);
            }
        }
    }

    /// The slot of a variable, or of one register of an array.
    pub(super) fn slot(&mut self, local: LocalId, at: &[IndexId]) -> PointerValue<'c> {
        let number = self.register_number(local, at);
        let slots = self.storage.get(&local).expect("invariant: the verifier found the variable declared");
        slots[number]
    }

    /// Which register of an array is meant; 0 of a variable.
    pub(super) fn register_number(&mut self, local: LocalId, at: &[IndexId]) -> usize {
        let at: Vec<i64> = at.iter().map(|i| self.constant_index(*i)).collect();
        match &self.kernel().local(local).kind {
            LocalKind::Reg(dims) => at.iter().zip(dims).fold(0, |n, (i, d)| n * i64::from(*d) + i) as usize,
            _ => 0,
        }
    }

    /// `for i in lo..hi step c`.
    pub(super) fn repeat(
        &mut self,
        lo: IntValue<'c>,
        hi: IntValue<'c>,
        step: i64,
        body: impl FnOnce(&mut Self, IntValue<'c>),
    ) {
        let emit = self.emit;
        let before = emit.current_block();
        let head = emit.new_block(self.function);
        let inside = emit.new_block(self.function);
        let after = emit.new_block(self.function);
        emit.branch(head);
        emit.builder.position_at_end(head);
        let counter = emit.phi(emit.i64());
        counter.add_incoming(&[(&lo, before)]);
        let i = counter.as_basic_value().into_int_value();
        let more = emit.compare_ints(IntPredicate::SLT, i.into(), hi.into());
        emit.branch_if(more.into_int_value(), inside, after);
        emit.builder.position_at_end(inside);
        body(self, i);
        let next = emit.add(i, emit.index(step));
        counter.add_incoming(&[(&next, emit.current_block())]);
        emit.branch(head);
        emit.builder.position_at_end(after);
    }

    fn branch(&mut self, cond: ExprId, then: &[Stmt], otherwise: &[Stmt]) {
        let emit = self.emit;
        let cond = self.value(cond).into_int_value();
        let yes = emit.new_block(self.function);
        let no = if otherwise.is_empty() { None } else { Some(emit.new_block(self.function)) };
        let after = emit.new_block(self.function);
        emit.branch_if(cond, yes, no.unwrap_or(after));
        emit.builder.position_at_end(yes);
        self.block(then);
        emit.branch(after);
        if let Some(no) = no {
            emit.builder.position_at_end(no);
            self.block(otherwise);
            emit.branch(after);
        }
        emit.builder.position_at_end(after);
    }
}

fn atomic_op(op: FoldOp, signed: bool) -> AtomicRMWBinOp {
    match (op, signed) {
        (FoldOp::Add, _) => AtomicRMWBinOp::Add,
        (FoldOp::Min, true) => AtomicRMWBinOp::Min,
        (FoldOp::Min, false) => AtomicRMWBinOp::UMin,
        (FoldOp::Max, true) => AtomicRMWBinOp::Max,
        (FoldOp::Max, false) => AtomicRMWBinOp::UMax,
        (FoldOp::And, _) => AtomicRMWBinOp::And,
        (FoldOp::Or, _) => AtomicRMWBinOp::Or,
        (FoldOp::Xor, _) => AtomicRMWBinOp::Xor,
    }
}
