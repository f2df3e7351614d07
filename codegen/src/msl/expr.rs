//! Value expressions. C++ promotes what is narrower than an `int`, and leaves signed sums that overflow undefined:
//! results are cast back to their type, and signed arithmetic is that of unsigned integers.

use mlxc_ir::DType;
use mlxc_ir::kernel::{
    BinaryOp, ExprId, ExprKind, FoldOp, IndexId, Kernel, LaneFn, LocalId, LocalKind, SubgroupOp, Type, UnaryOp,
};

use crate::shader::{Indices, Ix, PRIMARY, PRODUCT, SUM, Text, component, swizzle};

use super::{Writer, scalar_type, type_name};

impl Writer<'_> {
    /// A value as a name that may be used any number of times.
    fn named(&mut self, id: ExprId, base: &str) -> String {
        let ty = type_name(self.k.expr(id).ty);
        let value = self.expr(id).text;
        self.bind(base, &ty, value)
    }

    pub(super) fn expr(&mut self, id: ExprId) -> Text {
        let expr = self.k.expr(id);
        let ty = expr.ty;
        match &expr.kind {
            ExprKind::Const(bits) => constant(*bits, ty.dtype()),
            ExprKind::Arg(a) => {
                self.scalars = true;
                Text::primary(self.names.read_argument(a.index()))
            }
            ExprKind::FromIndex(i) => {
                let ix = self.index(*i);
                number(ix, ty.dtype())
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
            ExprKind::Select(c, a, b) => self.select(*c, *a, *b),
            ExprKind::Cast(a) => {
                let same = self.k.expr(*a).ty == ty;
                let a = self.expr(*a);
                if same { a } else { Text::primary(format!("{}({})", type_name(ty), a.text)) }
            }
            ExprKind::Bits(a) => {
                let same = self.k.expr(*a).ty == ty;
                let a = self.expr(*a);
                if same { a } else { Text::primary(format!("as_type<{}>({})", type_name(ty), a.text)) }
            }
            ExprKind::Splat(a) => {
                let a = self.expr(*a).text;
                Text::primary(format!("{}({a})", type_name(ty)))
            }
            ExprKind::Vector(all) => {
                let all: Vec<String> = all.iter().map(|e| self.expr(*e).text).collect();
                Text::primary(format!("{}({})", type_name(ty), all.join(", ")))
            }
            ExprKind::Table(f) => {
                let all: Vec<String> = (0..ty.lanes())
                    .map(|l| {
                        let ix = self.index_with(f.body, Some((f.var, i64::from(l))));
                        number(ix, ty.dtype()).text
                    })
                    .collect();
                match all.len() {
                    1 => Text::primary(all.concat()),
                    _ => Text::primary(format!("{}({})", type_name(ty), all.join(", "))),
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
                // Only functions that a profile lists as native are called.
                Text::primary(format!("precise::{}({})", f.name(), all.join(", ")))
            }
            ExprKind::Subgroup(op, x) => {
                let x = self.expr(*x).text;
                Text::primary(match op {
                    SubgroupOp::Fold(FoldOp::Add) => format!("simd_sum({x})"),
                    SubgroupOp::Fold(op) => format!("simd_{}({x})", op.name()),
                    SubgroupOp::Any => format!("simd_any({x})"),
                    SubgroupOp::All => format!("simd_all({x})"),
                    SubgroupOp::Broadcast(lane) => format!("simd_broadcast({x}, ushort({lane}))"),
                    SubgroupOp::Exchange(by) => format!("simd_shuffle_xor({x}, ushort({by}))"),
                })
            }
            // Every lane loads the one element.
            ExprKind::GroupBroadcast(x) => self.expr(*x),
            other => panic!("invariant: `check` refuses {other:?}"),
        }
    }

    /// A local, or one of its registers.
    pub(super) fn register(&mut self, local: LocalId, at: &[IndexId]) -> String {
        let name = self.names.local(self.k, local);
        let LocalKind::Reg(_) = &self.k.local(local).kind else { return name };
        at.iter().fold(name, |register, i| format!("{register}[{}]", self.index(*i).text()))
    }

    fn select(&mut self, c: ExprId, a: ExprId, b: ExprId) -> Text {
        let scalar = self.k.expr(c).ty.lanes() == 1;
        let predicate = self.expr(c).at(PRIMARY);
        // Only one arm is evaluated of a choice between scalars, so that lanes must have met before.
        let [a, b] = [(a, "a"), (b, "b")].map(|(e, base)| match scalar && self.is_collective(e) {
            true => self.named(e, base),
            false => self.expr(e).at(SUM),
        });
        match scalar {
            true => Text::primary(format!("({predicate} ? {a} : {b})")),
            false => Text::primary(format!("select({b}, {a}, {predicate})")),
        }
    }

    fn unary(&mut self, op: UnaryOp, a: ExprId, ty: Type) -> Text {
        let dtype = ty.dtype();
        if dtype == DType::Bool {
            let a = self.expr(a).at(PRIMARY);
            return Text::new(format!("!{a}"), PRODUCT);
        }
        let call = match op {
            UnaryOp::Neg if dtype.is_int() => {
                let (unsigned, name) = (type_name(unsigned(ty)), type_name(ty));
                let a = self.expr(a).text;
                return Text::primary(format!("{name}({unsigned}(0) - {unsigned}({a}))"));
            }
            UnaryOp::Neg => {
                let a = self.expr(a).at(PRIMARY);
                // Two signs in a row would be one token.
                let a = if a.starts_with('-') { format!("({a})") } else { a };
                return Text::new(format!("-{a}"), PRODUCT);
            }
            UnaryOp::Not => {
                let a = self.expr(a).at(PRIMARY);
                return Text::primary(format!("{}(~{a})", type_name(ty)));
            }
            UnaryOp::Abs if dtype.is_signed_int() => return self.size(a, ty),
            UnaryOp::Abs if dtype.is_int() => return self.expr(a),
            UnaryOp::Abs => "fabs",
            UnaryOp::Sqrt => "precise::sqrt",
            other => other.name(),
        };
        let a = self.expr(a).text;
        Text::primary(format!("{call}({a})"))
    }

    /// The absolute value of a signed integer, which wraps.
    fn size(&mut self, a: ExprId, ty: Type) -> Text {
        let (unsigned, name) = (type_name(unsigned(ty)), type_name(ty));
        let a = self.named(a, "a");
        let negated = format!("{name}({unsigned}(0) - {unsigned}({a}))");
        Text::primary(match ty.lanes() {
            1 => format!("({a} < 0 ? {negated} : {a})"),
            _ => format!("select({a}, {negated}, {a} < {name}(0))"),
        })
    }

    fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId, ty: Type) -> Text {
        let dtype = ty.dtype();
        if matches!(op, BinaryOp::Min | BinaryOp::Max) {
            if !dtype.is_float() && dtype.bytes() <= 4 {
                let (a, b) = (self.expr(a).text, self.expr(b).text);
                return Text::primary(format!("{}({a}, {b})", op.name(dtype)));
            }
            let (a, b) = (self.named(a, "a"), self.named(b, "b"));
            let by = if op == BinaryOp::Min { "<" } else { ">" };
            return Text::primary(match ty.lanes() {
                1 => format!("({a} {by} {b} ? {a} : {b})"),
                _ => format!("select({b}, {a}, {a} {by} {b})"),
            });
        }
        let (x, y) = (self.expr(a), self.expr(b));
        if dtype.is_int() {
            return integer(op, x, y, is_constant(self.k, b), ty);
        }
        match op {
            BinaryOp::Add => Text::new(format!("{} + {}", x.at(SUM), y.at(PRODUCT)), SUM),
            BinaryOp::Sub => Text::new(format!("{} - {}", x.at(SUM), y.at(PRODUCT)), SUM),
            BinaryOp::Mul | BinaryOp::Div => {
                Text::new(format!("{} {} {}", x.at(PRODUCT), op.name(dtype), y.at(PRIMARY)), PRODUCT)
            }
            BinaryOp::Xor => Text::primary(format!("({} != {})", x.at(PRIMARY), y.at(PRIMARY))),
            _ => Text::new(format!("{} {} {}", x.at(PRIMARY), op.name(dtype), y.at(PRIMARY)), 0),
        }
    }

    fn shuffle(&mut self, v: ExprId, f: &LaneFn, ty: Type) -> Text {
        let scalar = self.k.expr(v).ty.lanes() == 1;
        let picks: Vec<Ix> = (0..ty.lanes()).map(|l| self.index_with(f.body, Some((f.var, i64::from(l))))).collect();
        if scalar {
            let v = self.expr(v).text;
            return Text::primary(format!("{}({v})", type_name(ty)));
        }
        if let Some(swizzle) = swizzle(&picks) {
            let v = self.expr(v).at(PRIMARY);
            return Text::primary(format!("{v}.{swizzle}"));
        }
        let v = self.named(v, "v");
        let all: Vec<String> = picks.into_iter().map(|p| component(&v, p)).collect();
        Text::primary(match all.len() {
            1 => all.concat(),
            _ => format!("{}({})", type_name(ty), all.join(", ")),
        })
    }
}

/// Integer arithmetic that wraps.
fn integer(op: BinaryOp, x: Text, y: Text, constant: bool, ty: Type) -> Text {
    let dtype = ty.dtype();
    let symbol = op.name(dtype);
    let (name, through) = (type_name(ty), unsigned(ty));
    // Vectors are not promoted.
    let promoted = dtype.bytes() < 4 && ty.lanes() == 1;
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul if dtype.is_signed_int() && !promoted => {
            let unsigned = type_name(through);
            Text::primary(format!("{name}({unsigned}({}) {symbol} {unsigned}({}))", x.text, y.text))
        }
        BinaryOp::Shl if dtype.is_signed_int() => {
            let unsigned = type_name(through);
            let by = if ty.lanes() == 1 { y } else { Text::primary(format!("{unsigned}({})", y.text)) };
            let by = amount(by, constant, through);
            Text::primary(format!("{name}({unsigned}({}) << {by})", x.text))
        }
        BinaryOp::Shl | BinaryOp::Shr => {
            let by = amount(y, constant, ty);
            let text = format!("{} {symbol} {by}", x.at(PRIMARY));
            if promoted { Text::primary(format!("{name}({text})")) } else { Text::new(text, 0) }
        }
        _ => {
            let (text, level) = match op {
                BinaryOp::Add | BinaryOp::Sub => (format!("{} {symbol} {}", x.at(SUM), y.at(PRODUCT)), SUM),
                BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => {
                    (format!("{} {symbol} {}", x.at(PRODUCT), y.at(PRIMARY)), PRODUCT)
                }
                _ => (format!("{} {symbol} {}", x.at(PRIMARY), y.at(PRIMARY)), 0),
            };
            if promoted { Text::primary(format!("{name}({text})")) } else { Text::new(text, level) }
        }
    }
}

/// The amount of a shift: of its bits, only those that count.
fn amount(by: Text, constant: bool, ty: Type) -> String {
    if constant {
        return by.at(PRIMARY);
    }
    let mask = ty.dtype().bytes() * 8 - 1;
    let mask = match ty {
        Type::Value { dtype: DType::U32, lanes: 1 } => format!("{mask}u"),
        _ => format!("{}({mask})", type_name(ty)),
    };
    format!("({} & {mask})", by.at(PRIMARY))
}

fn is_constant(kernel: &Kernel, id: ExprId) -> bool {
    match kernel.expr(id).kind {
        ExprKind::Const(_) | ExprKind::Table(_) => true,
        ExprKind::Splat(one) => is_constant(kernel, one),
        _ => false,
    }
}

/// The type with an integer's sign dropped.
fn unsigned(ty: Type) -> Type {
    ty.with_dtype(match ty.dtype() {
        DType::I8 => DType::U8,
        DType::I16 => DType::U16,
        DType::I32 => DType::U32,
        DType::I64 => DType::U64,
        other => other,
    })
}

fn constant(bits: u64, dtype: DType) -> Text {
    let name = scalar_type(dtype);
    Text::primary(match dtype {
        DType::Bool => (bits != 0).to_string(),
        DType::F32 => float(f32::from_bits(bits as u32)),
        DType::F16 if half::f16::from_bits(bits as u16).is_normal() || bits == 0 => {
            format!("{name}({})", float(half::f16::from_bits(bits as u16).to_f32()))
        }
        DType::BF16 if half::bf16::from_bits(bits as u16).is_normal() || bits == 0 => {
            format!("{name}({})", float(half::bf16::from_bits(bits as u16).to_f32()))
        }
        DType::F16 | DType::BF16 => format!("as_type<{name}>(ushort(0x{bits:x}u))"),
        DType::U32 if bits > 0xFFFF => format!("0x{bits:x}u"),
        DType::U32 => format!("{bits}u"),
        DType::I32 if bits as u32 as i32 == i32::MIN => "int(0x80000000u)".to_string(),
        DType::I32 => (bits as u32 as i32).to_string(),
        DType::U64 => format!("{bits}ul"),
        DType::I64 if bits as i64 == i64::MIN => "long(0x8000000000000000ul)".to_string(),
        DType::I64 => format!("{}l", bits as i64),
        DType::I8 => format!("{name}({})", bits as u8 as i8),
        DType::I16 => format!("{name}({})", bits as u16 as i16),
        _ => format!("{name}({bits})"),
    })
}

fn float(value: f32) -> String {
    // Compilers may flush subnormal literals, and have no words for what is not finite.
    match value.is_finite() && (value == 0.0 || value.abs() >= f32::MIN_POSITIVE) {
        true => format!("{value:?}f"),
        false => format!("as_type<float>(0x{:08x}u)", value.to_bits()),
    }
}

/// An index as a number; it may be negative, as wrapped.
fn number(ix: Ix, dtype: DType) -> Text {
    if let Ix::Const(c) = ix {
        return constant(crate::constant::of_integer(dtype, c), dtype);
    }
    let text = ix.text();
    Text::primary(match dtype {
        DType::U32 => return Text::new(text, 0),
        DType::I32 => format!("int({text})"),
        DType::U64 => format!("ulong(long(int({text})))"),
        other => format!("{}(int({text}))", scalar_type(other)),
    })
}
