//! Loops are written out where something in them has to be constant: the number of a vector's element and, in WGSL,
//! which has no way to ask for unrolling, that of a register. Other loops stay and keep their hint: shader compilers
//! unroll by their own measure.

use std::collections::{HashMap, HashSet};

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{Block, ExprId, ExprKind, Index, IndexId, Kernel, LaneFn, LocalId, Place, Shape, Stmt, VarId};
use mlxc_ir::profile::TargetProfile;

use crate::gpu_profiles::{ShaderLanguage, language};
use crate::legalise::rewrite::bodies;
use crate::legalise::visit::{Node, visit};

pub(super) fn run(kernel: &mut Kernel, profile: &TargetProfile) -> Result<(), Diagnostic> {
    let registers = language(profile) == ShaderLanguage::Wgsl;
    let mut steps = std::mem::take(&mut kernel.steps);
    let names = kernel.locals.iter().map(|l| l.name.to_string());
    let names = names
        .chain(kernel.vars.iter().map(|v| v.name.to_string()))
        .chain(kernel.buffers.iter().map(|b| b.name.to_string()))
        .chain(kernel.groups.iter().map(|g| g.name.to_string()))
        .chain(kernel.args.iter().map(|a| a.name.to_string()))
        .collect();
    let mut unroll = Unroll { kernel, names, registers };
    bodies(&mut steps, &mut |b| unroll.block(b));
    kernel.steps = steps;
    Ok(())
}

struct Unroll<'k> {
    kernel: &'k mut Kernel,
    /// Names that are taken.
    names: HashSet<String>,
    /// Numbers of registers have to be constant.
    registers: bool,
}

/// What stands for what in one copy of a body.
#[derive(Default)]
struct Copy {
    vars: HashMap<VarId, IndexId>,
    locals: HashMap<LocalId, LocalId>,
}

impl Unroll<'_> {
    fn block(&mut self, block: Block) -> Block {
        let mut out = Block::with_capacity(block.len());
        for stmt in block {
            match stmt {
                Stmt::For { var, lo, hi, step, unroll, body } => {
                    let bounds = (self.kernel.index.as_const(lo), self.kernel.index.as_const(hi));
                    match bounds {
                        (Some(first), Some(end)) if unroll && must(self.kernel, &body, var, self.registers) => {
                            let mut value = first;
                            while value < end {
                                let constant = self.kernel.index.constant(value);
                                let mut copy = Copy { vars: HashMap::from([(var, constant)]), ..Copy::default() };
                                let body = self.copy_block(&body, &mut copy, value);
                                // What was a variable may be a constant bound or register now.
                                out.append(&mut self.block(body));
                                value += step;
                            }
                        }
                        _ => {
                            let body = self.block(body);
                            out.push(Stmt::For { var, lo, hi, step, unroll, body });
                        }
                    }
                }
                Stmt::If { cond, then, otherwise } => {
                    let (then, otherwise) = (self.block(then), self.block(otherwise));
                    out.push(Stmt::If { cond, then, otherwise });
                }
                other => out.push(other),
            }
        }
        out
    }

    /// A name for a copy: the original's, and the value of the loop variable.
    fn name(&mut self, base: &str, value: i64) -> String {
        let mut name = format!("{base}_{value}");
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn copy_block(&mut self, block: &Block, copy: &mut Copy, value: i64) -> Block {
        block.iter().map(|stmt| self.copy_statement(stmt, copy, value)).collect()
    }

    fn fresh_local(&mut self, local: LocalId, copy: &mut Copy, value: i64) -> LocalId {
        let original = self.kernel.local(local).clone();
        let name = self.name(&original.name, value);
        let new = self.kernel.push_local(name, original.ty, original.kind);
        copy.locals.insert(local, new);
        new
    }

    fn fresh_var(&mut self, var: VarId, copy: &mut Copy, value: i64) -> VarId {
        let name = self.kernel.var_name(var).to_string();
        let name = self.name(&name, value);
        let new = self.kernel.push_var(name);
        let index = self.kernel.index.var(new);
        copy.vars.insert(var, index);
        new
    }

    fn copy_statement(&mut self, stmt: &Stmt, copy: &mut Copy, value: i64) -> Stmt {
        match stmt {
            Stmt::Let(local, e) => {
                let e = self.copy_expr(*e, copy);
                Stmt::Let(self.fresh_local(*local, copy, value), e)
            }
            Stmt::LetIndex(var, i) => {
                let i = self.copy_index(*i, copy);
                Stmt::LetIndex(self.fresh_var(*var, copy, value), i)
            }
            Stmt::Declare(local, e) => {
                let e = e.map(|e| self.copy_expr(e, copy));
                Stmt::Declare(self.fresh_local(*local, copy, value), e)
            }
            Stmt::Set(local, at, e) => {
                let e = self.copy_expr(*e, copy);
                let at = at.iter().map(|i| self.copy_index(*i, copy)).collect();
                Stmt::Set(copy.locals.get(local).copied().unwrap_or(*local), at, e)
            }
            Stmt::Store { place, value: v, nontemporal } => {
                let (place, v) = (self.copy_place(place, copy), self.copy_expr(*v, copy));
                Stmt::Store { place, value: v, nontemporal: *nontemporal }
            }
            Stmt::Atomic(op, place, e) => Stmt::Atomic(*op, self.copy_place(place, copy), self.copy_expr(*e, copy)),
            Stmt::Prefetch(place) => Stmt::Prefetch(self.copy_place(place, copy)),
            Stmt::For { var, lo, hi, step, unroll, body } => {
                let (lo, hi) = (self.copy_index(*lo, copy), self.copy_index(*hi, copy));
                let var = self.fresh_var(*var, copy, value);
                Stmt::For { var, lo, hi, step: *step, unroll: *unroll, body: self.copy_block(body, copy, value) }
            }
            Stmt::If { cond, then, otherwise } => {
                let cond = self.copy_expr(*cond, copy);
                let then = self.copy_block(then, copy, value);
                Stmt::If { cond, then, otherwise: self.copy_block(otherwise, copy, value) }
            }
            Stmt::Barrier(scope) => Stmt::Barrier(*scope),
        }
    }

    fn copy_place(&mut self, place: &Place, copy: &Copy) -> Place {
        let shape = match place.shape {
            Shape::First { lanes, count } => Shape::First { lanes, count: self.copy_index(count, copy) },
            other => other,
        };
        Place { memory: place.memory, at: place.at.iter().map(|i| self.copy_index(*i, copy)).collect(), shape }
    }

    fn copy_expr(&mut self, id: ExprId, copy: &Copy) -> ExprId {
        let expr = self.kernel.expr(id).clone();
        let mut kind = expr.kind.map_operands(&mut |e| self.copy_expr(e, copy));
        match &mut kind {
            ExprKind::FromIndex(i) | ExprKind::Extract(_, i) => *i = self.copy_index(*i, copy),
            ExprKind::CompareIndex(_, a, b) => {
                *a = self.copy_index(*a, copy);
                *b = self.copy_index(*b, copy);
            }
            ExprKind::Get(local, at) => {
                *local = copy.locals.get(local).copied().unwrap_or(*local);
                at.iter_mut().for_each(|i| *i = self.copy_index(*i, copy));
            }
            ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } => *place = self.copy_place(place, copy),
            ExprKind::Table(LaneFn { body, .. }) | ExprKind::Shuffle(_, LaneFn { body, .. }) => {
                *body = self.copy_index(*body, copy);
            }
            _ => {}
        }
        self.kernel.push_expr(kind, expr.ty)
    }

    fn copy_index(&mut self, id: IndexId, copy: &Copy) -> IndexId {
        let node = self.kernel.index.get(id);
        let mut of = |i| self.copy_index(i, copy);
        match node {
            Index::Const(_) | Index::Builtin(_) => id,
            Index::Var(v) => copy.vars.get(&v).copied().unwrap_or(id),
            Index::Add(a, b) => {
                let (a, b) = (of(a), of(b));
                self.kernel.index.add(a, b)
            }
            Index::Scale(a, by) => {
                let a = of(a);
                self.kernel.index.scale(a, by)
            }
            Index::Div(a, by) => {
                let a = of(a);
                self.kernel.index.div(a, by)
            }
            Index::DivBy(a, b) => {
                let (a, b) = (of(a), of(b));
                self.kernel.index.div_by(a, b)
            }
            Index::Mod(a, by) => {
                let a = of(a);
                self.kernel.index.modulo(a, by)
            }
            Index::Min(a, b) => {
                let (a, b) = (of(a), of(b));
                self.kernel.index.min(a, b)
            }
            Index::Max(a, b) => {
                let (a, b) = (of(a), of(b));
                self.kernel.index.max(a, b)
            }
            Index::Clamp(value, lo, hi) => {
                let (lo, hi) = (of(lo), of(hi));
                let value = self.copy_expr(value, copy);
                self.kernel.index.clamp(value, lo, hi)
            }
        }
    }
}

/// True if the number of an element of a vector, or of one of `registers`, depends on the variable.
fn must(kernel: &Kernel, body: &Block, var: VarId, registers: bool) -> bool {
    // The variable, and `let`s that depend on it.
    let mut varying = HashSet::from([var]);
    let mut found = false;
    visit(kernel, body, &mut |node| match node {
        Node::Statement(Stmt::LetIndex(var, i)) if varies(kernel, &varying, *i) => {
            varying.insert(*var);
        }
        Node::Statement(Stmt::Set(_, at, _)) if registers => found |= at.iter().any(|i| varies(kernel, &varying, *i)),
        Node::Statement(_) => {}
        Node::Expression(e) => match &kernel.expr(e).kind {
            ExprKind::Get(_, at) if registers => found |= at.iter().any(|i| varies(kernel, &varying, *i)),
            ExprKind::Extract(_, i) => found |= varies(kernel, &varying, *i),
            ExprKind::Table(f) | ExprKind::Shuffle(_, f) => found |= varies(kernel, &varying, f.body),
            _ => {}
        },
    });
    found
}

fn varies(kernel: &Kernel, varying: &HashSet<VarId>, id: IndexId) -> bool {
    let mut found = matches!(kernel.index.get(id), Index::Var(v) if varying.contains(&v));
    kernel.index.operands(id, &mut |i| found |= varies(kernel, varying, i));
    found
}
