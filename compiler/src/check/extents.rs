//! Which extents of a function are fixed by something: a weight, a state, constant data, or an op whose attributes count
//! on it.
//!
//! Every axis of every value is in a class with those that must have its extent. A class is fixed if one of its axes is.
//! Extents that are only an op's shape argument (of `full`, `arange`, `broadcast_to`) fix nothing: they could be a name as
//! well. What is not understood fixes what it touches, so that no extent is called free that is not.

use mlxc_ir::Size;
use mlxc_ir::graph::{Function, Node, Op, Role, ValueId};

pub(super) struct Extents {
    /// First axis of each value, by node and result.
    base: Vec<Vec<usize>>,
    parent: Vec<usize>,
    fixed: Vec<bool>,
    /// Axes that a reshape made one: the one, and those it was made of.
    merged: Vec<(usize, Vec<usize>, Vec<Size>)>,
}

impl Extents {
    /// Reads a function.
    pub fn of(f: &Function) -> Self {
        let mut count = 0;
        let base = f
            .nodes
            .iter()
            .map(|n| {
                let each = n.types.iter().map(|t| {
                    count += t.rank();
                    count - t.rank()
                });
                each.collect()
            })
            .collect();
        let mut out = Extents { base, parent: (0..count).collect(), fixed: vec![false; count], merged: Vec::new() };
        for (i, node) in f.nodes.iter().enumerate() {
            out.node(f, i, node);
        }
        out
    }

    /// True if an axis has its extent because of something else than its own declaration.
    pub fn is_fixed(&mut self, v: ValueId, axis: usize) -> bool {
        let root = self.root(self.axis(v, axis));
        self.fixed[root]
    }

    fn axis(&self, v: ValueId, axis: usize) -> usize {
        self.base[v.node as usize][v.index as usize] + axis
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.parent[i] != i {
            self.parent[i] = self.parent[self.parent[i]];
            i = self.parent[i];
        }
        i
    }

    fn tie(&mut self, a: (ValueId, usize), b: (ValueId, usize)) {
        self.join(self.axis(a.0, a.1), self.axis(b.0, b.1));
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent[a] = b;
            self.fixed[b] |= self.fixed[a];
        }
    }

    fn fix(&mut self, v: ValueId, axis: usize) {
        let i = self.axis(v, axis);
        let root = self.root(i);
        self.fixed[root] = true;
    }

    fn fix_all(&mut self, f: &Function, v: ValueId) {
        (0..f.ty(v).rank()).for_each(|a| self.fix(v, a));
    }

    /// Ties axes of two values counted from the last, where their extents are equal.
    fn tie_last(&mut self, f: &Function, a: ValueId, b: ValueId) {
        let (x, y) = (&f.ty(a).shape, &f.ty(b).shape);
        for k in 1..=x.len().min(y.len()) {
            if x[x.len() - k] == y[y.len() - k] {
                self.tie((a, x.len() - k), (b, y.len() - k));
            }
        }
    }

    fn node(&mut self, f: &Function, i: usize, node: &Node) {
        let out = ValueId::of(i);
        let x = node.inputs.first().copied();
        match (&node.op, x) {
            (Op::Param(p), _) => {
                if !matches!(f.params[*p as usize].role, Role::Input | Role::Scalar(_)) {
                    self.fix_all(f, out);
                }
            }
            (Op::Constant(_), _) => self.fix_all(f, out),
            (Op::Full { .. } | Op::Iota { .. } | Op::FromSize { .. }, _) => {}
            (op, Some(_)) if op.is_elementwise() => node.inputs.iter().for_each(|v| self.tie_last(f, *v, out)),
            (
                Op::Broadcast { .. } | Op::Softmax | Op::Reverse { .. } | Op::Scan { .. } | Op::ArgSort { .. },
                Some(x),
            ) => {
                self.tie_last(f, x, out);
            }
            (Op::RmsNorm { .. } | Op::LayerNorm { .. }, Some(_)) => {
                node.inputs.iter().for_each(|v| self.tie_last(f, *v, out));
            }
            (Op::Rope { .. }, Some(x)) => {
                self.tie_last(f, x, out);
                self.fix(out, f.ty(out).rank() - 1);
            }
            (Op::Reshape { .. }, Some(x)) => self.reshape(f, x, out),
            (Op::Transpose { perm }, Some(x)) => {
                perm.iter().enumerate().for_each(|(to, from)| self.tie((x, *from as usize), (out, to)));
            }
            (Op::Slice { .. }, Some(x)) => self.slice(f, x, out),
            (Op::Pad { .. }, Some(x)) => (0..f.ty(x).rank()).for_each(|a| self.tie((x, a), (out, a))),
            (Op::Concat { .. }, Some(_)) => {
                // An extent of a sum is fixed with its parts.
                for v in &node.inputs {
                    (0..f.ty(*v).rank()).for_each(|a| self.tie((*v, a), (out, a)));
                }
            }
            (Op::Reduce { axes, keepdims, .. }, Some(x)) => self.reduced(f, x, out, axes, *keepdims),
            (Op::ArgReduce { axis, keepdims, .. }, Some(x)) => self.reduced(f, x, out, &[*axis], *keepdims),
            (Op::Gather { axis }, Some(x)) => {
                let (axis, indices) = (*axis as usize, node.inputs[1]);
                let more = f.ty(indices).rank();
                (0..axis).for_each(|a| self.tie((x, a), (out, a)));
                (0..more).for_each(|a| self.tie((indices, a), (out, axis + a)));
                (axis + 1..f.ty(x).rank()).for_each(|a| self.tie((x, a), (out, a + more - 1)));
                self.fix(x, axis);
            }
            (Op::SliceUpdate { axes }, Some(x)) => {
                let update = node.inputs[1];
                for a in 0..f.ty(x).rank() {
                    self.tie((x, a), (out, a));
                    if !axes.contains(&(a as u32)) && f.ty(update).shape[a] == f.ty(x).shape[a] {
                        self.tie((update, a), (out, a));
                    }
                }
            }
            (Op::MatMul { transpose_a, transpose_b }, Some(a)) => {
                let (b, r) = (node.inputs[1], f.ty(out).rank());
                (0..r - 2).for_each(|i| {
                    self.tie((a, i), (out, i));
                    self.tie((b, i), (out, i));
                });
                let (m, ka) = if *transpose_a { (r - 1, r - 2) } else { (r - 2, r - 1) };
                let (n, kb) = if *transpose_b { (r - 2, r - 1) } else { (r - 1, r - 2) };
                self.tie((a, m), (out, r - 2));
                self.tie((b, n), (out, r - 1));
                self.tie((a, ka), (b, kb));
            }
            (Op::Sdpa { mask, .. }, Some(q)) => {
                let (k, v) = (node.inputs[1], node.inputs[2]);
                // Heads are counted by the model, and the scale is of their width.
                for x in [q, k, v] {
                    self.fix(x, 1);
                    self.fix(x, 3);
                    self.tie((x, 0), (out, 0));
                }
                self.tie((q, 2), (out, 2));
                self.tie((k, 2), (v, 2));
                if *mask {
                    let m = node.inputs[3];
                    let shape = &f.ty(m).shape;
                    for (back, with) in [(1, (k, 2)), (2, (q, 2)), (4, (q, 0))] {
                        if shape.len() >= back && shape[shape.len() - back] == f.ty(with.0).shape[with.1] {
                            self.tie((m, shape.len() - back), with);
                        }
                    }
                    if shape.len() >= 3 {
                        self.fix(m, shape.len() - 3);
                    }
                }
            }
            _ => {
                node.inputs.iter().for_each(|v| self.fix_all(f, *v));
                (0..node.types.len()).for_each(|k| self.fix_all(f, ValueId { node: i as u32, index: k as u32 }));
            }
        }
    }

    fn reduced(&mut self, f: &Function, x: ValueId, out: ValueId, axes: &[u32], keepdims: bool) {
        let mut to = 0;
        for a in 0..f.ty(x).rank() {
            let gone = axes.contains(&(a as u32));
            if !gone {
                self.tie((x, a), (out, to));
            }
            to += usize::from(!gone || keepdims);
        }
    }

    /// A part of an axis is counted from its ends; one element of it, the first or the last, is there at any extent.
    fn slice(&mut self, f: &Function, x: ValueId, out: ValueId) {
        for a in 0..f.ty(x).rank() {
            let (from, to) = (&f.ty(x).shape[a], &f.ty(out).shape[a]);
            if from == to {
                self.tie((x, a), (out, a));
            } else if to.as_const() != Some(1) {
                self.fix(x, a);
            }
        }
    }

    /// The axes that this one was made of, if they had these extents: a product of rows of every batch goes there and back.
    fn parts<'s>(&mut self, x: ValueId, axis: usize, extents: impl Iterator<Item = &'s Size>) -> Option<Vec<usize>> {
        let root = self.root(self.axis(x, axis));
        let want: Vec<&Size> = extents.collect();
        let same: Vec<usize> =
            (0..self.merged.len()).filter(|i| self.merged[*i].2.iter().eq(want.iter().copied())).collect();
        let found = same.into_iter().find(|i| self.root(self.merged[*i].0) == root)?;
        Some(self.merged[found].1.clone())
    }

    /// Runs of axes with equal products: one that stays is the same extent, those that are merged depend on each other,
    /// those that are split otherwise than they were merged are split by constants.
    fn reshape(&mut self, f: &Function, x: ValueId, out: ValueId) {
        let (from, to) = (&f.ty(x).shape, &f.ty(out).shape);
        let (mut i, mut k) = (0, 0);
        while i < from.len() || k < to.len() {
            let (first, start) = (i, k);
            let (mut a, mut b) = (Size::constant(1), Size::constant(1));
            loop {
                let more_from = i < from.len() && (i == first || less(&a, &b));
                let more_to = k < to.len() && (k == start || less(&b, &a));
                if more_from {
                    a = a * from[i].clone();
                    i += 1;
                } else if more_to {
                    b = b * to[k].clone();
                    k += 1;
                } else {
                    break;
                }
            }
            let one = |s: &Size| s.as_const() == Some(1);
            let olds: Vec<usize> = (first..i).filter(|a| !one(&from[*a])).collect();
            let news: Vec<usize> = (start..k).filter(|a| !one(&to[*a])).collect();
            if a != b {
                // No runs are seen; nothing is known from here on.
                olds.into_iter().chain(i..from.len()).for_each(|a| self.fix(x, a));
                news.into_iter().chain(k..to.len()).for_each(|a| self.fix(out, a));
                return;
            }
            match (olds.as_slice(), news.as_slice()) {
                ([], _) | (_, []) => {}
                (olds, [new]) => {
                    olds.iter().for_each(|old| self.tie((x, *old), (out, *new)));
                    let axes = olds.iter().map(|old| self.axis(x, *old)).collect();
                    self.merged.push((self.axis(out, *new), axes, olds.iter().map(|a| from[*a].clone()).collect()));
                }
                ([old], news) if let Some(parts) = self.parts(x, *old, news.iter().map(|a| &to[*a])) => {
                    news.iter().zip(parts).for_each(|(new, part)| self.join(part, self.axis(out, *new)));
                }
                (olds, news) => {
                    olds.iter().for_each(|a| self.fix(x, *a));
                    news.iter().for_each(|a| self.fix(out, *a));
                }
            }
        }
    }
}

/// True where one product of extents is seen to be less than another.
fn less(a: &Size, b: &Size) -> bool {
    match (a.as_const(), b.as_const()) {
        (Some(a), Some(b)) => a < b,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => a != b && b.exact_div(a).is_some(),
    }
}
