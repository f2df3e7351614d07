//! Functions: their arguments and the type of what they give.

use super::Parser;
use super::parse_type;
use super::resolve::{Accessed, Entity, Grouped, Typed, Want};
use super::syntax::{Argument, Node, Syntax, TypeArg};
use crate::Diagnostic;
use crate::kernel::ops::{BinaryOp, FoldOp, MathFn, SubgroupOp, UnaryOp};
use crate::kernel::types::*;
use mlxc_package::DType;
use smallvec::SmallVec;
use std::collections::HashMap;

impl<'t> Parser<'t> {
    pub(super) fn call(
        &mut self,
        node: Node,
        name: &'t str,
        of: Option<TypeArg>,
        args: &[Argument<'t>],
        want: Want,
    ) -> Result<Typed, Diagnostic> {
        if let Some(Type::Value { dtype, lanes: 1 }) = parse_type(name) {
            return self.cast(node, dtype, args);
        }
        if let Some(f) = MathFn::ALL.iter().find(|f| f.name() == name) {
            let nodes = self.plain(node, args, f.arity())?;
            let v = self.values_of(node, &nodes, want)?;
            let ty = self.type_of(v[0]);
            if !ty.dtype().is_float() || ty.is_tile() {
                return Err(self.error_in(node, 503, format!("{name} takes floats, not {ty}")));
            }
            return Ok(self.give(ExprKind::Math(*f, v.into_iter().collect()), ty));
        }
        if let Some(op) = UnaryOp::CALLS.into_iter().find(|op| op.name() == name) {
            let nodes = self.plain(node, args, 1)?;
            let a = self.any_value(nodes[0], want)?;
            let ty = self.type_of(a);
            let fine = ty.dtype().is_float() || (op == UnaryOp::Abs && ty.dtype().is_int());
            if !fine || ty.is_tile() {
                return Err(self.error_in(node, 503, format!("{name} is not defined on {ty}")));
            }
            return Ok(self.give(ExprKind::Unary(op, a), ty));
        }
        let collective =
            |prefix: &str| name.strip_prefix(prefix).and_then(|n| FoldOp::ALL.into_iter().find(|op| op.name() == n));
        match name {
            "fma" | "mad" => {
                let nodes = self.plain(node, args, 3)?;
                let v = self.values_of(node, &nodes, want)?;
                let ty = self.type_of(v[0]);
                if !ty.dtype().is_float() || ty.is_tile() {
                    return Err(self.error_in(node, 503, format!("{name} takes floats, not {ty}")));
                }
                let kind =
                    if name == "fma" { ExprKind::Fma(v[0], v[1], v[2]) } else { ExprKind::Mad(v[0], v[1], v[2]) };
                Ok(self.give(kind, ty))
            }
            "min" | "max" => self.extremum(node, name == "min", args, want),
            "ceildiv" => {
                let nodes = self.plain(node, args, 2)?;
                let (a, by) = (self.index_of(nodes[0])?, self.index_of(nodes[1])?);
                match self.kernel.index.as_const(by) {
                    Some(by) if by >= 1 => Ok(Typed::Index(self.kernel.index.ceil_div(a, by))),
                    _ => Err(self.error_in(node, 521, "ceildiv is by a constant of at least 1")),
                }
            }
            "idx" => match args {
                [Argument::Value(v), Argument::Range(lo, hi)] => {
                    let v = self.any_value(*v, Want::Nothing)?;
                    let ty = self.type_of(v);
                    if ty.lanes() != 1 || !ty.dtype().is_int() {
                        return Err(self.error_in(node, 503, format!("idx takes an integer scalar, not {ty}")));
                    }
                    let (lo, hi) = (self.index_of(*lo)?, self.index_of(*hi)?);
                    Ok(Typed::Index(self.kernel.index.clamp(v, lo, hi)))
                }
                _ => Err(self.error_in(node, 505, "idx is written `idx(v, lo..hi)`")),
            },
            "select" => {
                let nodes = self.plain(node, args, 3)?;
                let c = self.any_value(nodes[0], Want::Nothing)?;
                let v = self.values_of(node, &nodes[1..], want)?;
                let (cond, ty) = (self.type_of(c), self.type_of(v[0]));
                if cond.dtype() != DType::Bool || !(cond.lanes() == 1 || cond.lanes() == ty.lanes()) {
                    return Err(self.error_in(node, 503, format!("select of {ty} by {cond}")));
                }
                Ok(self.give(ExprKind::Select(c, v[0], v[1]), ty))
            }
            "as" | "splat" | "vec" | "shuffle" | "extract" => self.vectors(node, name, of, args),
            "lut" | "dot2" | "dot4" => self.tables_and_dots(node, name, args),
            "hsum" | "hmin" | "hmax" => {
                let nodes = self.plain(node, args, 1)?;
                let v = self.any_value(nodes[0], Want::Nothing)?;
                let ty = self.type_of(v);
                if ty.is_tile() || ty.dtype() == DType::Bool {
                    return Err(self.error_in(node, 503, format!("{name} is not defined on {ty}")));
                }
                let op = match name {
                    "hsum" => FoldOp::Add,
                    "hmin" => FoldOp::Min,
                    _ => FoldOp::Max,
                };
                Ok(self.give(ExprKind::Fold(op, v), Type::scalar(ty.dtype())))
            }
            "mma" | "tile.map" => self.tiles(node, name, args),
            _ if name.starts_with("tile_") => self.load_tile(node, name, args),
            "group.bcast" => {
                let nodes = self.plain(node, args, 1)?;
                let v = self.any_value(nodes[0], want)?;
                let ty = self.type_of(v);
                Ok(self.give(ExprKind::GroupBroadcast(v), ty))
            }
            _ if let Some(op) = collective("lanes.") => {
                let Some(TypeArg::Number(n @ 1..=1024)) = of else {
                    return Err(self.error_in(node, 505, format!("{name} is written `{name}<32>(x)`")));
                };
                let nodes = self.plain(node, args, 1)?;
                let v = self.any_value(nodes[0], want)?;
                let ty = self.folds(node, name, op, v)?;
                Ok(self.give(ExprKind::Lanes(op, n as u32, v), ty))
            }
            _ if name.starts_with("sg.") => self.subgroup(node, name, collective("sg."), args, want),
            _ => Err(self.error_in(node, 505, format!("there is no function `{name}`"))),
        }
    }

    fn give(&mut self, kind: ExprKind, ty: Type) -> Typed {
        Typed::Value(self.kernel.push_expr(kind, ty))
    }

    /// The arguments, if there are `n` and all are plain expressions.
    fn plain(&self, node: Node, args: &[Argument<'t>], n: usize) -> Result<SmallVec<[Node; 3]>, Diagnostic> {
        let nodes: SmallVec<[Node; 3]> = args
            .iter()
            .filter_map(|a| match a {
                Argument::Value(v) => Some(*v),
                _ => None,
            })
            .collect();
        if nodes.len() == n && args.len() == n {
            return Ok(nodes);
        }
        let message = "the arguments do not fit the function";
        Err(self.error_in(node, 505, message).expected(format!("{n} expressions")).found(format!("{}", args.len())))
    }

    fn cast(&mut self, node: Node, to: DType, args: &[Argument<'t>]) -> Result<Typed, Diagnostic> {
        let nodes = self.plain(node, args, 1)?;
        // A cast literal is a constant of the type, and so is a cast constant index.
        let literal = self.nodes[nodes[0]].syntax.is_literal();
        let want = if literal { Want::Type(to.into()) } else { Want::Nothing };
        match self.resolve(nodes[0], want)? {
            Typed::Index(_) if to == DType::Bool => Err(self.error_in(node, 503, "bool of an index: compare it")),
            Typed::Index(i) => match self.kernel.index.as_const(i) {
                Some(c) => Ok(self.give(ExprKind::Const(crate::kernel::scalar::from_i64(to, c)), to.into())),
                None => Ok(self.give(ExprKind::FromIndex(i), to.into())),
            },
            Typed::Value(e) if literal => Ok(Typed::Value(e)),
            Typed::Value(e) => {
                let ty = self.type_of(e).with_dtype(to);
                Ok(self.give(ExprKind::Cast(e), ty))
            }
        }
    }

    fn extremum(&mut self, node: Node, min: bool, args: &[Argument<'t>], want: Want) -> Result<Typed, Diagnostic> {
        let nodes = self.plain(node, args, 2)?;
        let v = match self.group_of(&nodes, want)? {
            Grouped::Indices(v) => {
                let index = &mut self.kernel.index;
                return Ok(Typed::Index(if min { index.min(v[0], v[1]) } else { index.max(v[0], v[1]) }));
            }
            Grouped::Values(v) => v,
        };
        let ty = self.type_of(v[0]);
        if ty.is_tile() || ty.dtype() == DType::Bool {
            return Err(self.error_in(node, 503, format!("min and max are not defined on {ty}")));
        }
        let op = if min { BinaryOp::Min } else { BinaryOp::Max };
        Ok(self.give(ExprKind::Binary(op, v[0], v[1]), ty))
    }

    fn lambda(&mut self, name: &'t str, body: Node) -> Result<LaneFn, Diagnostic> {
        let var = self.kernel.push_var(name);
        self.scopes.push(HashMap::from([(name, Entity::Index(var))]));
        let body = self.index_of(body);
        self.scopes.pop();
        Ok(LaneFn { var, body: body? })
    }

    fn vectors(
        &mut self,
        node: Node,
        name: &str,
        of: Option<TypeArg>,
        args: &[Argument<'t>],
    ) -> Result<Typed, Diagnostic> {
        let lanes = |n: u64| (Type::lanes_allowed(n) && n > 1).then_some(n as u8);
        match (name, of, args) {
            ("as", Some(TypeArg::Type(to)), [Argument::Value(v)]) => {
                let v = self.any_value(*v, Want::Nothing)?;
                let from = self.type_of(v);
                if from.is_tile() || to.is_tile() || from.bits() != to.bits() {
                    return Err(self.error_in(node, 503, format!("as<{to}> of {from}: the sizes differ")));
                }
                Ok(self.give(ExprKind::Bits(v), to))
            }
            ("splat", Some(of), [Argument::Value(v)]) => {
                let v = self.any_value(*v, Want::Nothing)?;
                let own = self.type_of(v);
                let ty = match of {
                    TypeArg::Number(n) => lanes(n).map(|n| Type::vector(own.dtype(), n)),
                    TypeArg::Type(ty) => Some(ty),
                };
                match ty {
                    Some(ty) if own == Type::scalar(ty.dtype()) => Ok(self.give(ExprKind::Splat(v), ty)),
                    _ => Err(self.error_in(node, 503, format!("a {own} cannot be spread so"))),
                }
            }
            ("vec", Some(TypeArg::Type(ty)), [Argument::Lambda(names, body)]) if names.len() == 1 => {
                if ty.is_tile() || ty.dtype() == DType::Bool {
                    return Err(self.error_in(node, 503, format!("vec<{ty}> is not a vector of numbers")));
                }
                let f = self.lambda(names[0], *body)?;
                Ok(self.give(ExprKind::Table(f), ty))
            }
            ("vec", None, [Argument::Value(_), ..]) => {
                let nodes = self.plain(node, args, args.len())?;
                let v = self.values_of(node, &nodes, Want::Nothing)?;
                let ty = self.type_of(v[0]);
                match lanes(v.len() as u64 * u64::from(ty.lanes())) {
                    Some(n) if !ty.is_tile() => {
                        Ok(self.give(ExprKind::Vector(v.into_iter().collect()), Type::vector(ty.dtype(), n)))
                    }
                    _ => Err(self.error_in(
                        node,
                        503,
                        "vec takes 2, 4, 8, 16, 32 or 64 elements, as scalars or equal vectors",
                    )),
                }
            }
            ("shuffle", Some(TypeArg::Number(n)), [Argument::Value(v), Argument::Lambda(names, body)])
                if names.len() == 1 && lanes(n).is_some() =>
            {
                let v = self.any_value(*v, Want::Nothing)?;
                let ty = self.type_of(v);
                if ty.is_tile() {
                    return Err(self.error_in(node, 503, "shuffle takes a vector"));
                }
                let f = self.lambda(names[0], *body)?;
                Ok(self.give(ExprKind::Shuffle(v, f), Type::vector(ty.dtype(), n as u8)))
            }
            ("extract", None, [Argument::Value(v), Argument::Value(i)]) => {
                let v = self.any_value(*v, Want::Nothing)?;
                let ty = self.type_of(v);
                if ty.is_tile() {
                    return Err(self.error_in(node, 503, "extract takes a vector"));
                }
                let i = self.index_of(*i)?;
                Ok(self.give(ExprKind::Extract(v, i), Type::scalar(ty.dtype())))
            }
            _ => {
                let message = "the arguments do not fit the function";
                let forms = "as<T>(x), splat<N>(x), vec(a, b), vec<TxN>(l: e), shuffle<N>(v, l: e) or extract(v, i)";
                Err(self.error_in(node, 505, message).expected(forms))
            }
        }
    }

    fn tables_and_dots(&mut self, node: Node, name: &str, args: &[Argument<'t>]) -> Result<Typed, Diagnostic> {
        if name == "lut" {
            let nodes = self.plain(node, args, 2)?;
            let (t, i) = (self.any_value(nodes[0], Want::Nothing)?, self.any_value(nodes[1], Want::Nothing)?);
            let (table, at) = (self.type_of(t), self.type_of(i));
            if table.is_tile() || !at.dtype().is_int() {
                return Err(self.error_in(node, 503, format!("lut of {table} by {at}")));
            }
            return Ok(self.give(ExprKind::Lut(t, i), Type::vector(table.dtype(), at.lanes())));
        }
        let terms = if name == "dot2" { 2 } else { 4 };
        let nodes = self.plain(node, args, 3)?;
        let (a, b) = (self.any_value(nodes[1], Want::Nothing)?, self.any_value(nodes[2], Want::Nothing)?);
        let (ta, tb) = (self.type_of(a), self.type_of(b));
        let dtype = match (terms, ta.dtype(), tb.dtype()) {
            (2, DType::BF16, DType::BF16) | (2, DType::F16, DType::F16) => Some(DType::F32),
            (4, DType::U8 | DType::I8, DType::I8) | (4, DType::U8, DType::U8) => Some(DType::I32),
            _ => None,
        };
        match dtype {
            Some(dtype) if ta.lanes() == tb.lanes() && ta.lanes() % terms == 0 && !ta.is_tile() => {
                let ty = Type::vector(dtype, ta.lanes() / terms);
                let acc = self.value_of(nodes[0], ty)?;
                Ok(self.give(ExprKind::Dot { terms, acc, a, b }, ty))
            }
            _ => Err(self.error_in(node, 503, format!("{name} of {ta} and {tb}"))),
        }
    }

    fn tiles(&mut self, node: Node, name: &str, args: &[Argument<'t>]) -> Result<Typed, Diagnostic> {
        if name == "mma" {
            let nodes = self.plain(node, args, 3)?;
            let mut v = SmallVec::<[ExprId; 3]>::new();
            for n in nodes {
                v.push(self.any_value(n, Want::Nothing)?);
            }
            let ty = self.type_of(v[2]);
            return Ok(self.give(ExprKind::Mma(v[0], v[1], v[2]), ty));
        }
        let [Argument::Value(t), Argument::Lambda(names, body)] = args else {
            return Err(self.error_in(node, 505, "tile.map is written `tile.map(t, [i, j, v]: e)`"));
        };
        let [i, j, v] = names.as_slice() else {
            return Err(self.error_in(node, 505, "tile.map is written `tile.map(t, [i, j, v]: e)`"));
        };
        let tile = self.any_value(*t, Want::Nothing)?;
        let ty = self.type_of(tile);
        let scalar = Type::scalar(ty.dtype());
        let (row, column) = (self.kernel.push_var(*i), self.kernel.push_var(*j));
        let element = self.kernel.push_local(*v, scalar, LocalKind::TileElement);
        let scope =
            HashMap::from([(*i, Entity::Index(row)), (*j, Entity::Index(column)), (*v, Entity::Local(element))]);
        self.scopes.push(scope);
        let body = self.value_of(*body, scalar);
        self.scopes.pop();
        let kind = ExprKind::TileMap { tile, row, column, element, body: body? };
        Ok(self.give(kind, ty))
    }

    fn load_tile(&mut self, node: Node, name: &str, args: &[Argument<'t>]) -> Result<Typed, Diagnostic> {
        let Some((role, order)) = tile_load(name) else {
            return Err(self.error_in(node, 505, format!("there is no function `{name}`")));
        };
        let nodes = self.plain(node, args, 1)?;
        let Syntax::At(access) = self.nodes[nodes[0]].syntax.clone() else {
            return Err(self.error_in(node, 505, format!("{name} takes a place such as x[i +: 8, j +: 8]")));
        };
        match self.resolve_access(self.nodes[nodes[0]].token, &access)? {
            Accessed::Memory(place, None) if let Shape::Tile(r, c) = place.shape => {
                let Some((rows, columns)) = order.tile(r, c) else {
                    return Err(self.error_in(node, 503, format!("{name} does not fit a place of {r} x {c}")));
                };
                let ty = Type::Tile { dtype: self.kernel.memory_dtype(place.memory), rows, columns, role };
                Ok(self.give(ExprKind::LoadTile { place, order }, ty))
            }
            _ => Err(self.error_in(node, 505, format!("{name} takes a place such as x[i +: 8, j +: 8]"))),
        }
    }

    fn folds(&self, node: Node, name: &str, op: FoldOp, v: ExprId) -> Result<Type, Diagnostic> {
        let ty = self.type_of(v);
        let fine = match op {
            FoldOp::Add | FoldOp::Min | FoldOp::Max => ty.dtype() != DType::Bool,
            FoldOp::And | FoldOp::Or | FoldOp::Xor => !ty.dtype().is_float(),
        };
        if fine && !ty.is_tile() {
            return Ok(ty);
        }
        Err(self.error_in(node, 503, format!("{name} is not defined on {ty}")))
    }

    fn subgroup(
        &mut self,
        node: Node,
        name: &str,
        fold: Option<FoldOp>,
        args: &[Argument<'t>],
        want: Want,
    ) -> Result<Typed, Diagnostic> {
        // `sg.xor(x)` combines, `sg.xor(x, 4)` exchanges.
        let second = matches!(name, "sg.bcast") || (name == "sg.xor" && args.len() == 2);
        let nodes = self.plain(node, args, if second { 2 } else { 1 })?;
        let v = self.any_value(nodes[0], want)?;
        let ty = self.type_of(v);
        let op = if second {
            let by = self.index_of(nodes[1])?;
            let by = self.kernel.index.as_const(by).filter(|b| (0..128).contains(b));
            let by = by.ok_or_else(|| self.error_in(node, 504, "a constant lane below 128 is needed"))? as u8;
            if name == "sg.bcast" { SubgroupOp::Broadcast(by) } else { SubgroupOp::Exchange(by) }
        } else if let Some(op) = fold {
            self.folds(node, name, op, v)?;
            SubgroupOp::Fold(op)
        } else if matches!(name, "sg.any" | "sg.all") {
            if ty != Type::scalar(DType::Bool) {
                return Err(self.error_in(node, 503, format!("{name} takes a bool, not {ty}")));
            }
            if name == "sg.any" { SubgroupOp::Any } else { SubgroupOp::All }
        } else {
            return Err(self.error_in(node, 505, format!("there is no function `{name}`")));
        };
        Ok(self.give(ExprKind::Subgroup(op, v), ty))
    }
}

/// Role and order that the name of a tile load says: `tile_a`, `tile_b_t`, `tile_b_2`.
fn tile_load(name: &str) -> Option<(TileRole, TileOrder)> {
    let mut parts = name.strip_prefix("tile_")?.split('_');
    let role = match parts.next()? {
        "a" => TileRole::A,
        "b" => TileRole::B,
        "c" => TileRole::C,
        _ => return None,
    };
    let order = match parts.next() {
        None => TileOrder::Rows,
        Some("t") => TileOrder::Columns,
        Some("2") => TileOrder::Interleaved(2),
        Some("4") => TileOrder::Interleaved(4),
        Some(_) => return None,
    };
    parts.next().is_none().then_some((role, order))
}
