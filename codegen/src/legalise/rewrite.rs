//! The walk every pass shares: expressions are replaced from the leaves up, and what a replacement needs
//! computed first is bound by `let`s ahead of the statement it stands in.

use mlxc_ir::Diagnostic;
use mlxc_ir::kernel::{
    Block, Expr, ExprId, ExprKind, Index, IndexId, Kernel, LocalId, LocalKind, Place, Shape, Step, Stmt, Type,
};
use smallvec::SmallVec;

/// What one pass does to an expression whose operands it has already been done to.
pub(super) trait Rule {
    /// The expression that takes the place of `id`: `id` itself where there is nothing to do.
    fn expression(&mut self, at: &mut Site<'_>, id: ExprId) -> Result<ExprId, Diagnostic>;

    /// The statement that takes the place of `stmt`, its expressions and blocks already replaced.
    fn statement(&mut self, _at: &mut Site<'_>, stmt: Stmt) -> Result<Option<Stmt>, Diagnostic> {
        Ok(Some(stmt))
    }

    /// The index expression that takes the place of `id`, its operands already replaced.
    fn index(&mut self, _kernel: &mut Kernel, id: IndexId) -> IndexId {
        id
    }
}

/// A kernel being rewritten, and the statements to go ahead of the one in hand.
pub(super) struct Site<'k> {
    pub(super) kernel: &'k mut Kernel,
    pub(super) before: Vec<Stmt>,
    fresh: usize,
    prefix: String,
}

impl Site<'_> {
    /// Binds an expression ahead of the current statement.
    pub(super) fn bind(&mut self, value: ExprId) -> LocalId {
        let ty = self.kernel.expr(value).ty;
        let local = self.local(ty, LocalKind::Let);
        self.before.push(Stmt::Let(local, value));
        local
    }

    /// A new local with a name nothing else has.
    pub(super) fn local(&mut self, ty: Type, kind: LocalKind) -> LocalId {
        self.fresh += 1;
        let name = format!("{}{}", self.prefix, self.fresh);
        self.kernel.push_local(name, ty, kind)
    }

    /// A new name for an index variable.
    pub(super) fn index_name(&mut self) -> String {
        self.fresh += 1;
        format!("{}{}", self.prefix, self.fresh)
    }

    /// Reads a local that is not an array.
    pub(super) fn get(&mut self, local: LocalId) -> ExprId {
        let ty = self.kernel.local(local).ty;
        self.kernel.push_expr(ExprKind::Get(local, SmallVec::new()), ty)
    }
}

/// Applies a rule to every phase.
pub(super) fn rewrite(kernel: &mut Kernel, rule: &mut dyn Rule) -> Result<(), Diagnostic> {
    let mut prefix = String::from("t");
    while kernel
        .locals
        .iter()
        .map(|l| &*l.name)
        .chain(kernel.vars.iter().map(|v| &*v.name))
        .any(|n| n.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())))
    {
        prefix.push('_');
    }
    let mut steps = std::mem::take(&mut kernel.steps);
    let mut walk = Walk { site: Site { kernel, before: Vec::new(), fresh: 0, prefix }, rule };
    let result = walk.steps(&mut steps);
    walk.site.kernel.steps = steps;
    result
}

struct Walk<'k, 'r> {
    site: Site<'k>,
    rule: &'r mut dyn Rule,
}

impl Walk<'_, '_> {
    fn steps(&mut self, steps: &mut [Step]) -> Result<(), Diagnostic> {
        for step in steps {
            match step {
                Step::Phase(phase) => phase.body = self.block(std::mem::take(&mut phase.body))?,
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
