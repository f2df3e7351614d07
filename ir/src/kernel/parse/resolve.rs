//! Names and types of expressions. A literal takes the type of what stands beside it, or the one its place wants.

use super::Parser;
use super::syntax::{AccessSyntax, Node, Syntax};
use crate::Diagnostic;
use crate::kernel::index::Builtin;
use crate::kernel::ops::{BinaryOp, Comparison, UnaryOp};
use crate::kernel::scalar;
use crate::kernel::types::*;
use mlxc_package::DType;
use smallvec::SmallVec;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entity {
    Index(VarId),
    Arg(ArgId),
    Buffer(BufferId),
    Group(GroupId),
    Local(LocalId),
}

/// What the place of an expression wants, for its literals.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    Nothing,
    Index,
    Type(Type),
}

/// An expression with its type known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Typed {
    Index(IndexId),
    Value(ExprId),
}

/// What brackets after a name reach.
pub(super) enum Accessed {
    Memory(Place, Option<ExprId>),
    Local(LocalId, SmallVec<[IndexId; 2]>),
}

const LIMIT: u64 = 1 << 63;

impl<'t> Parser<'t> {
    pub(super) fn find(&self, name: &str) -> Option<Entity> {
        self.scopes.iter().rev().find_map(|s| s.get(name)).copied()
    }

    pub(super) fn error_in(&self, node: Node, id: u16, message: impl Into<String>) -> Diagnostic {
        self.error_at(self.nodes[node].token, id, message)
    }

    pub(super) fn type_of(&self, e: ExprId) -> Type {
        self.kernel.expr(e).ty
    }

    /// An index expression from here.
    pub(super) fn whole_index(&mut self) -> Result<IndexId, Diagnostic> {
        let node = self.syntax()?;
        self.index_of(node)
    }

    pub(super) fn index_of(&mut self, node: Node) -> Result<IndexId, Diagnostic> {
        match self.resolve(node, Want::Index)? {
            Typed::Index(i) => Ok(i),
            Typed::Value(e) => {
                let found = self.type_of(e).to_string();
                Err(self.error_in(node, 503, "an index is needed; `idx(v, lo..hi)` makes one of data").found(found))
            }
        }
    }

    /// A value, wanting nothing of it.
    pub(super) fn any_value(&mut self, node: Node, want: Want) -> Result<ExprId, Diagnostic> {
        match self.resolve(node, want)? {
            Typed::Value(e) => Ok(e),
            Typed::Index(_) => Err(self
                .error_in(node, 503, "a value is needed; a cast such as `u32(i)` makes one of an index")
                .found("index")),
        }
    }

    /// A value of a type; a scalar is spread over a vector or tile.
    pub(super) fn value_of(&mut self, node: Node, ty: Type) -> Result<ExprId, Diagnostic> {
        let e = self.any_value(node, Want::Type(ty))?;
        self.coerce(node, e, ty)
    }

    pub(super) fn coerce(&mut self, node: Node, e: ExprId, ty: Type) -> Result<ExprId, Diagnostic> {
        let own = self.type_of(e);
        if own == ty {
            return Ok(e);
        }
        if own == Type::scalar(ty.dtype()) {
            return Ok(self.kernel.push_expr(ExprKind::Splat(e), ty));
        }
        Err(self.error_in(node, 503, "the types differ").expected(ty.to_string()).found(own.to_string()))
    }

    pub(super) fn resolve(&mut self, node: Node, want: Want) -> Result<Typed, Diagnostic> {
        match self.nodes[node].syntax.clone() {
            Syntax::Number { .. } | Syntax::Infinity { .. } | Syntax::Nan(_) => self.literal(node, want),
            Syntax::Bool(b) => {
                Ok(Typed::Value(self.kernel.push_expr(ExprKind::Const(u64::from(b)), DType::Bool.into())))
            }
            Syntax::Name(name) => self.named(node, name),
            Syntax::Unary(op, a) => self.unary_operator(node, op, a, want),
            Syntax::Binary(op, a, b) => self.binary_operator(node, op, a, b, want),
            Syntax::Call { name, of, args } => self.call(node, name, of, &args, want),
            Syntax::At(access) => match self.resolve_access(self.nodes[node].token, &access)? {
                Accessed::Local(local, at) => {
                    let ty = self.kernel.local(local).ty;
                    Ok(Typed::Value(self.kernel.push_expr(ExprKind::Get(local, at), ty)))
                }
                Accessed::Memory(place, otherwise) => {
                    if matches!(place.shape, Shape::Tile(..)) {
                        return Err(self.error_in(node, 503, "a tile is loaded by tile_a, tile_b or tile_c"));
                    }
                    let ty = self.kernel.place_type(&place);
                    Ok(Typed::Value(self.kernel.push_expr(ExprKind::Load(place, otherwise), ty)))
                }
            },
        }
    }

    fn named(&mut self, node: Node, name: &str) -> Result<Typed, Diagnostic> {
        if let Some(b) = Builtin::ALL.into_iter().find(|b| b.name() == name) {
            return Ok(Typed::Index(self.kernel.index.builtin(b)));
        }
        match self.find(name) {
            Some(Entity::Index(var)) => Ok(Typed::Index(self.kernel.index.var(var))),
            Some(Entity::Arg(arg)) => {
                let ArgKind::Scalar(dtype) = self.kernel.args[arg.index()].kind else {
                    return Err(self.error_in(node, 502, format!("`{name}` is not a value")));
                };
                Ok(Typed::Value(self.kernel.push_expr(ExprKind::Arg(arg), dtype.into())))
            }
            Some(Entity::Local(local)) if !matches!(self.kernel.local(local).kind, LocalKind::Reg(_)) => {
                let ty = self.kernel.local(local).ty;
                Ok(Typed::Value(self.kernel.push_expr(ExprKind::Get(local, SmallVec::new()), ty)))
            }
            Some(_) => Err(self.error_in(node, 502, format!("`{name}` needs indices"))),
            None => Err(self.error_in(node, 502, format!("nothing is called `{name}` here"))),
        }
    }

    fn literal(&mut self, node: Node, want: Want) -> Result<Typed, Diagnostic> {
        let syntax = self.nodes[node].syntax.clone();
        let whole = matches!(&syntax, Syntax::Number { text, .. } if is_whole(text));
        let ty = match want {
            Want::Type(ty) => ty,
            Want::Index | Want::Nothing if whole => {
                let Syntax::Number { text, negative } = syntax else { unreachable!("whole numbers are numbers") };
                let value = whole_value(text)
                    .filter(|m| *m < LIMIT || (negative && *m == LIMIT))
                    .ok_or_else(|| self.error_in(node, 504, format!("`{text}` does not fit an index")))?;
                let value = if negative { (value as i64).wrapping_neg() } else { value as i64 };
                return Ok(Typed::Index(self.kernel.index.constant(value)));
            }
            Want::Index => return Err(self.error_in(node, 503, "an index is a whole number")),
            Want::Nothing => Type::scalar(DType::F32),
        };
        let dtype = ty.dtype();
        let bits = self.literal_bits(node, &syntax, dtype)?;
        let mut e = self.kernel.push_expr(ExprKind::Const(bits), dtype.into());
        if ty != Type::scalar(dtype) {
            e = self.kernel.push_expr(ExprKind::Splat(e), ty);
        }
        Ok(Typed::Value(e))
    }

    fn literal_bits(&self, node: Node, syntax: &Syntax<'_>, dtype: DType) -> Result<u64, Diagnostic> {
        let wrong = |what: &str| self.error_in(node, 504, format!("{what} is not a {dtype}"));
        match *syntax {
            Syntax::Infinity { negative } if dtype.is_float() => {
                Ok(scalar::from_f64(dtype, if negative { f64::NEG_INFINITY } else { f64::INFINITY }))
            }
            Syntax::Nan(bits) if dtype.is_float() => match bits {
                None => Ok(scalar::quiet_nan(dtype)),
                Some(b) if b <= scalar::mask(dtype) && scalar::to_f64(dtype, b).is_nan() => Ok(b),
                Some(_) => Err(wrong("this NaN")),
            },
            Syntax::Number { text, negative } if dtype.is_float() => {
                scalar::parse_float(dtype, text, negative).ok_or_else(|| wrong(text))
            }
            Syntax::Number { text, negative } if dtype.is_int() && is_whole(text) => {
                let magnitude = i128::from(whole_value(text).ok_or_else(|| wrong(text))?);
                let value = if negative { -magnitude } else { magnitude };
                let bits = 8 * dtype.bytes();
                let (lo, hi) = match dtype.is_signed_int() {
                    true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
                    false => (0, (1i128 << bits) - 1),
                };
                if (lo..=hi).contains(&value) { Ok(value as u64 & scalar::mask(dtype)) } else { Err(wrong(text)) }
            }
            _ => Err(wrong("this literal")),
        }
    }

    fn unary_operator(&mut self, node: Node, op: &str, a: Node, want: Want) -> Result<Typed, Diagnostic> {
        let e = match self.resolve(a, want)? {
            Typed::Index(i) if op == "-" => return Ok(Typed::Index(self.kernel.index.scale(i, -1))),
            Typed::Index(_) => return Err(self.error_in(node, 503, "`!` is not defined on an index")),
            Typed::Value(e) => e,
        };
        let ty = self.type_of(e);
        let d = ty.dtype();
        let (op, fine) = match op {
            "-" => (UnaryOp::Neg, d != DType::Bool),
            _ => (UnaryOp::Not, !d.is_float()),
        };
        if !fine || ty.is_tile() {
            return Err(self.error_in(node, 503, format!("`{}` is not defined on {ty}", op.name())));
        }
        Ok(Typed::Value(self.kernel.push_expr(ExprKind::Unary(op, e), ty)))
    }

    fn binary_operator(&mut self, node: Node, op: &str, a: Node, b: Node, want: Want) -> Result<Typed, Diagnostic> {
        let comparison =
            [Comparison::Eq, Comparison::Ne, Comparison::Lt, Comparison::Le, Comparison::Gt, Comparison::Ge]
                .into_iter()
                .find(|c| c.name() == op);
        let want = if comparison.is_some() { Want::Nothing } else { want };
        let values = match self.group_of(&[a, b], want)? {
            Grouped::Values(v) => v,
            Grouped::Indices(v) => {
                return match comparison {
                    Some(c) => {
                        let kind = ExprKind::CompareIndex(c, v[0], v[1]);
                        Ok(Typed::Value(self.kernel.push_expr(kind, DType::Bool.into())))
                    }
                    None => Ok(Typed::Index(self.index_operator(node, op, v[0], v[1])?)),
                };
            }
        };
        let ty = self.type_of(values[0]);
        let d = ty.dtype();
        if ty.is_tile() {
            return Err(self.error_in(node, 503, format!("`{op}` is not defined on {ty}")));
        }
        if let Some(c) = comparison {
            let kind = ExprKind::Compare(c, values[0], values[1]);
            return Ok(Typed::Value(self.kernel.push_expr(kind, ty.with_dtype(DType::Bool))));
        }
        let (op, fine) = match op {
            "+" => (BinaryOp::Add, d != DType::Bool),
            "-" => (BinaryOp::Sub, d != DType::Bool),
            "*" => (BinaryOp::Mul, d != DType::Bool),
            "/" => (BinaryOp::Div, d != DType::Bool),
            "%" => (BinaryOp::Rem, d.is_int()),
            "<<" => (BinaryOp::Shl, d.is_int()),
            ">>" => (BinaryOp::Shr, d.is_int()),
            "&" => (BinaryOp::And, d.is_int()),
            "|" => (BinaryOp::Or, d.is_int()),
            "^" => (BinaryOp::Xor, !d.is_float()),
            "&&" => (BinaryOp::And, d == DType::Bool),
            _ => (BinaryOp::Or, d == DType::Bool),
        };
        if !fine {
            return Err(self.error_in(node, 503, format!("`{}` is not defined on {ty}", op.name(d))));
        }
        Ok(Typed::Value(self.kernel.push_expr(ExprKind::Binary(op, values[0], values[1]), ty)))
    }

    fn index_operator(&mut self, node: Node, op: &str, a: IndexId, b: IndexId) -> Result<IndexId, Diagnostic> {
        let (ca, cb) = (self.kernel.index.as_const(a), self.kernel.index.as_const(b));
        if matches!((op, cb), ("/" | "%", Some(c)) if c < 1) {
            return Err(self.error_in(node, 521, "index divisors are at least 1"));
        }
        let index = &mut self.kernel.index;
        Ok(match (op, ca, cb) {
            ("+", ..) => index.add(a, b),
            ("-", ..) => index.sub(a, b),
            ("*", _, Some(c)) => index.scale(a, c),
            ("*", Some(c), _) => index.scale(b, c),
            ("/", _, Some(c)) => index.div(a, c),
            ("/", ..) => index.div_by(a, b),
            ("%", _, Some(c)) => index.modulo(a, c),
            ("*", ..) => return Err(self.error_in(node, 520, "two index variables are never multiplied")),
            ("%", ..) => return Err(self.error_in(node, 520, "the remainder of an index is by a constant")),
            _ => return Err(self.error_in(node, 503, format!("`{op}` is not defined on an index"))),
        })
    }

    /// Operands that have one type: literals take the widest type of the others, which take hints from each other.
    pub(super) fn group_of(&mut self, nodes: &[Node], want: Want) -> Result<Grouped, Diagnostic> {
        let mut typed: SmallVec<[Option<Typed>; 3]> = SmallVec::from_elem(None, nodes.len());
        let mut hint = want;
        let mut widest: Option<Type> = None;
        for (node, slot) in nodes.iter().zip(&mut typed) {
            if self.nodes[*node].syntax.is_literal() {
                continue;
            }
            let t = self.resolve(*node, hint)?;
            *slot = Some(t);
            hint = match t {
                Typed::Index(_) => Want::Index,
                Typed::Value(e) => {
                    let ty = self.type_of(e);
                    if widest.is_none_or(|w| ty.is_tile() || ty.lanes() > w.lanes()) {
                        widest = Some(ty);
                    }
                    Want::Type(widest.unwrap_or(ty))
                }
            };
        }
        for (node, slot) in nodes.iter().zip(&mut typed) {
            if slot.is_none() {
                let t = self.literal(*node, hint)?;
                *slot = Some(t);
                if let Typed::Value(e) = t {
                    let ty = self.type_of(e);
                    widest = Some(widest.unwrap_or(ty));
                    hint = Want::Type(ty);
                } else {
                    hint = Want::Index;
                }
            }
        }
        let Some(ty) = widest else {
            let all = typed.iter().flatten().map(|t| match t {
                Typed::Index(i) => *i,
                Typed::Value(_) => unreachable!("a value has a widest type"),
            });
            return Ok(Grouped::Indices(all.collect()));
        };
        let mut values = SmallVec::new();
        for (node, t) in nodes.iter().zip(typed) {
            match t {
                Some(Typed::Value(e)) => values.push(self.coerce(*node, e, ty)?),
                _ => {
                    let message = "an index beside a value; a cast such as `u32(i)` makes a value of it";
                    return Err(self.error_in(*node, 503, message).expected(ty.to_string()).found("index"));
                }
            }
        }
        Ok(Grouped::Values(values))
    }

    /// [`Parser::group_of`] where indices have no business.
    pub(super) fn values_of(
        &mut self,
        node: Node,
        nodes: &[Node],
        want: Want,
    ) -> Result<SmallVec<[ExprId; 3]>, Diagnostic> {
        match self.group_of(nodes, want)? {
            Grouped::Values(v) => Ok(v),
            Grouped::Indices(_) => Err(self.error_in(node, 503, "values are needed, not indices")),
        }
    }

    pub(super) fn resolve_access(&mut self, token: usize, access: &AccessSyntax<'t>) -> Result<Accessed, Diagnostic> {
        let base = access.base;
        let unknown = |parser: &Self| parser.error_at(token, 502, format!("no array is called `{base}` here"));
        let mut at = SmallVec::<[IndexId; 4]>::new();
        for (node, _) in &access.at {
            at.push(self.index_of(*node)?);
        }
        let entity = self.find(base).ok_or_else(|| unknown(self))?;
        let rank = match entity {
            Entity::Buffer(b) => self.kernel.buffer(b).shape.len(),
            Entity::Group(g) => self.kernel.group(g).shape.len(),
            Entity::Local(l) => match &self.kernel.local(l).kind {
                LocalKind::Reg(dims) => dims.len(),
                _ => return Err(unknown(self)),
            },
            _ => return Err(unknown(self)),
        };
        if rank != at.len() {
            let message = format!("`{base}` has {rank} axes");
            return Err(self.error_at(token, 511, message).found(format!("{} indices", at.len())));
        }
        let memory = match entity {
            Entity::Buffer(b) => Memory::Buffer(b),
            Entity::Group(g) => Memory::Group(g),
            _ => {
                let plain = access.at.iter().all(|(_, w)| w.is_none()) && access.first.is_none();
                let Entity::Local(local) = entity else { return Err(unknown(self)) };
                if !plain {
                    return Err(self.error_at(token, 511, "registers are reached one at a time"));
                }
                return Ok(Accessed::Local(local, at.into_iter().collect()));
            }
        };
        let shape = self.access_shape(token, access)?;
        let place = Place { memory, at, shape };
        let mut otherwise = None;
        if let Some(node) = access.otherwise {
            otherwise = Some(self.value_of(node, self.kernel.place_type(&place))?);
        }
        Ok(Accessed::Memory(place, otherwise))
    }

    fn access_shape(&mut self, token: usize, access: &AccessSyntax<'t>) -> Result<Shape, Diagnostic> {
        let n = access.at.len();
        let widths: Vec<(usize, u64)> =
            access.at.iter().enumerate().filter_map(|(i, (_, w))| Some((i, (*w)?))).collect();
        let shape = match widths.as_slice() {
            [] => Shape::One,
            [(axis, w)] if axis + 1 == n && *w > 1 && Type::lanes_allowed(*w) => Shape::Vector(*w as u8),
            [(r, rows), (c, columns)]
                if r + 2 == n && c + 1 == n && (1..=64).contains(rows) && (1..=64).contains(columns) =>
            {
                Shape::Tile(*rows as u8, *columns as u8)
            }
            _ => {
                let message = "a vector of 2, 4, 8, 16, 32 or 64 lies along the last axis, a tile along the last two";
                return Err(self.error_at(token, 511, message));
            }
        };
        match (access.first, shape) {
            (None, shape) => Ok(shape),
            (Some(count), Shape::Vector(lanes)) => Ok(Shape::First { lanes, count: self.index_of(count)? }),
            _ => Err(self.error_at(token, 511, "`first` stands after a vector's width")),
        }
    }

    /// `a <= b`, and conjunctions of such, as expressions that are at least 0.
    pub(super) fn require(&mut self, node: Node) -> Result<(), Diagnostic> {
        let (op, a, b) = match self.nodes[node].syntax {
            Syntax::Binary("&&", a, b) => {
                self.require(a)?;
                return self.require(b);
            }
            Syntax::Binary(op @ ("<" | "<=" | ">" | ">=" | "=="), a, b) => (op, a, b),
            _ => return Err(self.error_in(node, 501, "require takes comparisons of indices")),
        };
        let (a, b) = (self.index_of(a)?, self.index_of(b)?);
        let index = &mut self.kernel.index;
        let one = index.constant(1);
        let below = index.sub(b, a);
        let above = index.sub(a, b);
        let facts: SmallVec<[IndexId; 2]> = match op {
            "<" => SmallVec::from_slice(&[index.sub(below, one)]),
            "<=" => SmallVec::from_slice(&[below]),
            ">" => SmallVec::from_slice(&[index.sub(above, one)]),
            ">=" => SmallVec::from_slice(&[above]),
            _ => SmallVec::from_slice(&[below, above]),
        };
        self.kernel.require.extend(facts);
        Ok(())
    }
}

/// Operands of one type.
pub(super) enum Grouped {
    Indices(SmallVec<[IndexId; 3]>),
    Values(SmallVec<[ExprId; 3]>),
}

fn is_whole(text: &str) -> bool {
    match text.strip_prefix("0x") {
        Some(hex) => !hex.contains(['.', 'p', 'P']),
        None => !text.contains(['.', 'e', 'E']),
    }
}

fn whole_value(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
