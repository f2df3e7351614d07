//! Accesses to the first n elements of a vector, one guarded element after another. The hints that no GPU has,
//! nontemporal stores and prefetches, are dropped.

use mlxc_ir::kernel::{Comparison, ExprId, ExprKind, IndexId, Kernel, LocalKind, Place, Shape, Stmt, Type};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};
use smallvec::SmallVec;

use crate::legalise::rewrite::{Rule, Site, rewrite};

pub(super) fn run(kernel: &mut Kernel, _: &TargetProfile) -> Result<(), Diagnostic> {
    rewrite(kernel, &mut Guarded)
}

struct Guarded;

impl Rule for Guarded {
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic> {
        let ExprKind::Load(place, otherwise) = at.kernel.expr(id).kind.clone() else { return Ok(id) };
        let Shape::First { lanes, count } = place.shape else { return Ok(id) };
        let dtype = at.kernel.expr(id).ty.dtype();
        let rest = otherwise.map(|e| at.bind(e));
        let mut elements: SmallVec<[ExprId; 4]> = SmallVec::new();
        for l in 0..lanes {
            let initial = match rest {
                Some(rest) => {
                    let rest = at.get(rest);
                    at.element(rest, l)
                }
                None => at.constant(0, Type::scalar(dtype)),
            };
            let local = at.local(Type::scalar(dtype), LocalKind::Var);
            at.before.push(Stmt::Declare(local, Some(initial)));
            elements.push(at.get(local));
            if never(at, l, count) {
                continue;
            }
            let one = element(at, &place, l);
            let value = at.kernel.push_expr(ExprKind::Load(one, None), Type::scalar(dtype));
            let cond = below(at, l, count);
            let then = vec![Stmt::Set(local, SmallVec::new(), value)];
            at.before.push(Stmt::If { cond, then, otherwise: Vec::new() });
        }
        Ok(at.kernel.push_expr(ExprKind::Vector(elements), Type::vector(dtype, lanes)))
    }

    fn statement(&mut self, at: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        Ok(match stmt {
            Stmt::Store { place, value, .. } => {
                let Shape::First { lanes, count } = place.shape else {
                    return Ok(Some(Stmt::Store { place, value, nontemporal: false }));
                };
                let value = at.bind(value);
                for l in (0..lanes).filter(|l| !never(at, *l, count)).collect::<SmallVec<[u8; 4]>>() {
                    let whole = at.get(value);
                    let one = at.element(whole, l);
                    let store = Stmt::Store { place: element(at, &place, l), value: one, nontemporal: false };
                    let cond = below(at, l, count);
                    at.before.push(Stmt::If { cond, then: vec![store], otherwise: Vec::new() });
                }
                None
            }
            Stmt::Prefetch(_) => None,
            other => Some(other),
        })
    }
}

fn element(at: &mut Site<'_>, place: &Place, l: u8) -> Place {
    let mut one = Place { shape: Shape::One, ..place.clone() };
    if let Some(last) = one.at.last_mut() {
        let l = at.kernel.index.constant(i64::from(l));
        *last = at.kernel.index.add(*last, l);
    }
    one
}

/// True for elements that are never touched, for which nothing is proved.
fn never(at: &Site<'_>, l: u8, count: IndexId) -> bool {
    at.kernel.index.as_const(count).is_some_and(|n| i64::from(l) >= n)
}

/// `l < count`
fn below(at: &mut Site<'_>, l: u8, count: IndexId) -> ExprId {
    let l = at.kernel.index.constant(i64::from(l));
    at.kernel.push_expr(ExprKind::CompareIndex(Comparison::Lt, l, count), Type::scalar(DType::Bool))
}
