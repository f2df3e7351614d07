//! Arrays of registers become single variables where every number in them is constant: compilers keep those in
//! registers without having to prove anything.

use std::collections::{HashMap, HashSet};

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{Block, ExprId, ExprKind, IndexId, Kernel, LocalId, LocalKind, Stmt};
use mlxc_ir::profile::TargetProfile;
use smallvec::SmallVec;

use crate::legalise::rewrite::bodies;
use crate::legalise::visit::{Node, visit};

pub(super) fn run(kernel: &mut Kernel, _: &TargetProfile) -> Result<(), Diagnostic> {
    let mut numbered = HashSet::new();
    for phase in kernel.phases() {
        visit(kernel, &phase.body, &mut |node| {
            let (local, at) = match node {
                Node::Statement(Stmt::Set(local, at, _)) => (*local, at),
                Node::Statement(_) => return,
                Node::Expression(e) => match &kernel.expr(e).kind {
                    ExprKind::Get(local, at) => (*local, at),
                    _ => return,
                },
            };
            if position(kernel, local, at).is_none() {
                numbered.insert(local);
            }
        });
    }
    let mut split = Split { kernel, numbered, parts: HashMap::new() };
    let mut steps = std::mem::take(&mut split.kernel.steps);
    bodies(&mut steps, &mut |b| split.block(b));
    split.registers();
    split.kernel.steps = steps;
    Ok(())
}

/// The number of a register, if it is constant.
fn position(kernel: &Kernel, local: LocalId, at: &[IndexId]) -> Option<usize> {
    let LocalKind::Reg(dims) = &kernel.local(local).kind else { return Some(0) };
    at.iter().zip(dims).try_fold(0usize, |position, (i, dim)| {
        let i = usize::try_from(kernel.index.as_const(*i)?).ok()?;
        Some(position * *dim as usize + i)
    })
}

struct Split<'k> {
    kernel: &'k mut Kernel,
    /// Registers that stay an array.
    numbered: HashSet<LocalId>,
    parts: HashMap<LocalId, Vec<LocalId>>,
}

impl Split<'_> {
    fn block(&mut self, block: Block) -> Block {
        let mut out = Block::with_capacity(block.len());
        for stmt in block {
            match stmt {
                Stmt::Declare(local, value) => self.declare(local, value, &mut out),
                Stmt::Set(local, at, e) => {
                    let part = self.part(local, &at);
                    let at = if part.is_some() { SmallVec::new() } else { at };
                    out.push(Stmt::Set(part.unwrap_or(local), at, e));
                }
                Stmt::For { var, lo, hi, step, unroll, body } => {
                    out.push(Stmt::For { var, lo, hi, step, unroll, body: self.block(body) });
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

    fn part(&self, local: LocalId, at: &[IndexId]) -> Option<LocalId> {
        let parts = self.parts.get(&local)?;
        parts.get(position(self.kernel, local, at)?).copied()
    }

    fn declare(&mut self, local: LocalId, value: Option<ExprId>, out: &mut Block) {
        let original = self.kernel.local(local).clone();
        let dims = match &original.kind {
            LocalKind::Reg(dims) if !self.numbered.contains(&local) => dims.clone(),
            _ => return out.push(Stmt::Declare(local, value)),
        };
        // Every part has its own copy of a constant; anything else is computed once.
        let constant = value.filter(|v| is_constant(self.kernel, *v));
        let value = value.filter(|_| constant.is_none()).map(|value| {
            let name = self.fresh(&format!("{}_initial", original.name));
            let initial = self.kernel.push_local(name, original.ty, LocalKind::Let);
            out.push(Stmt::Let(initial, value));
            initial
        });
        let count: u32 = dims.iter().product();
        let parts = (0..count).map(|p| {
            let mut rest = p;
            let mut numbers: Vec<String> = Vec::new();
            for dim in dims.iter().rev() {
                numbers.push((rest % dim).to_string());
                rest /= dim;
            }
            numbers.reverse();
            let name = self.fresh(&format!("{}_{}", original.name, numbers.join("_")));
            let part = self.kernel.push_local(name, original.ty, LocalKind::Var);
            let bound = value.map(|v| self.kernel.push_expr(ExprKind::Get(v, SmallVec::new()), original.ty));
            let initial = bound.or_else(|| constant.map(|c| duplicate(self.kernel, c)));
            out.push(Stmt::Declare(part, initial));
            part
        });
        let parts = parts.collect();
        self.parts.insert(local, parts);
    }

    fn fresh(&self, base: &str) -> String {
        let mut name = base.to_string();
        let k = &*self.kernel;
        let taken = |n: &str| {
            k.locals.iter().any(|l| &*l.name == n)
                || k.vars.iter().any(|v| &*v.name == n)
                || k.buffers.iter().any(|b| &*b.name == n)
                || k.groups.iter().any(|g| &*g.name == n)
                || k.args.iter().any(|a| &*a.name == n)
        };
        while taken(&name) {
            name.push('_');
        }
        name
    }

    /// Reads of the parts, in every expression there is.
    fn registers(&mut self) {
        for i in 0..self.kernel.exprs.len() {
            let ExprKind::Get(local, at) = &self.kernel.exprs[i].kind else { continue };
            if let Some(part) = self.part(*local, at) {
                self.kernel.exprs[i].kind = ExprKind::Get(part, SmallVec::new());
            }
        }
    }
}

fn is_constant(kernel: &Kernel, id: ExprId) -> bool {
    match kernel.expr(id).kind {
        ExprKind::Const(_) => true,
        ExprKind::Splat(one) => is_constant(kernel, one),
        _ => false,
    }
}

/// A constant once more, as expressions are trees.
fn duplicate(kernel: &mut Kernel, id: ExprId) -> ExprId {
    let expr = kernel.expr(id).clone();
    let kind = expr.kind.map_operands(&mut |e| duplicate(kernel, e));
    kernel.push_expr(kind, expr.ty)
}
