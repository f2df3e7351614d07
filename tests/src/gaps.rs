//! How far heuristics are from the best: partitions of random functions against all partitions, and of real blocks
//! against a wide search.

use crate::kernels::Random;
use mlxc_ir::graph::{
    BinaryOp, Function, FunctionBuilder, Module, Op, ReduceOp, Role, SymbolKind, TensorType, UnaryOp, ValueId,
};
use mlxc_ir::{DType, Range, Size, TargetProfile};
use mlxc_passes::choices::Choices;
use mlxc_passes::lower::emit::Target;
use mlxc_passes::partition::{beam::beam, exact::exact, partition};
use mlxc_passes::prepare::prepare;
use mlxc_passes::storage::{constant_params, wanted};
use std::fmt;

/// Gaps of a heuristic to the best known: 0 where it found it, 0.1 where it costs a tenth more.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    all: Vec<(f64, String)>,
}

impl Gaps {
    /// Notes a case: what the heuristic costs, what the best costs.
    pub fn note(&mut self, case: impl Into<String>, found: f64, best: f64) {
        let gap = if best > 0.0 { found / best - 1.0 } else { found };
        self.all.push((gap, case.into()));
    }

    /// Cases noted.
    pub fn cases(&self) -> usize {
        self.all.len()
    }

    /// Mean gap.
    pub fn mean(&self) -> f64 {
        self.all.iter().map(|(g, _)| g).sum::<f64>() / self.all.len().max(1) as f64
    }

    /// Largest gap and its case.
    pub fn worst(&self) -> (f64, &str) {
        let most = self.all.iter().max_by(|a, b| a.0.total_cmp(&b.0));
        most.map_or((0.0, ""), |(g, name)| (*g, name))
    }

    /// Smallest gap: below 0, the heuristic beat what it is measured against.
    pub fn least(&self) -> f64 {
        self.all.iter().map(|(g, _)| *g).fold(f64::INFINITY, f64::min)
    }

    /// Cases in which the best was found, up to rounding.
    pub fn exact(&self) -> usize {
        self.all.iter().filter(|(g, _)| g.abs() < 1e-9).count()
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worst, case) = self.worst();
        let (mean, worst) = (100.0 * self.mean(), 100.0 * worst);
        let found = 100.0 * self.exact() as f64 / self.cases().max(1) as f64;
        write!(
            f,
            "{} cases: mean gap {mean:.4} %, worst {worst:.2} % ({case}), best found in {found:.1} %",
            self.cases()
        )
    }
}

/// A function of `ops` computing nodes, as model code has them: rows that are scaled, reduced, normalised, multiplied with
/// weights, added to what came before; some values are read again much later.
pub fn chain(seed: u64, ops: usize) -> Function {
    let mut r = Random::new(seed);
    let mut b = FunctionBuilder::new(format!("chain{seed}"));
    let s = Size::symbol(b.symbol("S", Range::new(1, [1, 16, 512, 4096][r.below(4) as usize]), 1, SymbolKind::Size));
    let width = [32i64, 256, 2048][r.below(3) as usize];
    let dtype = [DType::F32, DType::BF16][r.below(2) as usize];
    let row = |n: i64| TensorType { dtype, shape: vec![s.clone(), Size::constant(n)] };
    let mut values: Vec<ValueId> =
        (0..1 + r.below(3)).map(|i| b.param(&format!("x{i}"), Role::Input, row(width), None)).collect();
    let weight = b.param("w", Role::Weight(0), TensorType::constant(dtype, &[width, width]), None);
    let scale = b.param("scale", Role::Weight(1), TensorType::constant(dtype, &[width]), None);
    let mut made = 0;
    while made < ops {
        // Mostly the last value, sometimes an old one.
        let back = if r.below(3) == 0 { r.below(values.len() as u64) as usize } else { 0 };
        let x = values[values.len() - 1 - back];
        let y = values[r.below(values.len() as u64) as usize];
        let spread = |b: &mut FunctionBuilder, v: ValueId| {
            let shape = row(width).shape;
            b.node(Op::Broadcast { shape }, &[v], None)
        };
        let v = match r.below(12) {
            0..=2 => {
                let op = [UnaryOp::Silu, UnaryOp::Square, UnaryOp::Exp, UnaryOp::Negative, UnaryOp::Tanh]
                    [r.below(5) as usize];
                b.node(Op::Unary(op), &[x], None)
            }
            3..=6 => b.node(
                Op::Binary([BinaryOp::Add, BinaryOp::Multiply, BinaryOp::Maximum][r.below(3) as usize]),
                &[x, y],
                None,
            ),
            7 => spread(&mut b, scale).and_then(|v| b.node(Op::Binary(BinaryOp::Multiply), &[x, v], None)),
            8 | 9 => {
                let op = [ReduceOp::Sum, ReduceOp::Max][r.below(2) as usize];
                made += 1;
                b.node(Op::Reduce { op, axes: vec![1], keepdims: true }, &[x], None)
                    .and_then(|v| spread(&mut b, v))
                    .and_then(|v| b.node(Op::Binary(BinaryOp::Subtract), &[x, v], None))
            }
            10 => b.node(Op::Softmax, &[x], None),
            _ => b.node(Op::MatMul { transpose_a: false, transpose_b: true }, &[x, weight], None),
        };
        values.push(v.expect("values of one shape type"));
        made += 1;
    }
    let last = values.len() - 1;
    b.result("y0", values[last]);
    if r.below(3) == 0 && last > 3 {
        b.result("y1", values[last - 1 - r.below(2) as usize]);
    }
    let f = b.finish();
    prepare(&mlxc_passes::decompose::decompose(&f).expect("composites decompose")).expect("the function is verified")
}

/// Growth against every partition, on random functions of at most `most` computing nodes.
///
/// # Panics
/// Where growth beats the best, which then is none.
pub fn against_all(seeds: std::ops::Range<u64>, most: usize, copies: usize, profile: &TargetProfile) -> Gaps {
    let mut gaps = Gaps::default();
    for seed in seeds {
        let ops = 2 + Random::new(seed ^ 0x5eed).below(most as u64 - 1) as usize;
        let f = chain(seed, ops);
        let layouts = wanted(&f, profile);
        let target = Target { profile, layouts: &layouts, exact: false, choices: Choices::FORMULAS };
        let best = exact(&f, &target, &[], copies, most);
        let Some(best) = best else { continue };
        let found = partition(&f, &target, &[], true).unwrap_or_else(|r| panic!("no partition: {}", r.text));
        gaps.note(format!("seed {seed}"), found.objective.value(&target), best.objective.value(&target));
    }
    gaps
}

/// Growth against a wide search, on every function of a module that is ready for partition.
pub fn against_beam(name: &str, module: &Module, profile: &TargetProfile, width: usize) -> Gaps {
    let mut gaps = Gaps::default();
    let weights = constant_params(module);
    let layouts = mlxc_passes::storage::layouts(module, profile).expect("layouts agree");
    for (i, f) in module.functions.iter().enumerate() {
        let f = prepare(f).expect("the function is verified");
        let target = Target { profile, layouts: &layouts.params[i], exact: false, choices: Choices::FORMULAS };
        let found = partition(&f, &target, &weights[i], true).unwrap_or_else(|r| panic!("no partition: {}", r.text));
        let best = beam(&f, &target, &weights[i], width).expect("every node has a kernel");
        gaps.note(format!("{name} {}", f.name), found.objective.value(&target), best.objective.value(&target));
    }
    gaps
}
