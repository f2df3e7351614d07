//! The operations of value expressions, and their names in text.

use mlxc_package::DType;

/// Operations on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-x`; wraps on integers.
    Neg,
    /// `!x`: logical on bool, bitwise on integers.
    Not,
    /// `abs(x)`.
    Abs,
    /// `sqrt(x)`, correctly rounded.
    Sqrt,
    /// `floor(x)`.
    Floor,
    /// `ceil(x)`.
    Ceil,
    /// `trunc(x)`.
    Trunc,
    /// `rint(x)`: nearest integer, ties to even.
    Rint,
}

impl UnaryOp {
    /// Those written as calls.
    pub const CALLS: [UnaryOp; 6] =
        [UnaryOp::Abs, UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Trunc, UnaryOp::Rint];

    /// The operator or function in text.
    pub const fn name(self) -> &'static str {
        match self {
            UnaryOp::Neg => "-",
            UnaryOp::Not => "!",
            UnaryOp::Abs => "abs",
            UnaryOp::Sqrt => "sqrt",
            UnaryOp::Floor => "floor",
            UnaryOp::Ceil => "ceil",
            UnaryOp::Trunc => "trunc",
            UnaryOp::Rint => "rint",
        }
    }
}

/// Operations on two values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`; wraps on integers.
    Add,
    /// `-`; wraps on integers.
    Sub,
    /// `*`; wraps on integers.
    Mul,
    /// `/`; integers truncate, and the divisor is not 0.
    Div,
    /// `%` on integers, with the sign of the dividend; the divisor is not 0.
    Rem,
    /// `min(a, b)` is `select(a < b, a, b)`.
    Min,
    /// `max(a, b)` is `select(a > b, a, b)`: b if either is NaN.
    Max,
    /// `&`, and `&&` on bool.
    And,
    /// `|`, and `||` on bool.
    Or,
    /// `^`.
    Xor,
    /// `<<`; the amount is less than the width.
    Shl,
    /// `>>`; arithmetic on signed types; the amount is less than the width.
    Shr,
}

impl BinaryOp {
    /// The operator or function in text; `&&` and `||` for bool.
    pub const fn name(self, dtype: DType) -> &'static str {
        match (self, dtype) {
            (BinaryOp::Add, _) => "+",
            (BinaryOp::Sub, _) => "-",
            (BinaryOp::Mul, _) => "*",
            (BinaryOp::Div, _) => "/",
            (BinaryOp::Rem, _) => "%",
            (BinaryOp::Min, _) => "min",
            (BinaryOp::Max, _) => "max",
            (BinaryOp::And, DType::Bool) => "&&",
            (BinaryOp::And, _) => "&",
            (BinaryOp::Or, DType::Bool) => "||",
            (BinaryOp::Or, _) => "|",
            (BinaryOp::Xor, _) => "^",
            (BinaryOp::Shl, _) => "<<",
            (BinaryOp::Shr, _) => ">>",
        }
    }
}

/// Comparisons; ordered on floats, except that `!=` is true for NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Comparison {
    /// The operator.
    pub const fn name(self) -> &'static str {
        match self {
            Comparison::Eq => "==",
            Comparison::Ne => "!=",
            Comparison::Lt => "<",
            Comparison::Le => "<=",
            Comparison::Gt => ">",
            Comparison::Ge => ">=",
        }
    }

    /// The comparison that holds exactly when this one does not (on integers).
    pub const fn negated(self) -> Self {
        match self {
            Comparison::Eq => Comparison::Ne,
            Comparison::Ne => Comparison::Eq,
            Comparison::Lt => Comparison::Ge,
            Comparison::Le => Comparison::Gt,
            Comparison::Gt => Comparison::Le,
            Comparison::Ge => Comparison::Lt,
        }
    }
}

/// Operations with which a set of values is combined into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoldOp {
    /// Sum.
    Add,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Bitwise and; integers and bool.
    And,
    /// Bitwise or; integers and bool.
    Or,
    /// Bitwise exclusive or; integers.
    Xor,
}

impl FoldOp {
    /// All of them.
    pub const ALL: [FoldOp; 6] = [FoldOp::Add, FoldOp::Min, FoldOp::Max, FoldOp::And, FoldOp::Or, FoldOp::Xor];

    /// The name after `lanes.`, `sg.` or `atomic.`.
    pub const fn name(self) -> &'static str {
        match self {
            FoldOp::Add => "add",
            FoldOp::Min => "min",
            FoldOp::Max => "max",
            FoldOp::And => "and",
            FoldOp::Or => "or",
            FoldOp::Xor => "xor",
        }
    }

    /// The same operation on two values.
    pub const fn binary(self) -> BinaryOp {
        match self {
            FoldOp::Add => BinaryOp::Add,
            FoldOp::Min => BinaryOp::Min,
            FoldOp::Max => BinaryOp::Max,
            FoldOp::And => BinaryOp::And,
            FoldOp::Or => BinaryOp::Or,
            FoldOp::Xor => BinaryOp::Xor,
        }
    }
}

/// Operations over the lanes of one subgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubgroupOp {
    /// All-reduce in an unspecified order; every lane gets equal bits.
    Fold(FoldOp),
    /// True where any lane's predicate is.
    Any,
    /// True where every lane's predicate is.
    All,
    /// The value of this lane.
    Broadcast(u8),
    /// The value of the lane whose number differs by this exclusive or.
    Exchange(u8),
}

macro_rules! math {
    ($($(#[$doc:meta])* $name:ident $text:literal $arity:literal,)*) => {
        /// Elementary functions, accurate to the ulp of the kernel's level.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum MathFn { $($(#[$doc])* $name,)* }

        impl MathFn {
            /// All of them.
            pub const ALL: &'static [MathFn] = &[$(MathFn::$name,)*];

            /// The function's name in text.
            pub const fn name(self) -> &'static str {
                match self { $(MathFn::$name => $text,)* }
            }

            /// Number of arguments: 1 or 2.
            pub const fn arity(self) -> usize {
                match self { $(MathFn::$name => $arity,)* }
            }
        }
    };
}

math! {
    /// eˣ
    Exp "exp" 1,
    /// 2ˣ
    Exp2 "exp2" 1,
    /// eˣ − 1
    Expm1 "expm1" 1,
    /// Natural logarithm.
    Log "log" 1,
    /// Logarithm to base 2.
    Log2 "log2" 1,
    /// Logarithm to base 10.
    Log10 "log10" 1,
    /// log(1 + x)
    Log1p "log1p" 1,
    /// Sine of radians.
    Sin "sin" 1,
    /// Cosine of radians.
    Cos "cos" 1,
    /// Tangent of radians.
    Tan "tan" 1,
    /// Inverse sine.
    Asin "asin" 1,
    /// Inverse cosine.
    Acos "acos" 1,
    /// Inverse tangent.
    Atan "atan" 1,
    /// Hyperbolic sine.
    Sinh "sinh" 1,
    /// Hyperbolic cosine.
    Cosh "cosh" 1,
    /// Hyperbolic tangent.
    Tanh "tanh" 1,
    /// Inverse hyperbolic sine.
    Asinh "asinh" 1,
    /// Inverse hyperbolic cosine.
    Acosh "acosh" 1,
    /// Inverse hyperbolic tangent.
    Atanh "atanh" 1,
    /// Error function.
    Erf "erf" 1,
    /// Inverse of the error function.
    Erfinv "erfinv" 1,
    /// 1/√x
    Rsqrt "rsqrt" 1,
    /// xʸ
    Pow "pow" 2,
    /// What is left of x after whole multiples of y, with the sign of x; exact in f32, and in f64 as far as
    /// the quotient is. x itself for infinite y.
    Fmod "fmod" 2,
    /// Angle of the point (second argument, first argument).
    Atan2 "atan2" 2,
}
