//! What a legal CPU kernel may hold, checked once after the passes: the writer relies on it.

use mlxc_ir::kernel::{BarrierScope, Block, Builtin, ExprId, ExprKind, Index, IndexId, Kernel, Place, Stmt, Type};
use mlxc_ir::profile::TargetProfile;
use mlxc_ir::{DType, Diagnostic};

use super::{refuse, tile};

/// Finds operations that no pass has made legal.
pub(super) fn run(kernel: &Kernel, profile: &TargetProfile) -> Result<(), Vec<Diagnostic>> {
    let mut check = Check { kernel, profile, found: Vec::new() };
    for phase in kernel.phases() {
        if tile::too_many(kernel, &phase.body) {
            check.refuse("more matrix tiles at once");
        }
        check.block(&phase.body);
    }
    if check.found.is_empty() { Ok(()) } else { Err(check.found) }
}

struct Check<'k> {
    kernel: &'k Kernel,
    profile: &'k TargetProfile,
    found: Vec<Diagnostic>,
}

impl Check<'_> {
    fn refuse(&mut self, what: impl std::fmt::Display) {
        self.found.push(refuse(self.kernel, what));
    }

    fn block(&mut self, block: &Block) {
        for stmt in block {
            if let Some(what) = tile::wrong(self.kernel, self.profile, stmt) {
                self.refuse(what);
            }
            match stmt {
                Stmt::Let(_, e) | Stmt::Declare(_, Some(e)) => self.expression(*e),
                Stmt::LetIndex(_, i) => self.index(*i),
                Stmt::Declare(_, None) => {}
                Stmt::Set(_, at, e) => {
                    at.iter().for_each(|i| self.index(*i));
                    self.expression(*e);
                }
                Stmt::Store { place, value, .. } | Stmt::Atomic(_, place, value) => {
                    self.place(place);
                    self.expression(*value);
                }
                Stmt::Prefetch(place) => self.place(place),
                Stmt::For { lo, hi, body, .. } => {
                    self.index(*lo);
                    self.index(*hi);
                    self.block(body);
                }
                Stmt::If { cond, then, otherwise } => {
                    self.expression(*cond);
                    self.block(then);
                    self.block(otherwise);
                }
                Stmt::Barrier(scope) => self.refuse(match scope {
                    BarrierScope::Group => "barrier",
                    BarrierScope::Subgroup => "barrier sg",
                    BarrierScope::Buffers => "barrier buffers",
                }),
            }
        }
    }

    fn place(&mut self, place: &Place) {
        place.indices(&mut |i| self.index(i));
    }

    fn index(&mut self, id: IndexId) {
        let kernel = self.kernel;
        if let Index::Builtin(b) = kernel.index.get(id)
            && b != Builtin::Lane
        {
            self.refuse(b.name());
        }
        if let Index::Clamp(value, _, _) = kernel.index.get(id) {
            self.expression(value);
        }
        kernel.index.operands(id, &mut |i| self.index(i));
    }

    fn expression(&mut self, id: ExprId) {
        let expr = self.kernel.expr(id);
        expr.kind.operands(&mut |e| self.expression(e));
        expr.kind.indices(&mut |i| self.index(i));
        if let ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } = &expr.kind {
            self.place(place);
        }
        match &expr.kind {
            ExprKind::Unary(..) | ExprKind::Binary(..) | ExprKind::Fma(..) | ExprKind::Fold(..) if is_half(expr.ty) => {
                self.refuse(format!("arithmetic on {}", expr.ty));
            }
            ExprKind::Cast(a) => {
                let (from, to) = (self.kernel.expr(*a).ty, expr.ty);
                if is_half(from) && to.dtype() != DType::F32 || is_half(to) && from.dtype() != DType::F32 {
                    self.refuse(format!("a cast of {from} to {to}"));
                }
            }
            ExprKind::FromIndex(_) if is_half(expr.ty) => self.refuse(format!("an index as {}", expr.ty)),
            ExprKind::Dot { a, b, .. } => match (self.kernel.expr(*a).ty, self.kernel.expr(*b).ty) {
                (a, _) if a.dtype() == DType::BF16 => {}
                (a, b) if a.dtype() == DType::U8 && b.dtype() == DType::I8 => {}
                (a, b) => self.refuse(format!("a dot product of {a} and {b}")),
            },
            ExprKind::Math(f, _) => self.refuse(format!("{} of {}", f.name(), expr.ty)),
            ExprKind::Mad(..) => self.refuse("mad"),
            ExprKind::Lanes(op, ..) => self.refuse(format!("lanes.{}", op.name())),
            ExprKind::Subgroup(..) => self.refuse("a subgroup operation"),
            ExprKind::GroupBroadcast(_) => self.refuse("group.bcast"),
            ExprKind::TileMap { .. } => self.refuse("tile.map"),
            _ => {}
        }
    }
}

fn is_half(ty: Type) -> bool {
    matches!(ty.dtype(), DType::F16 | DType::BF16)
}
