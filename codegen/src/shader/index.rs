//! Index expressions as unsigned 32-bit arithmetic, folded where it is constant. Sums may pass below zero and wrap
//! back; quotients, bounds and comparisons are proved not to.

use mlxc_ir::kernel::{Builtin, ExprId, Index, IndexId, Kernel, VarId};

use super::text::{PRIMARY, PRODUCT, SUM};

/// An index: a number, or text and how tightly it binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ix {
    Const(i64),
    Text(String, u8),
}

impl Ix {
    pub(crate) fn name(text: String) -> Ix {
        Ix::Text(text, PRIMARY)
    }

    pub(crate) fn text(self) -> String {
        self.at(0)
    }

    /// The text as an operand that must bind at least so tightly.
    pub(crate) fn at(self, level: u8) -> String {
        match self {
            Ix::Const(c) => format!("{}u", c as u32),
            Ix::Text(text, own) if own >= level => text,
            Ix::Text(text, _) => format!("({text})"),
        }
    }

    pub(crate) fn plus(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.wrapping_add(b)),
            (Ix::Const(0), x) | (x, Ix::Const(0)) => x,
            (x, Ix::Const(c)) if c < 0 => Ix::Text(format!("{} - {}u", x.at(SUM), c.wrapping_neg() as u32), SUM),
            (a, b) => Ix::Text(format!("{} + {}", a.at(SUM), b.at(SUM)), SUM),
        }
    }

    pub(crate) fn minus(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.wrapping_sub(b)),
            (x, Ix::Const(0)) => x,
            (a, b) => Ix::Text(format!("{} - {}", a.at(SUM), b.at(PRODUCT)), SUM),
        }
    }

    pub(crate) fn times(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.wrapping_mul(b)),
            (Ix::Const(0), _) | (_, Ix::Const(0)) => Ix::Const(0),
            (Ix::Const(1), x) | (x, Ix::Const(1)) => x,
            (a, b) => Ix::Text(format!("{} * {}", a.at(PRODUCT), b.at(PRIMARY)), PRODUCT),
        }
    }

    pub(crate) fn over(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) if b != 0 => Ix::Const(a / b),
            (x, Ix::Const(1)) => x,
            (a, b) => Ix::Text(format!("{} / {}", a.at(PRODUCT), b.at(PRIMARY)), PRODUCT),
        }
    }

    pub(crate) fn modulo(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) if b != 0 => Ix::Const(a % b),
            (_, Ix::Const(1)) => Ix::Const(0),
            (a, b) => Ix::Text(format!("{} % {}", a.at(PRODUCT), b.at(PRIMARY)), PRODUCT),
        }
    }

    pub(crate) fn call(function: &str, a: Ix, b: Ix) -> Ix {
        match (a, b) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(if function == "min" { a.min(b) } else { a.max(b) }),
            (a, b) => Ix::Text(format!("{function}({}, {})", a.text(), b.text()), PRIMARY),
        }
    }
}

/// A writer that prints index expressions.
pub(crate) trait Indices {
    /// The kernel it prints.
    fn kernel(&self) -> &Kernel;

    /// How a variable is read.
    fn variable(&mut self, var: VarId) -> String;

    /// How a built-in value is read.
    fn position(&mut self, builtin: Builtin) -> String;

    /// A data value kept within bounds, the upper one inclusive.
    fn clamped(&mut self, value: ExprId, lo: Ix, last: Ix) -> Ix;

    /// An index expression.
    fn index(&mut self, id: IndexId) -> Ix {
        self.index_with(id, None)
    }

    /// An index expression with a number in place of one variable, a lane function's.
    fn index_with(&mut self, id: IndexId, with: Option<(VarId, i64)>) -> Ix {
        match self.kernel().index.get(id) {
            Index::Const(c) => Ix::Const(c),
            Index::Var(v) => match with {
                Some((var, value)) if var == v => Ix::Const(value),
                _ => Ix::name(self.variable(v)),
            },
            Index::Builtin(b) => Ix::name(self.position(b)),
            Index::Add(a, b) => {
                let a = self.index_with(a, with);
                match self.kernel().index.get(b) {
                    Index::Scale(x, by) if by < 0 => {
                        let x = self.index_with(x, with);
                        a.minus(x.times(Ix::Const(by.wrapping_neg())))
                    }
                    _ => {
                        let b = self.index_with(b, with);
                        a.plus(b)
                    }
                }
            }
            Index::Scale(a, by) if by < 0 => {
                let a = self.index_with(a, with);
                Ix::Const(0).minus(a.times(Ix::Const(by.wrapping_neg())))
            }
            Index::Scale(a, by) => self.index_with(a, with).times(Ix::Const(by)),
            Index::Div(a, by) => self.index_with(a, with).over(Ix::Const(by)),
            Index::Mod(a, by) => self.index_with(a, with).modulo(Ix::Const(by)),
            Index::DivBy(a, b) => {
                let (a, b) = (self.index_with(a, with), self.index_with(b, with));
                a.over(b)
            }
            Index::Min(a, b) => Ix::call("min", self.index_with(a, with), self.index_with(b, with)),
            Index::Max(a, b) => Ix::call("max", self.index_with(a, with), self.index_with(b, with)),
            Index::Clamp(value, lo, hi) => {
                let (lo, hi) = (self.index_with(lo, with), self.index_with(hi, with));
                self.clamped(value, lo, hi.plus(Ix::Const(-1)))
            }
        }
    }
}
