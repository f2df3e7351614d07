//! Pulling coordinates back through view ops: where an element of the result is found in the operand.

use crate::lower::coord::{Coord, Space};
use mlxc_ir::{Range, Size};

/// Sizes of the function as the space sees them.
pub struct Sizes<'a> {
    /// Interval of each symbol.
    pub ranges: &'a [Range],
    /// Known divisor of each symbol.
    pub multiples: &'a [i64],
}

impl Sizes<'_> {
    /// A size as a coordinate, if it is affine in the symbols.
    pub fn coord(&self, space: &mut Space, size: &Size) -> Option<Coord> {
        space.size(size, self.ranges, self.multiples)
    }
}

/// Through a broadcast from `from` to the coordinates' shape.
pub fn broadcast(from: &[Size], to: &[Size], coords: &[Coord]) -> Vec<Coord> {
    let skip = to.len() - from.len();
    let one = Size::constant(1);
    from.iter()
        .enumerate()
        .map(|(i, d)| if *d == one && to[i + skip] != one { Coord::constant(0) } else { coords[i + skip].clone() })
        .collect()
}

/// Through a transpose: operand axis `perm[i]` is result axis `i`.
pub fn transpose(perm: &[u32], coords: &[Coord]) -> Vec<Coord> {
    let mut out = vec![Coord::default(); coords.len()];
    for (i, p) in perm.iter().enumerate() {
        out[*p as usize] = coords[i].clone();
    }
    out
}

/// From coordinates in shape `from` to coordinates in shape `to` of the same elements in row-major order.
/// `None` where a group of axes has more than one symbolic extent, so that the map is not affine.
pub fn reshape(space: &mut Space, from: &[Size], to: &[Size], coords: &[Coord]) -> Option<Vec<Coord>> {
    let mut out = Vec::with_capacity(to.len());
    let (mut i, mut j) = (0, 0);
    let one = Size::constant(1);
    while i < from.len() || j < to.len() {
        // Extents of 1 carry no information; dropping them keeps groups small.
        if i < from.len() && from[i] == one {
            i += 1;
            continue;
        }
        if j < to.len() && to[j] == one {
            out.push(Coord::constant(0));
            j += 1;
            continue;
        }
        let (gi, gj) = group(&from[i..], &to[j..])?;
        let inner: Vec<Coord> = if gi == 1 && gj == 1 {
            vec![coords[i].clone()]
        } else {
            regroup(space, &from[i..i + gi], &to[j..j + gj], &coords[i..i + gi])?
        };
        out.extend(inner);
        i += gi;
        j += gj;
    }
    Some(out)
}

/// The shortest prefixes of equal product.
fn group(from: &[Size], to: &[Size]) -> Option<(usize, usize)> {
    let mut products = Vec::with_capacity(from.len());
    let mut p = Size::constant(1);
    for d in from {
        p = p * d.clone();
        products.push(p.clone());
    }
    let mut q = Size::constant(1);
    for (j, d) in to.iter().enumerate() {
        q = q * d.clone();
        if let Some(i) = products.iter().position(|p| *p == q) {
            return Some((i + 1, j + 1));
        }
    }
    None
}

fn regroup(space: &mut Space, from: &[Size], to: &[Size], coords: &[Coord]) -> Option<Vec<Coord>> {
    let mut linear = Coord::constant(0);
    for (d, c) in from.iter().zip(coords) {
        linear = if linear.as_const() == Some(0) { c.clone() } else { linear.scale(d.as_const()?).plus(c, 1) };
    }
    // Parts of one index that meet again are that index.
    linear = space.rejoined(linear);
    let mut out = Vec::with_capacity(to.len());
    for d in to[1..].iter().rev() {
        let n = d.as_const()?;
        if n == 0 {
            return None;
        }
        let (q, r) = space.div_rem(&linear, n);
        out.push(r);
        linear = q;
    }
    out.push(linear);
    out.reverse();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::coord::Atom;
    use mlxc_ir::SymId;

    #[test]
    fn splitting_heads_is_affine_over_split_loops() {
        let mut s = Space::default();
        let row = Coord::atom(s.intern(Atom::Loop(0), Range::new(0, 4095), 1));
        let head = Coord::atom(s.intern(Atom::Loop(1), Range::new(0, 31), 1));
        let d = Coord::atom(s.intern(Atom::Loop(2), Range::new(0, 63), 1));
        let symbolic = Size::symbol(SymId(0));
        let flat = [Size::constant(1), symbolic.clone(), Size::constant(2048)];
        let split = [symbolic, Size::constant(32), Size::constant(64)];
        let coords = [Coord::constant(0), row.clone(), head.scale(64).plus(&d, 1)];
        let back = reshape(&mut s, &flat, &split, &coords).unwrap();
        assert_eq!(back, vec![row.clone(), head.clone(), d.clone()]);
        let forth = reshape(&mut s, &split, &flat, &back).unwrap();
        assert_eq!(forth, coords);
    }

    #[test]
    fn two_symbolic_extents_in_one_group_are_refused() {
        let mut s = Space::default();
        let a = Size::symbol(SymId(0));
        let b = Size::symbol(SymId(1));
        let c = [Coord::constant(0), Coord::constant(0)];
        assert_eq!(reshape(&mut s, &[a.clone(), b.clone()], &[a * b], &c), Some(vec![Coord::constant(0)]));
        let x = Coord::atom(s.intern(Atom::Loop(0), Range::new(0, 9), 1));
        let (a, b) = (Size::symbol(SymId(0)), Size::symbol(SymId(1)));
        assert_eq!(reshape(&mut s, &[a.clone() * b.clone()], &[a, b], &[x]), None);
    }
}
