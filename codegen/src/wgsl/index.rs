//! Index expressions as unsigned 32-bit arithmetic, folded where it is constant. Sums may pass below zero and wrap
//! back; quotients, bounds and comparisons are proved not to.

use mlxc_ir::DType;
use mlxc_ir::kernel::{Builtin, Index, IndexId, VarId};

use super::{LANE, SCALARS, SUBGROUP_ID, SUBGROUP_LANE, SUBGROUP_WIDTH, Writer};

/// How tightly text binds: a name or call, a product, a sum.
pub(super) const PRIMARY: u8 = 3;
pub(super) const PRODUCT: u8 = 2;
pub(super) const SUM: u8 = 1;

/// An index: a number, or text and how tightly it binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ix {
    Const(i64),
    Text(String, u8),
}

impl Ix {
    pub(super) fn name(text: String) -> Ix {
        Ix::Text(text, PRIMARY)
    }

    pub(super) fn text(self) -> String {
        self.at(0)
    }

    /// The text as an operand that must bind at least so tightly.
    fn at(self, level: u8) -> String {
        match self {
            Ix::Const(c) => format!("{}u", c as u32),
            Ix::Text(text, own) if own >= level => text,
            Ix::Text(text, _) => format!("({text})"),
        }
    }

    pub(super) fn plus(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.wrapping_add(b)),
            (Ix::Const(0), x) | (x, Ix::Const(0)) => x,
            (x, Ix::Const(c)) if c < 0 => Ix::Text(format!("{} - {}u", x.at(SUM), c.wrapping_neg() as u32), SUM),
            (a, b) => Ix::Text(format!("{} + {}", a.at(SUM), b.at(SUM)), SUM),
        }
    }

    pub(super) fn minus(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.wrapping_sub(b)),
            (x, Ix::Const(0)) => x,
            (a, b) => Ix::Text(format!("{} - {}", a.at(SUM), b.at(PRODUCT)), SUM),
        }
    }

    pub(super) fn times(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(a.wrapping_mul(b)),
            (Ix::Const(0), _) | (_, Ix::Const(0)) => Ix::Const(0),
            (Ix::Const(1), x) | (x, Ix::Const(1)) => x,
            (a, b) => Ix::Text(format!("{} * {}", a.at(PRODUCT), b.at(PRIMARY)), PRODUCT),
        }
    }

    pub(super) fn over(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) if b != 0 => Ix::Const(a / b),
            (x, Ix::Const(1)) => x,
            (a, b) => Ix::Text(format!("{} / {}", a.at(PRODUCT), b.at(PRIMARY)), PRODUCT),
        }
    }

    pub(super) fn modulo(self, other: Ix) -> Ix {
        match (self, other) {
            (Ix::Const(a), Ix::Const(b)) if b != 0 => Ix::Const(a % b),
            (_, Ix::Const(1)) => Ix::Const(0),
            (a, b) => Ix::Text(format!("{} % {}", a.at(PRODUCT), b.at(PRIMARY)), PRODUCT),
        }
    }

    fn call(function: &str, a: Ix, b: Ix) -> Ix {
        match (a, b) {
            (Ix::Const(a), Ix::Const(b)) => Ix::Const(if function == "min" { a.min(b) } else { a.max(b) }),
            (a, b) => Ix::Text(format!("{function}({}, {})", a.text(), b.text()), PRIMARY),
        }
    }
}

impl Writer<'_> {
    pub(super) fn index(&mut self, id: IndexId) -> Ix {
        self.index_with(id, None)
    }

    /// An index expression with a number in place of one variable, a lane function's.
    pub(super) fn index_with(&mut self, id: IndexId, with: Option<(VarId, i64)>) -> Ix {
        match self.k.index.get(id) {
            Index::Const(c) => Ix::Const(c),
            Index::Var(v) => match with {
                Some((var, value)) if var == v => Ix::Const(value),
                _ => {
                    let name = self.names.var(v, self.k.var_name(v));
                    self.scalars |= name.starts_with(SCALARS);
                    Ix::name(name)
                }
            },
            Index::Builtin(b) => {
                let name = self.builtin(match b {
                    Builtin::Lane => LANE,
                    Builtin::SubgroupId => SUBGROUP_ID,
                    Builtin::SubgroupLane => SUBGROUP_LANE,
                    Builtin::SubgroupWidth => SUBGROUP_WIDTH,
                });
                Ix::name(name.to_string())
            }
            Index::Add(a, b) => {
                let a = self.index_with(a, with);
                match self.k.index.get(b) {
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
                let dtype = self.k.expr(value).ty.dtype();
                let value = self.expr(value).text;
                let last = hi.plus(Ix::Const(-1));
                let bound = |ix: Ix| match (dtype, ix) {
                    (DType::U32, ix) => ix.text(),
                    (DType::I32, Ix::Const(c)) => format!("{c}i"),
                    (DType::I32, ix) => format!("i32({})", ix.text()),
                    (DType::U64, ix) => format!("u64({})", ix.text()),
                    (_, ix) => format!("i64({})", ix.text()),
                };
                let clamped = format!("max(min({value}, {}), {})", bound(last), bound(lo));
                let text = if dtype == DType::U32 { clamped } else { format!("u32({clamped})") };
                Ix::Text(text, PRIMARY)
            }
        }
    }
}
