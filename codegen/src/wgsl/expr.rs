//! Value expressions.

use mlxc_ir::DType;
use mlxc_ir::kernel::{
    BinaryOp, ExprId, ExprKind, FoldOp, LaneFn, LocalId, LocalKind, MathFn, SubgroupOp, Type, UnaryOp,
};

use crate::shader::{Indices, Ix, PRIMARY, PRODUCT, SUM, Text, component, swizzle};

use super::{Writer, scalar_type};

impl Writer<'_> {
    pub(super) fn ty(&mut self, ty: Type) -> String {
        self.f16 |= ty.dtype() == DType::F16;
        let one = scalar_type(ty.dtype());
        match ty.lanes() {
            1 => one.to_string(),
            n => format!("vec{n}<{one}>"),
        }
    }

    /// A value as a name that may be used any number of times.
    fn named(&mut self, id: ExprId, base: &str) -> String {
        let value = self.expr(id).text;
        self.bind(base, value)
    }

    pub(super) fn expr(&mut self, id: ExprId) -> Text {
        let expr = self.k.expr(id);
        let ty = expr.ty;
        if let Some(place) = self.legal.word_load(self.phase, id) {
            return self.load_words(place, ty);
        }
        match &expr.kind {
            ExprKind::Const(bits) => self.constant(*bits, ty.dtype()),
            ExprKind::Arg(a) => {
                self.scalars = true;
                Text::primary(self.names.read_argument(a.index()))
            }
            ExprKind::FromIndex(i) => {
                let ix = self.index(*i);
                self.number(ix, ty.dtype())
            }
            ExprKind::CompareIndex(by, a, b) => {
                let (a, b) = (self.index(*a).text(), self.index(*b).text());
                Text::primary(format!("({a} {} {b})", by.name()))
            }
            ExprKind::Get(local, at) => Text::primary(self.register(*local, at)),
            ExprKind::Load(place, _) => self.load(place, ty),
            ExprKind::Unary(op, a) => self.unary(*op, *a, ty),
            ExprKind::Binary(op, a, b) => self.binary(*op, *a, *b, ty),
            ExprKind::Compare(by, a, b) => {
                let (a, b) = (self.expr(*a).at(SUM), self.expr(*b).at(SUM));
                Text::primary(format!("({a} {} {b})", by.name()))
            }
            ExprKind::Fma(a, b, c) => {
                let (a, b, c) = (self.expr(*a).text, self.expr(*b).text, self.expr(*c).text);
                Text::primary(format!("fma({a}, {b}, {c})"))
            }
            ExprKind::Select(c, a, b) => {
                let (c, a, b) = (self.expr(*c).text, self.expr(*a).text, self.expr(*b).text);
                Text::primary(format!("select({b}, {a}, {c})"))
            }
            ExprKind::Cast(a) => {
                let same = self.k.expr(*a).ty == ty;
                let a = self.expr(*a);
                if same { a } else { Text::primary(format!("{}({})", self.ty(ty), a.text)) }
            }
            ExprKind::Bits(a) => {
                let from = self.k.expr(*a).ty;
                let a = self.expr(*a);
                match (from.dtype(), ty.dtype()) {
                    _ if from == ty => a,
                    // naga has no `bitcast` between f16 and other types.
                    (DType::F16, _) => Text::primary(format!("pack2x16float(vec2<f32>({}))", a.text)),
                    (_, DType::F16) => Text::primary(format!("vec2<f16>(unpack2x16float({}))", a.text)),
                    _ => Text::primary(format!("bitcast<{}>({})", self.ty(ty), a.text)),
                }
            }
            ExprKind::Splat(a) => {
                let a = self.expr(*a).text;
                Text::primary(format!("{}({a})", self.ty(ty)))
            }
            ExprKind::Vector(all) => {
                let all: Vec<String> = all.iter().map(|e| self.expr(*e).text).collect();
                Text::primary(format!("{}({})", self.ty(ty), all.join(", ")))
            }
            ExprKind::Table(f) => {
                let all: Vec<String> = (0..ty.lanes())
                    .map(|l| {
                        let ix = self.index_with(f.body, Some((f.var, i64::from(l))));
                        self.number(ix, ty.dtype()).text
                    })
                    .collect();
                match all.len() {
                    1 => Text::primary(all.concat()),
                    _ => Text::primary(format!("{}({})", self.ty(ty), all.join(", "))),
                }
            }
            ExprKind::Extract(v, i) => {
                let scalar = self.k.expr(*v).ty.lanes() == 1;
                let v = self.expr(*v).at(PRIMARY);
                let i = self.index(*i);
                Text::primary(if scalar { v } else { component(&v, i) })
            }
            ExprKind::Shuffle(v, f) => self.shuffle(*v, f, ty),
            ExprKind::Math(f, all) => {
                let all: Vec<String> = all.iter().map(|e| self.expr(*e).text).collect();
                Text::primary(format!("{}({})", math(*f), all.join(", ")))
            }
            ExprKind::Subgroup(op, x) => {
                let x = self.expr(*x).text;
                self.subgroups = true;
                Text::primary(match op {
                    SubgroupOp::Fold(op) => format!("{}({x})", subgroup(*op)),
                    SubgroupOp::Any => format!("subgroupAny({x})"),
                    SubgroupOp::All => format!("subgroupAll({x})"),
                    SubgroupOp::Broadcast(lane) => format!("subgroupBroadcast({x}, {lane}u)"),
                    SubgroupOp::Exchange(by) => format!("subgroupShuffleXor({x}, {by}u)"),
                })
            }
            ExprKind::GroupBroadcast(x) => self.uniform_load(*x, ty),
            other => panic!("invariant: `check` refuses {other:?}"),
        }
    }

    fn constant(&mut self, bits: u64, dtype: DType) -> Text {
        let text = match dtype {
            DType::Bool => (bits != 0).to_string(),
            DType::F32 => return self.float(f32::from_bits(bits as u32)),
            DType::F16 => {
                let value = half::f16::from_bits(bits as u16);
                self.f16 = true;
                if value.is_finite() {
                    format!("{:?}h", value.to_f32())
                } else {
                    format!("f16({})", self.float(value.to_f32()).text)
                }
            }
            DType::U32 if bits > 0xFFFF => format!("0x{bits:x}u"),
            DType::U32 => format!("{bits}u"),
            DType::I32 if bits as u32 as i32 == i32::MIN => "i32(-2147483648)".to_string(),
            DType::I32 => format!("{}i", bits as u32 as i32),
            DType::U64 => format!("{bits}lu"),
            DType::I64 if bits as i64 == i64::MIN => "(-9223372036854775807li - 1li)".to_string(),
            DType::I64 => format!("{}li", bits as i64),
            other => panic!("invariant: legal kernels have no constants of {other}"),
        };
        Text::primary(text)
    }

    fn float(&mut self, value: f32) -> Text {
        // Compilers may flush subnormal literals, and refuse what is not finite.
        if value.is_finite() && (value == 0.0 || value.abs() >= f32::MIN_POSITIVE) {
            // The shortest text of the largest f32 is above it.
            let text = if value.abs() == f32::MAX { format!("{:?}", f64::from(value)) } else { format!("{value:?}") };
            return Text::primary(format!("{text}f"));
        }
        self.bits.insert(value.to_bits());
        Text::primary(format!("bitcast<f32>(bits_{:08x})", value.to_bits()))
    }

    /// An index as a number; it may be negative, as wrapped.
    fn number(&mut self, ix: Ix, dtype: DType) -> Text {
        if let Ix::Const(c) = ix {
            return self.constant(crate::constant::of_integer(dtype, c), dtype);
        }
        self.f16 |= dtype == DType::F16;
        let text = ix.text();
        Text::primary(match dtype {
            DType::U32 => return Text::new(text, 0),
            DType::I32 => format!("i32({text})"),
            DType::U64 => format!("u64(i64(i32({text})))"),
            other => format!("{}(i32({text}))", scalar_type(other)),
        })
    }

    /// A local, or one of its registers.
    pub(super) fn register(&mut self, local: LocalId, at: &[mlxc_ir::kernel::IndexId]) -> String {
        let name = self.names.local(self.k, local);
        let LocalKind::Reg(dims) = &self.k.local(local).kind else { return name };
        let mut position = Ix::Const(0);
        for (i, dim) in at.iter().zip(dims) {
            let i = self.index(*i);
            position = position.times(Ix::Const(i64::from(*dim))).plus(i);
        }
        format!("{name}[{}]", position.text())
    }

    fn unary(&mut self, op: UnaryOp, a: ExprId, ty: Type) -> Text {
        let a = self.expr(a);
        let call = match op {
            UnaryOp::Neg if matches!(ty.dtype(), DType::U32 | DType::U64) => {
                return Text::new(format!("{}(0) - {}", self.ty(ty), a.at(PRODUCT)), SUM);
            }
            UnaryOp::Neg => {
                let a = a.at(PRIMARY);
                // Two signs in a row would be one token.
                let a = if a.starts_with('-') { format!("({a})") } else { a };
                return Text::new(format!("-{a}"), PRODUCT);
            }
            UnaryOp::Not if ty.dtype() == DType::Bool => return Text::new(format!("!{}", a.at(PRIMARY)), PRODUCT),
            UnaryOp::Not => return Text::new(format!("~{}", a.at(PRIMARY)), PRODUCT),
            UnaryOp::Abs if matches!(ty.dtype(), DType::U32 | DType::U64) => return a,
            UnaryOp::Rint => "round",
            other => other.name(),
        };
        Text::primary(format!("{call}({})", a.text))
    }

    fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId, ty: Type) -> Text {
        let dtype = ty.dtype();
        if matches!(op, BinaryOp::Min | BinaryOp::Max) {
            if !dtype.is_float() {
                let (a, b) = (self.expr(a).text, self.expr(b).text);
                return Text::primary(format!("{}({a}, {b})", op.name(dtype)));
            }
            let (a, b) = (self.named(a, "a"), self.named(b, "b"));
            let by = if op == BinaryOp::Min { "<" } else { ">" };
            return Text::primary(format!("select({b}, {a}, ({a} {by} {b}))"));
        }
        let (x, y) = (self.expr(a), self.expr(b));
        match op {
            BinaryOp::Add => Text::new(format!("{} + {}", x.at(SUM), y.at(PRODUCT)), SUM),
            BinaryOp::Sub => Text::new(format!("{} - {}", x.at(SUM), y.at(PRODUCT)), SUM),
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => {
                Text::new(format!("{} {} {}", x.at(PRODUCT), op.name(dtype), y.at(PRIMARY)), PRODUCT)
            }
            BinaryOp::Shl | BinaryOp::Shr => {
                let by = match dtype {
                    DType::U32 => y.at(PRIMARY),
                    _ if let Some(by) = self.shift(b) => format!("{}({by}u)", self.ty(ty.with_dtype(DType::U32))),
                    _ => format!("{}({})", self.ty(ty.with_dtype(DType::U32)), y.text),
                };
                Text::new(format!("{} {} {by}", x.at(PRIMARY), op.name(dtype)), 0)
            }
            BinaryOp::Xor if dtype == DType::Bool => Text::primary(format!("({} != {})", x.at(PRIMARY), y.at(PRIMARY))),
            // `&&` and `||` are of scalars only.
            BinaryOp::And | BinaryOp::Or if dtype == DType::Bool && ty.lanes() > 1 => {
                let symbol = op.name(DType::U32);
                Text::new(format!("{} {symbol} {}", x.at(PRIMARY), y.at(PRIMARY)), 0)
            }
            _ => Text::new(format!("{} {} {}", x.at(PRIMARY), op.name(dtype), y.at(PRIMARY)), 0),
        }
    }

    /// A constant amount of a shift, which is unsigned whatever is shifted.
    fn shift(&self, amount: ExprId) -> Option<u64> {
        match self.k.expr(amount).kind {
            ExprKind::Const(bits) => Some(bits),
            ExprKind::Splat(one) => self.shift(one),
            _ => None,
        }
    }

    fn shuffle(&mut self, v: ExprId, f: &LaneFn, ty: Type) -> Text {
        let scalar = self.k.expr(v).ty.lanes() == 1;
        let picks: Vec<Ix> = (0..ty.lanes()).map(|l| self.index_with(f.body, Some((f.var, i64::from(l))))).collect();
        if scalar {
            let v = self.expr(v).text;
            return Text::primary(format!("{}({v})", self.ty(ty)));
        }
        if let Some(swizzle) = swizzle(&picks) {
            let v = self.expr(v).at(PRIMARY);
            return Text::primary(format!("{v}.{swizzle}"));
        }
        let v = self.named(v, "v");
        let all: Vec<String> = picks.into_iter().map(|p| component(&v, p)).collect();
        Text::primary(format!("{}({})", self.ty(ty), all.join(", ")))
    }
}

/// Only functions that a profile lists as native are called.
fn math(f: MathFn) -> &'static str {
    match f {
        MathFn::Rsqrt => "inverseSqrt",
        other => other.name(),
    }
}

fn subgroup(op: FoldOp) -> &'static str {
    match op {
        FoldOp::Add => "subgroupAdd",
        FoldOp::Min => "subgroupMin",
        FoldOp::Max => "subgroupMax",
        FoldOp::And => "subgroupAnd",
        FoldOp::Or => "subgroupOr",
        FoldOp::Xor => "subgroupXor",
    }
}
