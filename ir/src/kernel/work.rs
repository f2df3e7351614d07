//! What a kernel does, counted: operations and bytes at given sizes, for reports and roofline figures.
//!
//! Tasks and loops are counted, not run. A loop whose body's control does not depend on its variable is its body times its
//! trips; of other loops, and of large grids, evenly spaced samples are counted. Conditions on data count as true.

use super::index::Index;
use super::ops::Comparison;
use super::types::*;
use mlxc_package::DType;
use std::collections::{BTreeMap, BTreeSet};

/// Work of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Float operations, those of packed dot products aside; a multiply-add is two, a function such as exp one.
    pub flops: f64,
    /// Operations of `dot2`: two for each product.
    pub dot_flops: f64,
    /// Operations of `dot4`: two for each product.
    pub int8_ops: f64,
    /// Operations of matrix tiles: two for each product.
    pub tile_flops: f64,
    /// Bytes moved: each buffer's loads and stores, at most its whole size once each.
    pub bytes: f64,
}

impl Work {
    /// Operations of every kind.
    pub fn operations(&self) -> f64 {
        self.flops + self.dot_flops + self.int8_ops + self.tile_flops
    }
}

/// Samples of a loop or a grid that are counted at most.
const SAMPLES: i64 = 64;

/// Counts a phase for values of the kernel's symbols, then of its index arguments; `None` where there is no such phase.
pub fn work(kernel: &Kernel, phase: &str, scalars: &[i64]) -> Option<Work> {
    fn find<'k>(steps: &'k [Step], name: &str) -> Option<&'k Phase> {
        steps.iter().find_map(|s| match s {
            Step::Phase(p) => (&*p.name == name).then_some(p),
            Step::Serial { body, .. } => find(body, name),
        })
    }
    let phase = find(&kernel.steps, phase)?;
    let mut count = Count {
        kernel,
        values: BTreeMap::new(),
        control: BTreeSet::new(),
        moved: BTreeMap::new(),
        work: Work::default(),
    };
    let index_args = kernel.args.iter().filter_map(|a| match a.kind {
        ArgKind::Index { var, .. } => Some(var),
        ArgKind::Scalar(_) => None,
    });
    let vars = kernel.symbols.iter().map(|s| s.var).chain(index_args);
    count.values.extend(vars.zip(scalars.iter().copied()));
    count.find_control(&phase.body);
    let extents: Vec<i64> = phase.grid.iter().map(|(_, n)| count.eval(*n).max(0)).collect();
    let tasks: i64 = extents.iter().product();
    let samples = tasks.min(SAMPLES);
    for s in 0..samples {
        let mut task = s * tasks / samples;
        for ((var, _), n) in phase.grid.iter().zip(&extents).rev() {
            count.values.insert(*var, task % n);
            task /= n;
        }
        count.block(&phase.body, f64::from(phase.lanes.max(1)) * tasks as f64 / samples as f64);
    }
    let mut out = count.work;
    for ((buffer, _), bytes) in &count.moved {
        let b = &kernel.buffers[buffer.index()];
        let whole = b.shape.iter().fold(b.dtype.bytes() as f64, |n, d| n * count.eval(*d).max(0) as f64);
        out.bytes += bytes.min(whole);
    }
    Some(out)
}

struct Count<'k> {
    kernel: &'k Kernel,
    values: BTreeMap<VarId, i64>,
    /// Variables that loop bounds and conditions depend on.
    control: BTreeSet<VarId>,
    /// Bytes by buffer, loads and stores apart.
    moved: BTreeMap<(BufferId, bool), f64>,
    work: Work,
}

impl Count<'_> {
    fn eval(&self, id: IndexId) -> i64 {
        match self.kernel.index.get(id) {
            Index::Const(c) => c,
            Index::Var(v) => self.values.get(&v).copied().unwrap_or(0),
            Index::Builtin(_) => 0,
            Index::Add(a, b) => self.eval(a) + self.eval(b),
            Index::Scale(a, k) => self.eval(a) * k,
            Index::Div(a, m) => self.eval(a).div_euclid(m),
            Index::DivBy(a, b) => self.eval(a).div_euclid(self.eval(b).max(1)),
            Index::Mod(a, m) => self.eval(a).rem_euclid(m),
            Index::Min(a, b) => self.eval(a).min(self.eval(b)),
            Index::Max(a, b) => self.eval(a).max(self.eval(b)),
            // A data-dependent index: any in range.
            Index::Clamp(_, lo, _) => self.eval(lo),
        }
    }

    fn note(&mut self, id: IndexId) {
        if let Index::Var(v) = self.kernel.index.get(id) {
            self.control.insert(v);
        }
        let mut below = Vec::new();
        self.kernel.index.operands(id, &mut |x| below.push(x));
        below.into_iter().for_each(|x| self.note(x));
    }

    fn find_control(&mut self, block: &Block) {
        // Backwards, so that an index is known to matter before the `let` that makes it.
        for s in block.iter().rev() {
            match s {
                Stmt::For { lo, hi, body, .. } => {
                    self.find_control(body);
                    self.note(*lo);
                    self.note(*hi);
                }
                Stmt::If { cond, then, otherwise } => {
                    self.find_control(otherwise);
                    self.find_control(then);
                    self.find_condition(*cond);
                }
                Stmt::LetIndex(v, value) if self.control.contains(v) => self.note(*value),
                _ => {}
            }
        }
    }

    fn find_condition(&mut self, cond: ExprId) {
        let kind = &self.kernel.expr(cond).kind;
        if let ExprKind::CompareIndex(_, a, b) = kind {
            self.note(*a);
            self.note(*b);
        }
        let mut below = Vec::new();
        kind.operands(&mut |x| below.push(x));
        below.into_iter().for_each(|x| self.find_condition(x));
    }

    fn holds(&self, cond: ExprId) -> bool {
        match &self.kernel.expr(cond).kind {
            ExprKind::CompareIndex(op, a, b) => {
                let (a, b) = (self.eval(*a), self.eval(*b));
                match op {
                    Comparison::Eq => a == b,
                    Comparison::Ne => a != b,
                    Comparison::Lt => a < b,
                    Comparison::Le => a <= b,
                    Comparison::Gt => a > b,
                    Comparison::Ge => a >= b,
                }
            }
            ExprKind::Binary(op, a, b) => match op {
                super::ops::BinaryOp::And => self.holds(*a) && self.holds(*b),
                super::ops::BinaryOp::Or => self.holds(*a) || self.holds(*b),
                _ => true,
            },
            _ => true,
        }
    }

    fn block(&mut self, block: &Block, times: f64) {
        for s in block {
            match s {
                Stmt::Let(_, e) | Stmt::Set(_, _, e) | Stmt::Declare(_, Some(e)) => self.expr(*e, times),
                Stmt::LetIndex(v, value) => {
                    let value = self.eval(*value);
                    self.values.insert(*v, value);
                }
                Stmt::Store { place, value, .. } => {
                    self.expr(*value, times);
                    self.access(place, true, times);
                }
                Stmt::Atomic(_, place, e) => {
                    self.expr(*e, times);
                    self.access(place, true, times);
                }
                Stmt::For { var, lo, hi, step, body, .. } => {
                    let (lo, hi) = (self.eval(*lo), self.eval(*hi));
                    let trips = ((hi - lo).max(0) + step - 1) / step;
                    let samples = if self.control.contains(var) { trips.min(SAMPLES) } else { trips.min(1) };
                    for i in 0..samples {
                        self.values.insert(*var, lo + i * trips / samples * step);
                        self.block(body, times * trips as f64 / samples as f64);
                    }
                }
                Stmt::If { cond, then, otherwise } => {
                    let branch = if self.holds(*cond) { then } else { otherwise };
                    self.block(branch, times);
                }
                Stmt::Declare(_, None) | Stmt::Prefetch(_) | Stmt::Barrier(_) => {}
            }
        }
    }

    fn access(&mut self, place: &Place, store: bool, times: f64) {
        let Memory::Buffer(b) = place.memory else { return };
        let elements = match place.shape {
            Shape::One => 1.0,
            Shape::Vector(n) => f64::from(n),
            Shape::First { lanes, count } => (self.eval(count).clamp(0, i64::from(lanes))) as f64,
            Shape::Tile(r, c) => f64::from(r) * f64::from(c),
        };
        let bytes = elements * self.kernel.buffers[b.index()].dtype.bytes() as f64 * times;
        *self.moved.entry((b, store)).or_default() += bytes;
    }

    fn expr(&mut self, id: ExprId, times: f64) {
        let e = self.kernel.expr(id).clone();
        let lanes = f64::from(e.ty.lanes()) * times;
        let float = e.ty.dtype().is_float() && e.ty.dtype() != DType::Bool;
        match &e.kind {
            ExprKind::Load(place, _) | ExprKind::LoadTile { place, .. } => self.access(place, false, times),
            ExprKind::Fma(..) | ExprKind::Mad(..) if float => self.work.flops += 2.0 * lanes,
            ExprKind::Unary(..) | ExprKind::Binary(..) | ExprKind::Math(..) if float => self.work.flops += lanes,
            ExprKind::Fold(_, a) if float => self.work.flops += f64::from(self.kernel.expr(*a).ty.lanes()) * times,
            ExprKind::Mma(a, ..) => {
                let (Type::Tile { rows, columns, .. }, Type::Tile { columns: depth, .. }) =
                    (e.ty, self.kernel.expr(*a).ty)
                else {
                    return;
                };
                self.work.tile_flops += 2.0 * f64::from(rows) * f64::from(columns) * f64::from(depth) * times;
            }
            ExprKind::Dot { terms: 2, .. } => self.work.dot_flops += 4.0 * lanes,
            ExprKind::Dot { .. } => self.work.int8_ops += 8.0 * lanes,
            _ => {}
        }
        let mut below = Vec::new();
        e.kind.operands(&mut |x| below.push(x));
        below.into_iter().for_each(|x| self.expr(x, times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str, scalars: &[i64]) -> Work {
        let kernels = super::super::parse(text, "test").unwrap();
        work(&kernels[0], "main", scalars).unwrap()
    }

    #[test]
    fn loops_tails_and_guards() {
        let text = "kernel k {
  sym S in 1..=4096
  buf x: f32[S, 40] read
  buf y: f32[S, 40] write
  phase main grid(s: S) {
    for c in 0..32 step 16 {
      y[s, c +: 16] = mad(x[s, c +: 16], 2.0, 1.0)
    }
    y[s, 32 +: 16 first 8] = x[s, 32 +: 16 first 8] * 2.0
    if s < 3 {
      let a = x[s, 0] + 1.0
    }
  }
}";
        let w = counted(text, &[10]);
        assert_eq!(w.flops, 10.0 * (2.0 * 32.0 + 16.0) + 3.0);
        assert_eq!(w.bytes, 2.0 * 10.0 * 40.0 * 4.0);
        // Sampled grids count the same where tasks are alike.
        assert_eq!(counted(text, &[4096]).bytes, 2.0 * 4096.0 * 40.0 * 4.0);
    }

    #[test]
    fn triangles_are_sampled() {
        let text = "kernel k {
  sym S in 1..=4096
  buf x: f32[S, 16] read
  buf y: f32[S, 16] write
  phase main grid(s: S) {
    var t: f32x16 = 0.0
    for j in 0..s + 1 {
      t = t + x[j, 0 +: 16]
    }
    y[s, 0 +: 16] = t
  }
}";
        let w = counted(text, &[64]);
        assert_eq!(w.flops, 16.0 * 64.0 * 65.0 / 2.0);
        // What is loaded again comes from a cache.
        assert_eq!(w.bytes, 2.0 * 64.0 * 64.0);
        let large = counted(text, &[4096]).flops / (16.0 * 4096.0 * 4097.0 / 2.0);
        assert!((large - 1.0).abs() < 0.05, "{large}");
    }
}
