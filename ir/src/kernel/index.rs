//! Index expressions: exact integers that address memory and bound loops.
//!
//! Nodes are hash-consed, so that equal expressions have equal ids and a pass can memoise on them. The constructors
//! fold constants and keep them on the right; they do nothing else, so that text stays as its author wrote it.

use super::types::{ExprId, IndexId, VarId};
use std::collections::HashMap;

/// The index values a phase has without declaring them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// `lane`: number of the lane in its group, 0 where a group has one lane.
    Lane,
    /// `sg.id`: number of the subgroup in its group.
    SubgroupId,
    /// `sg.lane`: number of the lane in its subgroup.
    SubgroupLane,
    /// `sg.width`: lanes in a subgroup.
    SubgroupWidth,
}

impl Builtin {
    /// All of them.
    pub const ALL: [Builtin; 4] = [Builtin::Lane, Builtin::SubgroupId, Builtin::SubgroupLane, Builtin::SubgroupWidth];

    /// The name in text.
    pub const fn name(self) -> &'static str {
        match self {
            Builtin::Lane => "lane",
            Builtin::SubgroupId => "sg.id",
            Builtin::SubgroupLane => "sg.lane",
            Builtin::SubgroupWidth => "sg.width",
        }
    }
}

/// One node of an index expression. Two variables are never multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Index {
    /// A constant.
    Const(i64),
    /// A symbol, an index argument, a grid axis, a loop variable, a `let`, or the parameter of a lane function.
    Var(VarId),
    /// A value every phase has.
    Builtin(Builtin),
    /// A sum; a constant stands on the right.
    Add(IndexId, IndexId),
    /// A product with a constant.
    Scale(IndexId, i64),
    /// Quotient by a constant of at least 1; the dividend is proved not to be negative.
    Div(IndexId, i64),
    /// Quotient by a scalar with a positive lower bound.
    DivBy(IndexId, IndexId),
    /// Remainder by a constant of at least 1; the dividend is proved not to be negative.
    Mod(IndexId, i64),
    /// The smaller.
    Min(IndexId, IndexId),
    /// The larger.
    Max(IndexId, IndexId),
    /// `idx(value, lo..hi)`: an integer value clamped into `lo..=hi-1`, the only way from data to an address. The
    /// value is read where the expression is evaluated.
    Clamp(ExprId, IndexId, IndexId),
}

/// The hash-consed index expressions of a kernel.
#[derive(Clone, Debug, Default)]
pub struct IndexArena {
    nodes: Vec<Index>,
    known: HashMap<Index, IndexId>,
}

impl IndexArena {
    /// The node behind an id.
    pub fn get(&self, id: IndexId) -> Index {
        self.nodes[id.index()]
    }

    /// Number of nodes; ids are below it.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn intern(&mut self, node: Index) -> IndexId {
        *self.known.entry(node).or_insert_with(|| {
            let id = IndexId::new(self.nodes.len());
            self.nodes.push(node);
            id
        })
    }

    /// The value of a constant expression.
    pub fn as_const(&self, id: IndexId) -> Option<i64> {
        match self.get(id) {
            Index::Const(c) => Some(c),
            _ => None,
        }
    }

    /// A constant.
    pub fn constant(&mut self, value: i64) -> IndexId {
        self.intern(Index::Const(value))
    }

    /// A variable.
    pub fn var(&mut self, var: VarId) -> IndexId {
        self.intern(Index::Var(var))
    }

    /// `lane`, `sg.id`, `sg.lane` or `sg.width`.
    pub fn builtin(&mut self, which: Builtin) -> IndexId {
        self.intern(Index::Builtin(which))
    }

    /// `a + b`. Constants saturate.
    pub fn add(&mut self, a: IndexId, b: IndexId) -> IndexId {
        match (self.get(a), self.get(b)) {
            (Index::Const(x), Index::Const(y)) => self.constant(x.saturating_add(y)),
            (_, Index::Const(0)) => a,
            (Index::Const(_), _) => self.add(b, a),
            (Index::Add(x, c), Index::Const(y)) if let Index::Const(c) = self.get(c) => {
                let sum = self.constant(c.saturating_add(y));
                self.add(x, sum)
            }
            _ => self.intern(Index::Add(a, b)),
        }
    }

    /// `a - b`.
    pub fn sub(&mut self, a: IndexId, b: IndexId) -> IndexId {
        let negative = self.scale(b, -1);
        self.add(a, negative)
    }

    /// `a * by`. Constants saturate.
    pub fn scale(&mut self, a: IndexId, by: i64) -> IndexId {
        match self.get(a) {
            _ if by == 0 => self.constant(0),
            _ if by == 1 => a,
            Index::Const(c) => self.constant(c.saturating_mul(by)),
            Index::Scale(x, c) if let Some(product) = c.checked_mul(by) => self.scale(x, product),
            _ => self.intern(Index::Scale(a, by)),
        }
    }

    /// `a / by`, for `by` of at least 1.
    pub fn div(&mut self, a: IndexId, by: i64) -> IndexId {
        match self.get(a) {
            _ if by == 1 => a,
            Index::Const(c) if c >= 0 && by >= 1 => self.constant(c / by),
            _ => self.intern(Index::Div(a, by)),
        }
    }

    /// `a / b` for two expressions; by a constant where `b` is one.
    pub fn div_by(&mut self, a: IndexId, b: IndexId) -> IndexId {
        match self.get(b) {
            Index::Const(c) => self.div(a, c),
            _ => self.intern(Index::DivBy(a, b)),
        }
    }

    /// `a % by`, for `by` of at least 1.
    pub fn modulo(&mut self, a: IndexId, by: i64) -> IndexId {
        match self.get(a) {
            _ if by == 1 => self.constant(0),
            Index::Const(c) if c >= 0 && by >= 1 => self.constant(c % by),
            _ => self.intern(Index::Mod(a, by)),
        }
    }

    /// `a / by` rounded up: `(a + by - 1) / by`.
    pub fn ceil_div(&mut self, a: IndexId, by: i64) -> IndexId {
        let up = self.constant(by.saturating_sub(1));
        let sum = self.add(a, up);
        self.div(sum, by)
    }

    /// `min(a, b)`.
    pub fn min(&mut self, a: IndexId, b: IndexId) -> IndexId {
        match (self.get(a), self.get(b)) {
            (Index::Const(x), Index::Const(y)) => self.constant(x.min(y)),
            _ if a == b => a,
            _ => self.intern(Index::Min(a, b)),
        }
    }

    /// `max(a, b)`.
    pub fn max(&mut self, a: IndexId, b: IndexId) -> IndexId {
        match (self.get(a), self.get(b)) {
            (Index::Const(x), Index::Const(y)) => self.constant(x.max(y)),
            _ if a == b => a,
            _ => self.intern(Index::Max(a, b)),
        }
    }

    /// `idx(value, lo..hi)`.
    pub fn clamp(&mut self, value: ExprId, lo: IndexId, hi: IndexId) -> IndexId {
        self.intern(Index::Clamp(value, lo, hi))
    }

    /// Calls `visit` for the index expressions directly below.
    pub fn operands(&self, id: IndexId, visit: &mut dyn FnMut(IndexId)) {
        match self.get(id) {
            Index::Const(_) | Index::Var(_) | Index::Builtin(_) => {}
            Index::Scale(a, _) | Index::Div(a, _) | Index::Mod(a, _) => visit(a),
            Index::Add(a, b) | Index::DivBy(a, b) | Index::Min(a, b) | Index::Max(a, b) | Index::Clamp(_, a, b) => {
                visit(a);
                visit(b);
            }
        }
    }

    /// Calls `visit` for every data value an `idx` inside the expression clamps.
    pub fn clamped(&self, id: IndexId, visit: &mut dyn FnMut(ExprId)) {
        if let Index::Clamp(value, _, _) = self.get(id) {
            visit(value);
        }
        self.operands(id, &mut |x| self.clamped(x, visit));
    }
}
