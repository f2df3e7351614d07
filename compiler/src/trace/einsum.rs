//! Einstein summation, two operands at a time from the left.
//!
//! Letters that only one operand has and the rest does not need are summed at once. Of two operands, letters that both
//! have and the rest needs are batch axes, those it does not need are inner axes of a matmul; an operand's own letters
//! are its rows. A letter twice in one operand takes its diagonal.

use super::array::{Array, Operand};
use super::here;
use mlxc_ir::graph::{BinaryOp, Op};
use mlxc_ir::{Diagnostic, Location, Size};

/// An operand and the letters of its axes.
#[derive(Clone)]
struct Term {
    letters: Vec<char>,
    array: Array,
}

impl Array {
    /// Sums of products in letters: MLX's `einsum`, `"ij,jk->ik"`. Without `->` the result has the letters that stand
    /// once, in alphabetical order. There is no `...`.
    ///
    /// # Errors
    /// `MLXC0143` where the text does not fit the operands.
    ///
    /// # Panics
    /// Without an operand.
    #[track_caller]
    pub fn einsum(subscripts: &str, operands: &[&Array]) -> Array {
        let at = here();
        let first = operands.first().expect("einsum takes at least one array");
        match parse(subscripts, operands) {
            Ok((inputs, output)) => {
                let terms = inputs.into_iter().zip(operands).map(|(l, a)| Term { letters: l, array: (*a).clone() });
                reduce(terms.collect(), &output, &at)
            }
            Err((expected, found)) => {
                let d = Diagnostic::new(143, format!("the subscripts `{subscripts}` do not fit"));
                first.fail(d.expected(expected).found(found), &at)
            }
        }
    }
}

type Wrong = (String, String);

fn parse(text: &str, operands: &[&Array]) -> Result<(Vec<Vec<char>>, Vec<char>), Wrong> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (text.as_str(), None),
    };
    let inputs: Vec<Vec<char>> = left.split(',').map(|s| s.chars().collect()).collect();
    let letters = || inputs.iter().flatten();
    let all = letters().copied().chain(right.unwrap_or_default().chars());
    if let Some(c) = all.into_iter().find(|c| !c.is_ascii_alphabetic()) {
        return Err(("letters, commas and one arrow".into(), c.to_string()));
    }
    if inputs.len() != operands.len() {
        return Err((format!("subscripts of {} operands", operands.len()), inputs.len().to_string()));
    }
    let mut extents: Vec<(char, Size)> = Vec::new();
    for (l, a) in inputs.iter().zip(operands) {
        let shape = a.sizes();
        if a.value.is_some() && shape.len() != l.len() {
            return Err((format!("{} letters", shape.len()), l.iter().collect()));
        }
        for (c, d) in l.iter().zip(&shape) {
            match extents.iter().find(|(known, _)| known == c) {
                Some((_, known)) if known != d => return Err((format!("`{c}` of extent {known}"), d.to_string())),
                Some(_) => {}
                None => extents.push((*c, d.clone())),
            }
        }
    }
    let output = match right {
        Some(r) => r.chars().collect::<Vec<char>>(),
        None => {
            let mut once: Vec<char> =
                letters().copied().filter(|c| letters().filter(|o| *o == c).count() == 1).collect();
            once.sort_unstable();
            once
        }
    };
    for (i, c) in output.iter().enumerate() {
        if output[..i].contains(c) || !letters().any(|l| l == c) {
            return Err(("result letters that operands have, each once".into(), output.iter().collect()));
        }
    }
    Ok((inputs, output))
}

fn reduce(terms: Vec<Term>, output: &[char], at: &Location) -> Array {
    let mut rest = terms.into_iter();
    let mut left = rest.next().expect("einsum takes at least one array").diagonals(at);
    let mut rest: Vec<Term> = rest.map(|t| t.diagonals(at)).collect();
    while !rest.is_empty() {
        let right = rest.remove(0);
        let needed = |c: &char| output.contains(c) || rest.iter().any(|t| t.letters.contains(c));
        left = multiply(left, right, &needed, at);
    }
    left.summed(&|c| output.contains(c), at).ordered(output, at).array
}

fn multiply(a: Term, b: Term, needed: &dyn Fn(&char) -> bool, at: &Location) -> Term {
    let in_b = b.letters.clone();
    let in_a = a.letters.clone();
    let a = a.summed(&|c| needed(c) || in_b.contains(c), at);
    let b = b.summed(&|c| needed(c) || in_a.contains(c), at);
    let of = |x: &Term, keep: &dyn Fn(&char) -> bool| -> Vec<char> {
        x.letters.iter().copied().filter(|c| keep(c)).collect()
    };
    let batch = of(&a, &|c| b.letters.contains(c) && needed(c));
    let inner = of(&a, &|c| b.letters.contains(c) && !needed(c));
    let (rows, columns) = (of(&a, &|c| !b.letters.contains(c)), of(&b, &|c| !a.letters.contains(c)));
    let letters: Vec<char> = batch.iter().chain(&rows).chain(&columns).copied().collect();
    let float = a.array.dtype().is_float() || b.array.dtype().is_float();
    if inner.is_empty() || !float {
        // Nothing to sum, or exact sums: a broadcast product.
        let every: Vec<char> = letters.iter().chain(&inner).copied().collect();
        let (x, y) = (a.spread(&every, at), b.spread(&every, at));
        let product = Term { letters: every, array: x.binary(BinaryOp::Multiply, Operand::Array(y)) };
        return product.summed(&|c| !inner.contains(c), at).ordered(&letters, at);
    }
    let dtype = a.array.product_dtype(&b.array);
    let extents = |t: &Term, l: &[char]| -> Vec<Size> { l.iter().map(|c| t.extent(*c)).collect() };
    let (eb, er, ec, ei) = (extents(&a, &batch), extents(&a, &rows), extents(&b, &columns), extents(&a, &inner));
    let one = |s: &[Size]| s.iter().fold(Size::constant(1), |n, d| n * d.clone());
    let joined = |parts: &[&[char]]| -> Vec<char> { parts.iter().flat_map(|p| p.iter().copied()).collect() };
    let flat = |t: Term, order: Vec<char>, tail: [Size; 2]| {
        let x = t.ordered(&order, at).array.promoted(dtype, at);
        let shape = if batch.is_empty() { tail.to_vec() } else { std::iter::once(one(&eb)).chain(tail).collect() };
        x.make(Op::Reshape { shape }, &[&x], at)
    };
    let x = flat(a, joined(&[&batch, &rows, &inner]), [one(&er), one(&ei)]);
    let y = flat(b, joined(&[&batch, &inner, &columns]), [one(&ei), one(&ec)]);
    let z = x.make(Op::MatMul { transpose_a: false, transpose_b: false }, &[&x, &y], at);
    let shape = eb.into_iter().chain(er).chain(ec).collect();
    Term { letters, array: z.make(Op::Reshape { shape }, &[&z], at) }
}

impl Term {
    fn extent(&self, letter: char) -> Size {
        let sizes = self.array.sizes();
        self.letters.iter().position(|c| *c == letter).and_then(|i| sizes.get(i).cloned()).unwrap_or(Size::constant(1))
    }

    /// The diagonal over letters that stand twice.
    fn diagonals(mut self, at: &Location) -> Term {
        let twice = |l: &[char]| (0..l.len()).find_map(|i| (0..i).find(|j| l[*j] == l[i]).map(|j| (j, i)));
        while let Some((j, i)) = twice(&self.letters) {
            let line = self.array.counter(self.extent(self.letters[j]), at);
            // The diagonal comes first.
            self.array = self.array.gather(&[&line, &line], [j as i32, i as i32]);
            let letter = self.letters.remove(i);
            self.letters.remove(j);
            self.letters.insert(0, letter);
        }
        self
    }

    /// Letters that are not kept, summed.
    fn summed(self, keep: &dyn Fn(&char) -> bool, at: &Location) -> Term {
        let axes: Vec<u32> = (0..self.letters.len()).filter(|i| !keep(&self.letters[*i])).map(|i| i as u32).collect();
        if axes.is_empty() {
            return self;
        }
        let op = Op::Reduce { op: mlxc_ir::graph::ReduceOp::Sum, axes, keepdims: false };
        let array = self.array.make(op, &[&self.array], at);
        Term { letters: self.letters.into_iter().filter(|c| keep(c)).collect(), array }
    }

    /// The same with axes in another order.
    fn ordered(self, order: &[char], at: &Location) -> Term {
        if self.letters == order {
            return self;
        }
        let place = |c: &char| self.letters.iter().position(|l| l == c).map(|i| i as u32);
        let perm = order.iter().filter_map(place).collect();
        let array = self.array.make(Op::Transpose { perm }, &[&self.array], at);
        Term { letters: order.to_vec(), array }
    }

    /// Axes for every letter of a list, of extent 1 where it has none.
    fn spread(self, every: &[char], at: &Location) -> Array {
        let mine: Vec<char> = every.iter().copied().filter(|c| self.letters.contains(c)).collect();
        let ordered = self.ordered(&mine, at);
        let shape =
            every.iter().map(|c| if mine.contains(c) { ordered.extent(*c) } else { Size::constant(1) }).collect();
        ordered.array.make(Op::Reshape { shape }, &[&ordered.array], at)
    }
}
