//! The walk every pass shares: expressions are replaced from the leaves up, and what a replacement needs
//! computed first is bound by `let`s ahead of the statement it stands in.

use mlxc_ir::kernel::{
    BinaryOp, Block, Expr, ExprId, ExprKind, GroupArray, GroupId, Index, IndexId, Kernel, LocalId, LocalKind, Place,
    Shape, Step, Stmt, Subgroup, Type,
};
use mlxc_ir::{DType, Diagnostic};
use smallvec::SmallVec;

use super::refuse;
use crate::constant;

/// What one pass does to an expression whose operands it has already been done to.
pub(super) trait Rule {
    /// The expression that takes the place of `id`: `id` itself where there is nothing to do.
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic>;

    /// The statement that takes the place of `stmt`, its expressions and blocks already replaced.
    fn statement(&mut self, _at: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        Ok(Some(stmt))
    }

    /// Called before each phase.
    fn phase(&mut self) {}

    /// The index expression that takes the place of `id`, its operands already replaced.
    fn index(&mut self, _kernel: &mut Kernel, id: IndexId) -> IndexId {
        id
    }
}

/// A kernel being rewritten, and the statements to go ahead of the one in hand.
pub(super) struct Site<'k> {
    pub(super) kernel: &'k mut Kernel,
    pub(super) before: Vec<Stmt>,
    /// Lanes of the phase in hand.
    pub(super) lanes: u32,
    /// What the phase in hand is to rely on.
    pub(super) subgroup: Subgroup,
    /// Group arrays to add to the phase in hand.
    pub(super) memory: Vec<GroupId>,
    fresh: usize,
}

/// What names made by passes begin with; a number follows.
const FRESH: &str = "t";

impl Site<'_> {
    /// A new group array of the phase in hand, with a name nothing else has.
    pub(super) fn group_array(&mut self, base: &str, dtype: DType, shape: &[u32]) -> GroupId {
        let known = |k: &Kernel, n: &str| {
            let (mut buffers, mut groups) = (k.buffers.iter().map(|b| &b.name), k.groups.iter().map(|g| &g.name));
            buffers.any(|b| &**b == n) || groups.any(|g| &**g == n) || k.locals.iter().any(|l| &*l.name == n)
        };
        let mut name = base.to_string();
        while known(self.kernel, &name) {
            self.fresh += 1;
            name = format!("{base}{}", self.fresh);
        }
        let shape = SmallVec::from_slice(shape);
        self.kernel.groups.push(GroupArray { name: name.into(), dtype, atomic: false, shape });
        let id = GroupId::new(self.kernel.groups.len() - 1);
        self.memory.push(id);
        id
    }

    /// A constant of an integer or float type, in every lane.
    pub(super) fn constant(&mut self, value: i64, ty: Type) -> ExprId {
        let bits = constant::of_integer(ty.dtype(), value);
        let one = self.kernel.push_expr(ExprKind::Const(bits), Type::scalar(ty.dtype()));
        if ty.lanes() == 1 { one } else { self.kernel.push_expr(ExprKind::Splat(one), ty) }
    }

    /// An operation on two values of one type.
    pub(super) fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId) -> ExprId {
        let ty = self.kernel.expr(a).ty;
        self.kernel.push_expr(ExprKind::Binary(op, a, b), ty)
    }

    /// An element of a vector; the scalar itself where there is one.
    pub(super) fn element(&mut self, vector: ExprId, l: u8) -> ExprId {
        let ty = self.kernel.expr(vector).ty;
        if ty.lanes() == 1 {
            return vector;
        }
        let l = self.kernel.index.constant(i64::from(l));
        self.kernel.push_expr(ExprKind::Extract(vector, l), Type::scalar(ty.dtype()))
    }

    /// The value cast to another type.
    pub(super) fn cast(&mut self, value: ExprId, to: DType) -> ExprId {
        let ty = self.kernel.expr(value).ty;
        if ty.dtype() == to {
            return value;
        }
        self.kernel.push_expr(ExprKind::Cast(value), ty.with_dtype(to))
    }

    /// Binds an expression ahead of the current statement; what a `let` has bound stays as it is.
    pub(super) fn bind(&mut self, value: ExprId) -> LocalId {
        if let ExprKind::Get(local, _) = self.kernel.expr(value).kind
            && self.kernel.local(local).kind == LocalKind::Let
        {
            return local;
        }
        let ty = self.kernel.expr(value).ty;
        let local = self.local(ty, LocalKind::Let);
        self.before.push(Stmt::Let(local, value));
        local
    }

    /// A new local with a name nothing else has.
    pub(super) fn local(&mut self, ty: Type, kind: LocalKind) -> LocalId {
        let name = self.index_name();
        self.kernel.push_local(name, ty, kind)
    }

    /// A new name for an index variable.
    pub(super) fn index_name(&mut self) -> String {
        self.fresh += 1;
        format!("{FRESH}{}", self.fresh)
    }

    /// Reads a local that is not an array.
    pub(super) fn get(&mut self, local: LocalId) -> ExprId {
        let ty = self.kernel.local(local).ty;
        self.kernel.push_expr(ExprKind::Get(local, SmallVec::new()), ty)
    }
}

/// Applies a rule to every phase.
pub(super) fn rewrite(kernel: &mut Kernel, rule: &mut dyn Rule) -> Result<(), Diagnostic> {
    // Fresh names go on counting where an earlier pass stopped.
    let fresh = kernel
        .locals
        .iter()
        .map(|l| &*l.name)
        .chain(kernel.vars.iter().map(|v| &*v.name))
        .filter_map(|n| n.strip_prefix(FRESH)?.parse::<usize>().ok())
        .max()
        .unwrap_or(0);
    let mut steps = std::mem::take(&mut kernel.steps);
    let site = Site { kernel, before: Vec::new(), lanes: 1, subgroup: Subgroup::None, memory: Vec::new(), fresh };
    let mut walk = Walk { site, rule };
    let result = walk.steps(&mut steps);
    walk.site.kernel.steps = steps;
    result
}

/// Gives every phase the body that `each` makes of its own.
pub(super) fn bodies(steps: &mut [Step], each: &mut dyn FnMut(Block) -> Block) {
    for step in steps {
        match step {
            Step::Phase(phase) => phase.body = each(std::mem::take(&mut phase.body)),
            Step::Serial { body, .. } => bodies(body, each),
        }
    }
}

struct Walk<'k, 'r> {
    site: Site<'k>,
    rule: &'r mut dyn Rule,
}

impl Walk<'_, '_> {
    fn steps(&mut self, steps: &mut [Step]) -> Result<(), Diagnostic> {
        for step in steps {
            match step {
                Step::Phase(phase) => {
                    (self.site.lanes, self.site.subgroup) = (phase.lanes, phase.subgroup);
                    self.rule.phase();
                    phase.body = self.block(std::mem::take(&mut phase.body))?;
                    phase.subgroup = self.site.subgroup;
                    phase.memory.append(&mut self.site.memory);
                }
                Step::Serial { body, .. } => self.steps(body)?,
            }
        }
        Ok(())
    }

    fn block(&mut self, block: Block) -> Result<Block, Diagnostic> {
        let mut out = Block::with_capacity(block.len());
        for stmt in block {
            let stmt = self.expressions(stmt)?;
            out.append(&mut self.site.before);
            let stmt = match stmt {
                Stmt::For { var, lo, hi, step, unroll, body } => {
                    Stmt::For { var, lo, hi, step, unroll, body: self.block(body)? }
                }
                Stmt::If { cond, then, otherwise } => {
                    Stmt::If { cond, then: self.block(then)?, otherwise: self.block(otherwise)? }
                }
                other => other,
            };
            let stmt = self.rule.statement(&mut self.site, stmt)?;
            out.append(&mut self.site.before);
            out.extend(stmt);
        }
        Ok(out)
    }

    /// The statement with its own expressions replaced, blocks untouched.
    fn expressions(&mut self, stmt: Stmt) -> Result<Stmt, Diagnostic> {
        Ok(match stmt {
            Stmt::Let(local, e) => Stmt::Let(local, self.expression(e)?),
            Stmt::LetIndex(var, i) => Stmt::LetIndex(var, self.index(i)?),
            Stmt::Declare(local, Some(e)) => Stmt::Declare(local, Some(self.expression(e)?)),
            Stmt::Declare(local, None) => Stmt::Declare(local, None),
            Stmt::Set(local, at, e) => {
                let at = at.into_iter().map(|i| self.index(i)).collect::<Result<_, _>>()?;
                Stmt::Set(local, at, self.expression(e)?)
            }
            Stmt::Store { place, value, nontemporal } => {
                let value = self.expression(value)?;
                Stmt::Store { place: self.place(place)?, value, nontemporal }
            }
            Stmt::Atomic(op, place, e) => {
                let value = self.expression(e)?;
                Stmt::Atomic(op, self.place(place)?, value)
            }
            Stmt::Prefetch(place) => Stmt::Prefetch(self.place(place)?),
            Stmt::For { var, lo, hi, step, unroll, body } => {
                Stmt::For { var, lo: self.index(lo)?, hi: self.index(hi)?, step, unroll, body }
            }
            Stmt::If { cond, then, otherwise } => Stmt::If { cond: self.expression(cond)?, then, otherwise },
            Stmt::Barrier(scope) => Stmt::Barrier(scope),
        })
    }

    fn place(&mut self, mut place: Place) -> Result<Place, Diagnostic> {
        for i in &mut place.at {
            *i = self.index(*i)?;
        }
        if let Shape::First { lanes, count } = place.shape {
            place.shape = Shape::First { lanes, count: self.index(count)? };
        }
        Ok(place)
    }

    fn expression(&mut self, id: ExprId) -> Result<ExprId, Diagnostic> {
        let mut failure = None;
        let ahead = self.site.before.len();
        let is_map = matches!(self.site.kernel.expr(id).kind, ExprKind::TileMap { .. });
        let mut kind = self.site.kernel.expr(id).kind.clone().map_operands(&mut |e| match self.expression(e) {
            Ok(new) => new,
            Err(d) => {
                failure.get_or_insert(d);
                e
            }
        });
        if let Some(d) = failure {
            return Err(d);
        }
        // What stands ahead of the statement cannot see the element the map is at.
        if is_map && self.site.before.len() > ahead {
            return Err(refuse(self.site.kernel, "in `tile.map` an operation that takes several statements"));
        }
        match &mut kind {
            ExprKind::FromIndex(i) | ExprKind::Extract(_, i) => *i = self.index(*i)?,
            ExprKind::CompareIndex(_, a, b) => {
                *a = self.index(*a)?;
                *b = self.index(*b)?;
            }
            ExprKind::Get(_, at) => {
                for i in at.iter_mut() {
                    *i = self.index(*i)?;
                }
            }
            ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } => *place = self.place(place.clone())?,
            ExprKind::Table(f) | ExprKind::Shuffle(_, f) => f.body = self.index(f.body)?,
            _ => {}
        }
        self.site.kernel.exprs[id.index()].kind = kind;
        self.rule.expression(&mut self.site, id)
    }

    fn index(&mut self, id: IndexId) -> Result<IndexId, Diagnostic> {
        let node = self.site.kernel.index.get(id);
        let rebuilt = match node {
            Index::Const(_) | Index::Var(_) | Index::Builtin(_) => id,
            Index::Add(a, b) => {
                let (a, b) = (self.index(a)?, self.index(b)?);
                self.site.kernel.index.add(a, b)
            }
            Index::Scale(a, by) => {
                let a = self.index(a)?;
                self.site.kernel.index.scale(a, by)
            }
            Index::Div(a, by) => {
                let a = self.index(a)?;
                self.site.kernel.index.div(a, by)
            }
            Index::DivBy(a, b) => {
                let (a, b) = (self.index(a)?, self.index(b)?);
                self.site.kernel.index.div_by(a, b)
            }
            Index::Mod(a, by) => {
                let a = self.index(a)?;
                self.site.kernel.index.modulo(a, by)
            }
            Index::Min(a, b) => {
                let (a, b) = (self.index(a)?, self.index(b)?);
                self.site.kernel.index.min(a, b)
            }
            Index::Max(a, b) => {
                let (a, b) = (self.index(a)?, self.index(b)?);
                self.site.kernel.index.max(a, b)
            }
            Index::Clamp(value, lo, hi) => {
                let (lo, hi) = (self.index(lo)?, self.index(hi)?);
                // Index expressions are shared, and what one statement binds another may not see: so every use
                // rewrites a copy, and keeps the original (whose proofs are shared) where nothing changed.
                let copy = copy(self.site.kernel, value);
                let new = self.expression(copy)?;
                let value = if same(self.site.kernel, new, value) { value } else { new };
                self.site.kernel.index.clamp(value, lo, hi)
            }
        };
        Ok(self.rule.index(self.site.kernel, rebuilt))
    }
}

/// A tree of its own with the same meaning.
fn copy(kernel: &mut Kernel, id: ExprId) -> ExprId {
    let expr = kernel.expr(id).clone();
    let kind = expr.kind.map_operands(&mut |e| copy(kernel, e));
    kernel.push_expr(kind, expr.ty)
}

/// True for equal trees.
fn same(kernel: &Kernel, a: ExprId, b: ExprId) -> bool {
    let (x, y) = (kernel.expr(a), kernel.expr(b));
    let bare = |e: &Expr| e.kind.map_operands(&mut |_| ExprId::new(0));
    let operands = |e: &Expr| {
        let mut all = SmallVec::<[ExprId; 3]>::new();
        e.kind.operands(&mut |o| all.push(o));
        all
    };
    a == b
        || x.ty == y.ty
            && bare(x) == bare(y)
            && operands(x).into_iter().zip(operands(y)).all(|(a, b)| same(kernel, a, b))
}
