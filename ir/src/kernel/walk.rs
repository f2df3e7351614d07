//! Walking over operands without knowing the operations.

use super::types::{ExprId, ExprKind, IndexId, Place, Shape};

impl ExprKind {
    /// Calls `visit` for each operand, in evaluation order; index expressions are not entered.
    pub fn operands(&self, visit: &mut dyn FnMut(ExprId)) {
        match self {
            ExprKind::Const(_)
            | ExprKind::Arg(_)
            | ExprKind::FromIndex(_)
            | ExprKind::CompareIndex(..)
            | ExprKind::Get(..)
            | ExprKind::LoadTile { .. }
            | ExprKind::Table(_) => {}
            ExprKind::Load(_, otherwise) => otherwise.iter().for_each(|e| visit(*e)),
            ExprKind::Unary(_, a)
            | ExprKind::Cast(a)
            | ExprKind::Bits(a)
            | ExprKind::Splat(a)
            | ExprKind::Extract(a, _)
            | ExprKind::Shuffle(a, _)
            | ExprKind::Fold(_, a)
            | ExprKind::Lanes(_, _, a)
            | ExprKind::Subgroup(_, a)
            | ExprKind::GroupBroadcast(a) => visit(*a),
            ExprKind::Binary(_, a, b) | ExprKind::Compare(_, a, b) | ExprKind::Lut(a, b) => {
                visit(*a);
                visit(*b);
            }
            ExprKind::Fma(a, b, c)
            | ExprKind::Mad(a, b, c)
            | ExprKind::Select(a, b, c)
            | ExprKind::Dot { acc: a, a: b, b: c, .. }
            | ExprKind::Mma(a, b, c) => {
                visit(*a);
                visit(*b);
                visit(*c);
            }
            ExprKind::Vector(all) => all.iter().for_each(|e| visit(*e)),
            ExprKind::Math(_, all) => all.iter().for_each(|e| visit(*e)),
            ExprKind::TileMap { tile, body, .. } => {
                visit(*tile);
                visit(*body);
            }
        }
    }

    /// The same operation on other operands.
    pub fn map_operands(&self, with: &mut dyn FnMut(ExprId) -> ExprId) -> ExprKind {
        let mut kind = self.clone();
        match &mut kind {
            ExprKind::Const(_)
            | ExprKind::Arg(_)
            | ExprKind::FromIndex(_)
            | ExprKind::CompareIndex(..)
            | ExprKind::Get(..)
            | ExprKind::LoadTile { .. }
            | ExprKind::Table(_) => {}
            ExprKind::Load(_, otherwise) => otherwise.iter_mut().for_each(|e| *e = with(*e)),
            ExprKind::Unary(_, a)
            | ExprKind::Cast(a)
            | ExprKind::Bits(a)
            | ExprKind::Splat(a)
            | ExprKind::Extract(a, _)
            | ExprKind::Shuffle(a, _)
            | ExprKind::Fold(_, a)
            | ExprKind::Lanes(_, _, a)
            | ExprKind::Subgroup(_, a)
            | ExprKind::GroupBroadcast(a) => *a = with(*a),
            ExprKind::Binary(_, a, b) | ExprKind::Compare(_, a, b) | ExprKind::Lut(a, b) => {
                *a = with(*a);
                *b = with(*b);
            }
            ExprKind::Fma(a, b, c)
            | ExprKind::Mad(a, b, c)
            | ExprKind::Select(a, b, c)
            | ExprKind::Dot { acc: a, a: b, b: c, .. }
            | ExprKind::Mma(a, b, c) => {
                *a = with(*a);
                *b = with(*b);
                *c = with(*c);
            }
            ExprKind::Vector(all) => all.iter_mut().for_each(|e| *e = with(*e)),
            ExprKind::Math(_, all) => all.iter_mut().for_each(|e| *e = with(*e)),
            ExprKind::TileMap { tile, body, .. } => {
                *tile = with(*tile);
                *body = with(*body);
            }
        }
        kind
    }

    /// Calls `visit` for each index expression of this node.
    pub fn indices(&self, visit: &mut dyn FnMut(IndexId)) {
        match self {
            ExprKind::FromIndex(i) | ExprKind::Extract(_, i) => visit(*i),
            ExprKind::CompareIndex(_, a, b) => {
                visit(*a);
                visit(*b);
            }
            ExprKind::Get(_, at) => at.iter().for_each(|i| visit(*i)),
            ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } => place.indices(visit),
            ExprKind::Table(f) | ExprKind::Shuffle(_, f) => visit(f.body),
            _ => {}
        }
    }
}

impl Place {
    /// Calls `visit` for each index expression of the place.
    pub fn indices(&self, visit: &mut dyn FnMut(IndexId)) {
        self.at.iter().for_each(|i| visit(*i));
        if let Shape::First { count, .. } = self.shape {
            visit(count);
        }
    }
}
