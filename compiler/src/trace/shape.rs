//! Extents and axes as users write them.

use mlxc_ir::{Size, SymId};

/// An extent: a number, or an expression over symbols of the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dim(pub(crate) Size);

impl Dim {
    /// The number, if it depends on no symbol.
    pub fn as_const(&self) -> Option<i64> {
        self.0.as_const()
    }

    /// The extent as a size expression.
    pub fn size(&self) -> &Size {
        &self.0
    }

    pub(crate) fn symbol(id: SymId) -> Self {
        Dim(Size::symbol(id))
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Self {
        Dim(Size::constant(n))
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Self {
        Dim(Size::constant(n.into()))
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim(Size::constant(i64::try_from(n).unwrap_or(i64::MAX)))
    }
}

impl From<&Dim> for Dim {
    fn from(d: &Dim) -> Self {
        d.clone()
    }
}

macro_rules! arithmetic {
    ($($trait:ident $method:ident $op:tt),*) => {$(
        impl<T: Into<Dim>> std::ops::$trait<T> for Dim {
            type Output = Dim;

            fn $method(self, other: T) -> Dim {
                Dim(self.0 $op other.into().0)
            }
        }

        impl<T: Into<Dim>> std::ops::$trait<T> for &Dim {
            type Output = Dim;

            fn $method(self, other: T) -> Dim {
                Dim(self.0.clone() $op other.into().0)
            }
        }
    )*};
}

arithmetic!(Add add +, Sub sub -, Mul mul *);

/// A list of extents: `(s, 2048)`, `[4, 8]`, a vector, or one extent.
pub trait IntoShape {
    /// The extents, outermost first.
    fn into_shape(self) -> Vec<Dim>;
}

impl<T: Into<Dim>, const N: usize> IntoShape for [T; N] {
    fn into_shape(self) -> Vec<Dim> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Dim>> IntoShape for Vec<T> {
    fn into_shape(self) -> Vec<Dim> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Dim> + Clone> IntoShape for &[T] {
    fn into_shape(self) -> Vec<Dim> {
        self.iter().cloned().map(Into::into).collect()
    }
}

impl IntoShape for () {
    fn into_shape(self) -> Vec<Dim> {
        Vec::new()
    }
}

macro_rules! tuples {
    ($(($($t:ident $i:tt),+)),*) => {$(
        impl<$($t: Into<Dim>),+> IntoShape for ($($t,)+) {
            fn into_shape(self) -> Vec<Dim> {
                vec![$(self.$i.into()),+]
            }
        }
    )*};
}

tuples!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3), (A 0, B 1, C 2, D 3, E 4));

/// One axis or several; negative ones count from the end.
pub trait IntoAxes {
    /// The axes as given.
    fn into_axes(self) -> Vec<i32>;
}

impl IntoAxes for i32 {
    fn into_axes(self) -> Vec<i32> {
        vec![self]
    }
}

impl<const N: usize> IntoAxes for [i32; N] {
    fn into_axes(self) -> Vec<i32> {
        self.to_vec()
    }
}

impl IntoAxes for Vec<i32> {
    fn into_axes(self) -> Vec<i32> {
        self
    }
}
