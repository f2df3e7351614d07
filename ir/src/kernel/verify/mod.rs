//! The verifier: types, scopes, access modes, uniform control flow, and a proof that every access is in range.
//!
//! It decides nothing about targets. What only running can show (races, undefined memory) the interpreter finds.

mod access;
mod index;
mod linear;
mod prove;
mod types;

use super::index::Builtin;
use super::ops::{BinaryOp, Comparison, FoldOp, UnaryOp};
use super::print::print_statement;
use super::types::*;
use crate::Diagnostic;
use linear::Linear;
use mlxc_package::DType;
use prove::{Mark, Prover};
use std::collections::HashMap;

/// Statements of one phase after unrolling.
pub const STATEMENT_CAP: u64 = 4096;
/// Registers of one `reg`.
const REGISTER_CAP: u64 = 4096;
/// Diagnostics reported for one kernel.
const DIAGNOSTIC_CAP: usize = 16;

/// What was proved of a kernel besides that it is correct.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    alignment: HashMap<Place, u32>,
    statements: Vec<u64>,
}

impl Facts {
    /// Bytes, a power of two up to 256, that divide the address of an access of the kernel; at least the size of an
    /// element.
    pub fn alignment(&self, place: &Place) -> u32 {
        self.alignment.get(place).copied().unwrap_or(1)
    }

    /// Statements of each phase after unrolling, in the order of [`Kernel::phases`].
    pub fn statements(&self) -> &[u64] {
        &self.statements
    }
}

/// Verifies a kernel.
///
/// # Errors
/// `MLXC0502` a name that does not reach its declaration, `0503` types, `0510` access mode, `0511` axes, `0512` atomic
/// mixing, `0513` an index that is not constant after unrolling, `0520` not affine, `0521` divisor, `0522` may be
/// negative, `0523` may exceed, `0524` `first n`, `0525` width, `0526` unrolling, `0527` `require` that cannot hold,
/// `0528` too many registers, `0530` barrier and `0531` collective in divergent flow, `0532` cluster, `0533` no subgroup width.
pub fn verify(kernel: &Kernel) -> Result<Facts, Vec<Diagnostic>> {
    let (facts, errors) = examine(kernel, DIAGNOSTIC_CAP);
    if errors.is_empty() { Ok(facts) } else { Err(errors) }
}

/// As [`verify`], with the first error alone: where many kernels are tried, a wrong one costs little.
///
/// # Errors
/// As [`verify`].
pub fn check(kernel: &Kernel) -> Result<(), Diagnostic> {
    examine(kernel, 1).1.into_iter().next().map_or(Ok(()), Err)
}

/// What can be proved of a kernel, whether or not it is correct: passes make more statements of a correct kernel than
/// authors may write.
pub fn facts(kernel: &Kernel) -> Facts {
    examine(kernel, usize::MAX).0
}

fn examine(kernel: &Kernel, most: usize) -> (Facts, Vec<Diagnostic>) {
    let mut v = Verifier {
        k: kernel,
        prover: Prover::default(),
        forms: HashMap::new(),
        form_log: Vec::new(),
        vars: vec![None; kernel.vars.len()],
        locals: vec![None; kernel.locals.len()],
        names: HashMap::new(),
        declared: Vec::new(),
        builtins: [const { None }; 4],
        extents: Vec::new(),
        group_extents: HashMap::new(),
        lanes: 1,
        subgroup: Subgroup::None,
        divergent: false,
        phase: None,
        statement: None,
        facts: Facts::default(),
        errors: Vec::new(),
        most,
    };
    v.kernel();
    (v.facts, v.errors)
}

#[derive(Clone)]
struct VarState {
    form: Linear,
    /// Differs between lanes.
    varies: bool,
    /// Constant after unrolling.
    constant: bool,
}

#[derive(Clone, Copy)]
struct LocalState {
    varies: bool,
    /// What a `let` is bound to.
    value: Option<ExprId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Var(VarId),
    Local(LocalId),
    Arg(ArgId),
    Memory(Memory),
}

struct Verifier<'k> {
    k: &'k Kernel,
    prover: Prover,
    forms: HashMap<IndexId, Linear>,
    form_log: Vec<IndexId>,
    vars: Vec<Option<VarState>>,
    locals: Vec<Option<LocalState>>,
    names: HashMap<&'k str, Vec<Named>>,
    /// Names in order of declaration, to take them back.
    declared: Vec<&'k str>,
    builtins: [Option<Linear>; 4],
    extents: Vec<Vec<Linear>>,
    group_extents: HashMap<GroupId, Vec<Linear>>,
    lanes: u32,
    subgroup: Subgroup,
    /// In control flow that differs between lanes.
    divergent: bool,
    phase: Option<&'k str>,
    statement: Option<&'k Stmt>,
    facts: Facts,
    errors: Vec<Diagnostic>,
    /// Errors after which nothing more is looked at.
    most: usize,
}

/// What a scope has to take back.
struct Scope {
    mark: Mark,
    forms: usize,
    declared: usize,
    /// Forms set aside because a name was hidden.
    saved: Option<HashMap<IndexId, Linear>>,
}

impl<'k> Verifier<'k> {
    fn report(&mut self, id: u16, message: String) {
        self.push(Diagnostic::new(id, message));
    }

    fn push(&mut self, mut d: Diagnostic) {
        if self.errors.len() >= DIAGNOSTIC_CAP {
            return;
        }
        let phase = self.phase.map_or(String::new(), |p| format!(", phase `{p}`"));
        d = d.note(format!("in kernel `{}`{phase}", self.k.name));
        if let Some(stmt) = self.statement {
            d = d.note(format!("at `{}`", print_statement(self.k, stmt)));
        }
        if !self.errors.contains(&d) {
            self.errors.push(d);
        }
    }

    fn unproved(&mut self, id: u16, message: String, needed: String, form: &Linear) {
        let mut d =
            Diagnostic::new(id, message).expected(needed).found(format!("no proof of {} >= 0", self.prover.show(form)));
        for fact in self.prover.relevant(form) {
            d = d.note(format!("known: {fact}"));
        }
        self.push(d);
    }

    fn show_index(&self, id: IndexId) -> String {
        super::print_index(self.k, id)
    }

    fn hidden(&mut self, name: String) {
        self.report(502, format!("`{name}` is used where its declaration is not visible"));
    }

    fn open(&mut self) -> Scope {
        Scope { mark: self.prover.mark(), forms: self.form_log.len(), declared: self.declared.len(), saved: None }
    }

    fn close(&mut self, scope: Scope) {
        for id in self.form_log.drain(scope.forms..) {
            self.forms.remove(&id);
        }
        if let Some(saved) = scope.saved {
            self.forms.extend(saved);
        }
        for name in self.declared.drain(scope.declared..) {
            if let Some(stack) = self.names.get_mut(name) {
                match stack.pop() {
                    Some(Named::Var(v)) => self.vars[v.index()] = None,
                    Some(Named::Local(l)) => self.locals[l.index()] = None,
                    _ => {}
                }
            }
        }
        self.prover.release(&scope.mark);
    }

    fn declare(&mut self, scope: &mut Scope, name: &'k str, what: Named) {
        if !super::names::is_name(name) {
            self.report(502, format!("`{name}` cannot be a name"));
        }
        if self.declared[scope.declared..].contains(&name) {
            self.report(502, format!("`{name}` is declared twice in one block"));
        }
        let stack = self.names.entry(name).or_default();
        // Forms made under the outer meaning of the name must not be found again inside.
        if !stack.is_empty() && scope.saved.is_none() {
            for id in self.form_log.drain(scope.forms..) {
                self.forms.remove(&id);
            }
            scope.saved = Some(std::mem::take(&mut self.forms));
        }
        stack.push(what);
        self.declared.push(name);
    }

    fn declare_var(&mut self, scope: &mut Scope, var: VarId, state: VarState) {
        self.declare(scope, self.k.var_name(var), Named::Var(var));
        if self.vars[var.index()].is_some() {
            self.report(502, format!("`{}` is declared twice", self.k.var_name(var)));
        }
        self.vars[var.index()] = Some(state);
    }

    fn declare_local(&mut self, scope: &mut Scope, local: LocalId, state: LocalState) {
        let k = self.k;
        self.declare(scope, &k.local(local).name, Named::Local(local));
        if self.locals[local.index()].is_some() {
            self.report(502, format!("`{}` is declared twice", k.local(local).name));
        }
        self.locals[local.index()] = Some(state);
    }

    fn visible(&self, name: &str, what: Named) -> bool {
        self.names.get(name).and_then(|s| s.last()) == Some(&what)
    }

    fn var(&self, var: VarId) -> Option<&VarState> {
        self.vars[var.index()].as_ref().filter(|_| self.visible(self.k.var_name(var), Named::Var(var)))
    }

    fn local(&self, local: LocalId) -> Option<LocalState> {
        self.locals[local.index()].filter(|_| self.visible(&self.k.local(local).name, Named::Local(local)))
    }

    fn scalar_var(&mut self, scope: &mut Scope, var: VarId, lo: i64, hi: i64, multiple: i64) {
        let name = self.k.var_name(var).to_string();
        let form = if multiple > 1 {
            let up = lo.div_euclid(multiple) + i64::from(lo.rem_euclid(multiple) != 0);
            let n = self.prover.atom(format!("({name}/{multiple})"), up, hi.div_euclid(multiple));
            n.combine(multiple, &Linear::default(), 0).unwrap_or_default()
        } else {
            self.prover.atom(name, lo, hi)
        };
        self.declare_var(scope, var, VarState { form, varies: false, constant: false });
    }

    fn kernel(&mut self) {
        let k = self.k;
        let mut scope = self.open();
        for s in &k.symbols {
            if s.lo > s.hi || s.multiple < 1 {
                self.report(504, format!("no value of `{}` is in its range", k.var_name(s.var)));
            }
            self.scalar_var(&mut scope, s.var, s.lo, s.hi, s.multiple.max(1));
        }
        for (i, a) in k.args.iter().enumerate() {
            match a.kind {
                ArgKind::Index { var, lo, hi } => self.scalar_var(&mut scope, var, lo, hi, 1),
                ArgKind::Scalar(_) => self.declare(&mut scope, &a.name, Named::Arg(ArgId::new(i))),
            }
        }
        for fact in &k.require {
            self.host_index(*fact);
            let form = self.linear(*fact);
            if self.prover.upper(&form).is_some_and(|most| most < 0) {
                self.report(527, format!("`require {} >= 0` never holds", self.show_index(*fact)));
            }
            self.prover.add(form);
        }
        for (i, b) in k.buffers.iter().enumerate() {
            let memory = Memory::Buffer(BufferId::new(i));
            let extents: Vec<Linear> = b.shape.iter().map(|e| self.extent(*e)).collect();
            self.extents.push(extents);
            self.declare(&mut scope, &b.name, Named::Memory(memory));
            self.element(&b.name, b.dtype, b.atomic);
        }
        for step in &k.steps {
            self.step(step);
        }
        self.close(scope);
    }

    fn element(&mut self, name: &str, dtype: DType, atomic: bool) {
        if dtype == DType::Bool {
            self.report(503, format!("`{name}`: bool is never stored"));
        }
        if atomic && !matches!(dtype, DType::U32 | DType::I32) {
            self.report(512, format!("`{name}`: atomics are on u32 and i32"));
        }
    }

    /// What the host computes before a launch cannot depend on data.
    fn host_index(&mut self, id: IndexId) {
        let mut data = false;
        self.k.index.clamped(id, &mut |_| data = true);
        if data {
            self.report(
                520,
                format!("`{}` is computed before the launch and cannot depend on data", self.show_index(id)),
            );
        }
    }

    fn extent(&mut self, id: IndexId) -> Linear {
        self.host_index(id);
        let form = self.linear(id);
        self.not_negative(id, &form);
        form
    }

    fn step(&mut self, step: &'k Step) {
        match step {
            Step::Phase(phase) => self.run_phase(phase),
            Step::Serial { var, lo, hi, step, body } => {
                let mut scope = self.open();
                self.host_index(*lo);
                self.host_index(*hi);
                self.counter(&mut scope, *var, *lo, *hi, *step, false);
                for step in body {
                    self.step(step);
                }
                self.close(scope);
            }
        }
    }

    fn run_phase(&mut self, phase: &'k Phase) {
        let k = self.k;
        self.phase = Some(&phase.name);
        (self.lanes, self.subgroup) = (phase.lanes, phase.subgroup);
        let mut scope = self.open();
        let extents: Vec<Linear> = phase.grid.iter().map(|(_, e)| self.extent(*e)).collect();
        for ((axis, _), extent) in phase.grid.iter().zip(extents) {
            let most = self.prover.upper(&extent).map_or(i64::MAX, |m| m.saturating_sub(1));
            let form = self.prover.atom(k.var_name(*axis).to_string(), 0, most);
            if let Some(below) = extent.combine(1, &form, -1).and_then(|f| f.plus(-1)) {
                self.prover.add(below);
            }
            self.declare_var(&mut scope, *axis, VarState { form, varies: false, constant: false });
        }
        self.builtin_forms(phase);
        for id in &phase.memory {
            let g = k.group(*id);
            self.declare(&mut scope, &g.name, Named::Memory(Memory::Group(*id)));
            self.element(&g.name, g.dtype, g.atomic);
            let extents = g.shape.iter().map(|d| Linear::constant(i64::from(*d))).collect();
            self.group_extents.insert(*id, extents);
        }
        let statements = unrolled(k, &phase.body);
        if statements > STATEMENT_CAP {
            let message = format!("{statements} statements after unrolling are more than {STATEMENT_CAP}");
            self.report(526, message);
        }
        self.facts.statements.push(statements);
        self.block(&phase.body);
        self.statement = None;
        self.builtins = [const { None }; 4];
        self.close(scope);
        self.phase = None;
    }

    fn builtin_forms(&mut self, phase: &Phase) {
        let last = i64::from(phase.lanes.max(1)) - 1;
        let lane = self.prover.atom("lane".into(), 0, last);
        let [l, id, in_group, width] =
            [Builtin::Lane, Builtin::SubgroupId, Builtin::SubgroupLane, Builtin::SubgroupWidth].map(|b| b as usize);
        match phase.subgroup {
            Subgroup::None => {}
            Subgroup::Fixed(w) => {
                let w = i64::from(w);
                let q = self.prover.quotient(&lane, w, &|| "sg.id".into());
                self.builtins[in_group] = q.as_ref().and_then(|q| lane.combine(1, q, -w));
                self.builtins[id] = q;
                self.builtins[width] = Some(Linear::constant(w));
            }
            Subgroup::Any => {
                let w = self.prover.atom("sg.width".into(), 4, 128);
                self.builtins[id] = Some(self.prover.atom("sg.id".into(), 0, last / 4));
                let at = self.prover.atom("sg.lane".into(), 0, 127);
                if let Some(below) = w.combine(1, &at, -1).and_then(|f| f.plus(-1)) {
                    self.prover.add(below);
                }
                self.builtins[in_group] = Some(at);
                self.builtins[width] = Some(w);
            }
        }
        self.builtins[l] = Some(lane);
    }

    /// Declares a loop variable: lo + step·q with what is known of q.
    fn counter(&mut self, scope: &mut Scope, var: VarId, lo: IndexId, hi: IndexId, step: i64, unroll: bool) {
        let (l, h) = (self.linear(lo), self.linear(hi));
        self.not_negative(lo, &l);
        self.not_negative(hi, &h);
        if step < 1 {
            self.report(521, "a loop steps by at least 1".into());
        }
        let step = step.max(1);
        let varies = self.index_varies(lo) || self.index_varies(hi);
        let constant = unroll && l.as_const().is_some() && h.as_const().is_some();
        if unroll && !(constant && self.k.index.as_const(lo).is_some() && self.k.index.as_const(hi).is_some()) {
            self.report(526, "an unrolled loop has constant bounds".into());
        }
        let name = self.k.var_name(var).to_string();
        let span = h.combine(1, &l, -1);
        let trips = span.as_ref().and_then(|s| s.plus(-1)).and_then(|s| self.prover.upper(&s));
        let most = trips.map_or(i64::MAX, |t| t.div_euclid(step));
        let counter = if step == 1 && l.as_const() == Some(0) { name } else { format!("#{name}") };
        let q = self.prover.atom(counter, 0, most);
        if let Some(span) = span {
            let whole = span.k % step == 0 && span.terms.iter().all(|(_, c)| c % step == 0);
            let margin = if whole { step } else { 1 };
            if let Some(fact) = span.combine(1, &q, -step).and_then(|f| f.plus(-margin)) {
                self.prover.add(fact);
            }
        }
        let form = l.combine(1, &q, step).unwrap_or(q);
        self.declare_var(scope, var, VarState { form, varies, constant });
    }

    fn block(&mut self, block: &'k Block) {
        let mut scope = self.open();
        for stmt in block {
            if self.errors.len() >= self.most {
                break;
            }
            self.statement = Some(stmt);
            self.stmt(&mut scope, stmt);
        }
        self.close(scope);
    }

    fn stmt(&mut self, scope: &mut Scope, stmt: &'k Stmt) {
        let k = self.k;
        match stmt {
            Stmt::Let(local, e) => {
                self.value(*e);
                self.same_type(*e, k.local(*local).ty);
                let state = LocalState { varies: self.varies(*e), value: Some(*e) };
                self.declare_local(scope, *local, state);
            }
            Stmt::LetIndex(var, i) => {
                let form = self.linear(*i);
                let state = VarState { form, varies: self.index_varies(*i), constant: self.is_constant(*i) };
                self.declare_var(scope, *var, state);
            }
            Stmt::Declare(local, init) => {
                if let LocalKind::Reg(dims) = &k.local(*local).kind {
                    let registers = dims.iter().fold(1u64, |n, d| n.saturating_mul(u64::from(*d)));
                    if registers > REGISTER_CAP {
                        let name = &k.local(*local).name;
                        self.report(528, format!("`{name}`: {registers} registers are more than {REGISTER_CAP}"));
                    }
                }
                if let Some(e) = init {
                    self.value(*e);
                    self.same_type(*e, k.local(*local).ty);
                }
                // What is assigned again is taken to differ between lanes.
                self.declare_local(scope, *local, LocalState { varies: self.lanes > 1, value: None });
            }
            Stmt::Set(local, at, e) => {
                self.value(*e);
                self.same_type(*e, k.local(*local).ty);
                self.local_access(*local, at, true);
                if k.local(*local).ty.is_tile() {
                    self.collective("a tile");
                }
            }
            Stmt::Store { place, value, .. } => {
                self.value(*value);
                let ty = k.expr(*value).ty;
                match (place.shape, ty) {
                    (Shape::Tile(r, c), Type::Tile { dtype, rows, columns, .. }) => {
                        if (r, c, k.memory_dtype(place.memory)) != (rows, columns, dtype) {
                            self.report(
                                503,
                                format!("a {ty} does not fit {r}x{c} of `{}`", k.memory_name(place.memory)),
                            );
                        }
                        self.collective("a tile");
                        self.needs_width();
                    }
                    (Shape::Tile(..), _) => self.report(503, format!("a tile is stored there, not {ty}")),
                    _ => self.same_type(*value, k.place_type(place)),
                }
                self.access(place, access::Use::Store);
            }
            Stmt::Atomic(op, place, value) => {
                self.value(*value);
                self.same_type(*value, k.place_type(place));
                if *op == FoldOp::Add && k.memory_dtype(place.memory).is_float() {
                    self.report(512, "there are no float atomics".into());
                }
                self.access(place, access::Use::Atomic);
            }
            Stmt::Prefetch(place) => self.access(place, access::Use::Prefetch),
            Stmt::For { var, lo, hi, step, unroll, body } => {
                let mut inner = self.open();
                self.counter(&mut inner, *var, *lo, *hi, *step, *unroll);
                let outer = self.divergent;
                self.divergent |= self.index_varies(*lo) || self.index_varies(*hi);
                self.block(body);
                self.divergent = outer;
                self.close(inner);
            }
            Stmt::If { cond, then, otherwise } => {
                self.value(*cond);
                self.same_type(*cond, DType::Bool.into());
                let outer = self.divergent;
                self.divergent |= self.varies(*cond);
                for (holds, block) in [(true, then), (false, otherwise)] {
                    let inner = self.open();
                    self.assume(*cond, holds);
                    self.block(block);
                    self.close(inner);
                }
                self.divergent = outer;
            }
            Stmt::Barrier(scope) => {
                if self.divergent {
                    self.report(530, "a barrier in control flow that differs between lanes".into());
                }
                if *scope == BarrierScope::Subgroup && self.subgroup == Subgroup::None && self.lanes > 1 {
                    self.report(533, "`barrier sg` needs a phase with a subgroup width".into());
                }
            }
        }
    }

    fn same_type(&mut self, e: ExprId, expected: Type) {
        let found = self.k.expr(e).ty;
        if found != expected {
            self.push(Diagnostic::new(503, "the types differ").expected(expected.to_string()).found(found.to_string()));
        }
    }

    /// Adds what a condition (or its negation) says about indices.
    fn assume(&mut self, cond: ExprId, holds: bool) {
        match &self.k.expr(cond).kind {
            ExprKind::CompareIndex(op, a, b) => {
                let op = if holds { *op } else { op.negated() };
                let (a, b) = (self.linear(*a), self.linear(*b));
                let (up, down) = (b.combine(1, &a, -1), a.combine(1, &b, -1));
                let facts = match op {
                    Comparison::Lt => [up.and_then(|f| f.plus(-1)), None],
                    Comparison::Le => [up, None],
                    Comparison::Gt => [down.and_then(|f| f.plus(-1)), None],
                    Comparison::Ge => [down, None],
                    Comparison::Eq => [up, down],
                    Comparison::Ne => [None, None],
                };
                for fact in facts.into_iter().flatten() {
                    self.prover.add(fact);
                }
            }
            ExprKind::Binary(BinaryOp::And, a, b) if holds => {
                self.assume(*a, true);
                self.assume(*b, true);
            }
            ExprKind::Binary(BinaryOp::Or, a, b) if !holds => {
                self.assume(*a, false);
                self.assume(*b, false);
            }
            ExprKind::Unary(UnaryOp::Not, a) => self.assume(*a, !holds),
            ExprKind::Get(local, _) => {
                // Index variables never change, so what a `let` said still holds.
                if let Some(value) = self.local(*local).and_then(|s| s.value)
                    && self.pure(value)
                {
                    self.assume(value, holds);
                }
            }
            _ => {}
        }
    }

    /// True if the predicate reads nothing that may have changed since.
    fn pure(&self, e: ExprId) -> bool {
        let fixed = |i: IndexId| {
            let mut fixed = true;
            self.k.index.clamped(i, &mut |_| fixed = false);
            fixed
        };
        match &self.k.expr(e).kind {
            ExprKind::CompareIndex(_, a, b) => fixed(*a) && fixed(*b),
            ExprKind::Binary(BinaryOp::And | BinaryOp::Or, a, b) => self.pure(*a) && self.pure(*b),
            ExprKind::Unary(UnaryOp::Not, a) => self.pure(*a),
            _ => false,
        }
    }
}

/// Statements after unrolling.
/// Statements of a kernel's longest phase with its unrolled loops written out; a kernel may have [`STATEMENT_CAP`].
pub fn unrolled_statements(kernel: &Kernel) -> u64 {
    fn longest(k: &Kernel, steps: &[Step]) -> u64 {
        let of = |s: &Step| match s {
            Step::Phase(p) => unrolled(k, &p.body),
            Step::Serial { body, .. } => longest(k, body),
        };
        steps.iter().map(of).max().unwrap_or(0)
    }
    longest(kernel, &kernel.steps)
}

fn unrolled(k: &Kernel, block: &Block) -> u64 {
    block.iter().fold(0u64, |sum, stmt| {
        sum.saturating_add(match stmt {
            Stmt::For { lo, hi, step, unroll, body, .. } => {
                let trips = match (k.index.as_const(*lo), k.index.as_const(*hi)) {
                    (Some(lo), Some(hi)) if *unroll => {
                        let span = i128::from(hi) - i128::from(lo) + i128::from(*step) - 1;
                        u64::try_from((span / i128::from((*step).max(1))).max(0)).unwrap_or(u64::MAX)
                    }
                    _ => 1,
                };
                unrolled(k, body).saturating_mul(trips).saturating_add(u64::from(!unroll))
            }
            Stmt::If { then, otherwise, .. } => {
                unrolled(k, then).saturating_add(unrolled(k, otherwise)).saturating_add(1)
            }
            _ => 1,
        })
    })
}
