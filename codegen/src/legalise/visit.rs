//! Looking at everything a block does, in order.

use mlxc_ir::kernel::{Block, ExprId, ExprKind, IndexId, Kernel, Place, Stmt};
use smallvec::SmallVec;

/// What a visit comes to: a statement before its parts, and every expression before its operands.
pub(super) enum Node<'b> {
    Statement(&'b Stmt),
    Expression(ExprId),
}

/// Visits the statements of a block, their expressions, and the data values that index expressions clamp.
pub(super) fn visit(kernel: &Kernel, block: &Block, to: &mut dyn FnMut(Node<'_>)) {
    for stmt in block {
        to(Node::Statement(stmt));
        match stmt {
            Stmt::Let(_, e) | Stmt::Declare(_, Some(e)) => expression(kernel, *e, to),
            Stmt::LetIndex(_, i) => index(kernel, *i, to),
            Stmt::Declare(_, None) | Stmt::Barrier(_) => {}
            Stmt::Set(_, at, e) => {
                at.iter().for_each(|i| index(kernel, *i, to));
                expression(kernel, *e, to);
            }
            Stmt::Store { place: at, value, .. } | Stmt::Atomic(_, at, value) => {
                place(kernel, at, to);
                expression(kernel, *value, to);
            }
            Stmt::Prefetch(at) => place(kernel, at, to),
            Stmt::For { lo, hi, body, .. } => {
                index(kernel, *lo, to);
                index(kernel, *hi, to);
                visit(kernel, body, to);
            }
            Stmt::If { cond, then, otherwise } => {
                expression(kernel, *cond, to);
                visit(kernel, then, to);
                visit(kernel, otherwise, to);
            }
        }
    }
}

fn expression(kernel: &Kernel, id: ExprId, to: &mut dyn FnMut(Node<'_>)) {
    to(Node::Expression(id));
    let kind: &ExprKind = &kernel.expr(id).kind;
    kind.operands(&mut |e| expression(kernel, e, to));
    kind.indices(&mut |i| index(kernel, i, to));
}

fn place(kernel: &Kernel, at: &Place, to: &mut dyn FnMut(Node<'_>)) {
    at.indices(&mut |i| index(kernel, i, to));
}

fn index(kernel: &Kernel, id: IndexId, to: &mut dyn FnMut(Node<'_>)) {
    let mut values = SmallVec::<[ExprId; 1]>::new();
    kernel.index.clamped(id, &mut |e| values.push(e));
    values.into_iter().for_each(|e| expression(kernel, e, to));
}
