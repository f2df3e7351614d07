//! Every rewrite rule: cases in which it fires, with both sides run through the interpreter, and look-alikes in which it
//! must not.

use mlxc_ir::graph::interpret::{Mode, run};
use mlxc_ir::graph::{
    Activation, BinaryOp, CompareOp, Function, FunctionBuilder, Literal, Module, Op, ReduceOp, Role, SymbolKind,
    TensorType, UnaryOp, ValueId,
};
use mlxc_ir::{DType, Range, Scheme, Size};
use mlxc_passes::canonicalise::canonicalise;
use mlxc_passes::eqsat::graph::build;
use mlxc_passes::eqsat::rule::{Matches, Rule, Term};
use mlxc_passes::eqsat::{Options, rules, saturate};
use mlxc_tests::kernels::arguments;
use std::collections::{BTreeMap, BTreeSet};

fn c(n: i64) -> Size {
    Size::constant(n)
}

fn sizes(shape: &[i64]) -> Vec<Size> {
    shape.iter().map(|n| c(*n)).collect()
}

/// Writes a case.
struct B {
    b: FunctionBuilder,
    dtype: DType,
}

impl B {
    fn new() -> Self {
        B { b: FunctionBuilder::new("case"), dtype: DType::F64 }
    }

    fn op(&mut self, op: Op, x: &[ValueId]) -> ValueId {
        self.b.node(op, x, None).unwrap_or_else(|e| panic!("{e}"))
    }

    fn input(&mut self, shape: &[i64]) -> ValueId {
        let n = self.b.function().params.len();
        self.b.param(&format!("x{n}"), Role::Input, TensorType::constant(self.dtype, shape), None)
    }

    fn weight(&mut self, shape: &[i64]) -> ValueId {
        self.typed_weight(self.dtype, shape)
    }

    fn typed_weight(&mut self, dtype: DType, shape: &[i64]) -> ValueId {
        let n = self.b.function().params.len();
        self.b.param(&format!("w{n}"), Role::Weight(n as u32), TensorType::constant(dtype, shape), None)
    }

    fn shape(&self, v: ValueId) -> Vec<Size> {
        self.b.function().ty(v).shape.clone()
    }

    fn unary(&mut self, op: UnaryOp, x: ValueId) -> ValueId {
        self.op(Op::Unary(op), &[x])
    }

    /// A binary op; the second operand is broadcast to the first.
    fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.shape(a);
        let b = if self.shape(b) == shape { b } else { self.op(Op::Broadcast { shape }, &[b]) };
        self.op(Op::Binary(op), &[a, b])
    }

    fn full(&mut self, value: f64, like: ValueId) -> ValueId {
        let TensorType { dtype, shape } = self.b.function().ty(like).clone();
        self.op(Op::Full { value: Literal::float(value), dtype, shape }, &[])
    }

    fn scalar(&mut self, op: BinaryOp, a: ValueId, value: f64) -> ValueId {
        let k = self.full(value, a);
        self.op(Op::Binary(op), &[a, k])
    }

    /// `value op a`.
    fn of_scalar(&mut self, op: BinaryOp, value: f64, a: ValueId) -> ValueId {
        let k = self.full(value, a);
        self.op(Op::Binary(op), &[k, a])
    }

    fn reduce(&mut self, op: ReduceOp, axis: u32, keepdims: bool, x: ValueId) -> ValueId {
        self.op(Op::Reduce { op, axes: vec![axis], keepdims }, &[x])
    }

    fn mean(&mut self, x: ValueId) -> ValueId {
        let rank = self.shape(x).len();
        let n = self.shape(x)[rank - 1].as_const().expect("a constant extent") as f64;
        let sum = self.reduce(ReduceOp::Sum, rank as u32 - 1, true, x);
        self.scalar(BinaryOp::Multiply, sum, 1.0 / n)
    }

    fn done(mut self, y: ValueId) -> Function {
        self.b.result("y", y);
        self.b.finish()
    }
}

fn all() -> BTreeMap<&'static str, Rule> {
    rules::all().into_iter().map(|r| (r.name, r)).collect()
}

fn matches(rule: &Rule, f: &Function) -> Matches {
    let weights = f.params.iter().map(|p| matches!(p.role, Role::Weight(_))).collect();
    let mut out = Matches::default();
    (rule.search)(&build(f, weights).graph, &mut out);
    out
}

/// Runs both sides of everything a rule says of a function; gives how much it said.
fn check(rule: &Rule, f: &Function) -> usize {
    let weights = f.params.iter().map(|p| matches!(p.role, Role::Weight(_))).collect();
    let built = build(f, weights);
    let mut found = Matches::default();
    (rule.search)(&built.graph, &mut found);
    let mut classes = BTreeMap::new();
    for (i, ids) in built.values.iter().enumerate() {
        for (index, id) in ids.iter().enumerate() {
            classes.entry(*id).or_insert(ValueId { node: i as u32, index: index as u32 });
        }
    }
    let mut b = FunctionBuilder::default();
    *b.function_mut() = f.clone();
    b.function_mut().results.clear();
    for (id, term) in &found.found {
        let right = write(&mut b, term, &classes);
        b.result("left", classes[id]);
        b.result("right", right);
    }
    let g = b.finish();
    for seed in 0..3 {
        let symbols: Vec<i64> =
            g.symbols.iter().map(|s| s.range.lo + (seed as i64 * 2 + 1).min(s.range.hi - s.range.lo)).collect();
        let args = arguments(&g, &symbols, seed);
        let out = run(&Module::default(), &g, &args, Mode::Reference).unwrap_or_else(|e| panic!("{e}"));
        for pair in out.results.chunks(2) {
            assert_eq!((pair[0].dtype, &pair[0].shape), (pair[1].dtype, &pair[1].shape), "{}", rule.name);
            let scale = pair[0].to_floats().iter().fold(1e-3f64, |s, v| s.max(v.abs()));
            for i in 0..pair[0].len() {
                let (a, b) = (pair[0].float(i), pair[1].float(i));
                assert!((a - b).abs() <= 1e-9 * scale || a == b, "{}: {a} is not {b}", rule.name);
            }
        }
    }
    found.found.len()
}

fn write(b: &mut FunctionBuilder, term: &Term, classes: &BTreeMap<egg::Id, ValueId>) -> ValueId {
    match term {
        Term::Class(id) => classes[id],
        Term::Op(op, x) => {
            let x: Vec<ValueId> = x.iter().map(|t| write(b, t, classes)).collect();
            b.node(op.clone(), &x, None).unwrap_or_else(|e| panic!("{e}"))
        }
    }
}

struct Cases {
    rule: &'static str,
    fires: Vec<Function>,
    silent: Vec<Function>,
}

#[test]
fn every_rule_fires_where_it_should_and_is_right() {
    let rules = all();
    let cases = cases();
    let covered: BTreeSet<&str> = cases.iter().map(|c| c.rule).collect();
    assert_eq!(covered, rules.keys().copied().collect(), "every rule has cases");
    for case in &cases {
        assert!(!case.fires.is_empty() && !case.silent.is_empty(), "`{}` needs cases of both kinds", case.rule);
        for (i, f) in case.fires.iter().enumerate() {
            assert!(check(&rules[case.rule], f) > 0, "`{}` does not see case {i}", case.rule);
        }
        for (i, f) in case.silent.iter().enumerate() {
            let found = matches(&rules[case.rule], f).found;
            assert!(found.is_empty(), "`{}` is fooled by look-alike {i}: {found:?}", case.rule);
        }
        // Whatever any rule says of any case is true.
        for f in case.fires.iter().chain(&case.silent) {
            rules.values().for_each(|r| {
                check(r, f);
            });
        }
    }
}

fn cases() -> Vec<Cases> {
    let mut out = simple_cases();
    out.extend(norm_cases());
    out.extend(activation_cases());
    out.push(attention_cases());
    out.extend(rope_cases());
    out
}

const PRODUCT: Op = Op::MatMul { transpose_a: false, transpose_b: true };
const PLAIN: Op = Op::MatMul { transpose_a: false, transpose_b: false };

fn simple_cases() -> Vec<Cases> {
    let of = |build: &dyn Fn(&mut B) -> ValueId| {
        let mut b = B::new();
        let y = build(&mut b);
        b.done(y)
    };
    let turn = |p: &[u32]| Op::Transpose { perm: p.to_vec() };
    vec![
        Cases {
            rule: "reshape-of-reshape",
            fires: vec![of(&|b| {
                let x = b.input(&[4, 6]);
                let y = b.op(Op::Reshape { shape: sizes(&[24]) }, &[x]);
                b.op(Op::Reshape { shape: sizes(&[2, 12]) }, &[y])
            })],
            silent: vec![of(&|b| {
                let x = b.input(&[4, 6]);
                let y = b.op(turn(&[1, 0]), &[x]);
                b.op(Op::Reshape { shape: sizes(&[24]) }, &[y])
            })],
        },
        Cases {
            rule: "cast-to-own-dtype",
            fires: vec![of(&|b| {
                let x = b.input(&[3]);
                b.op(Op::Cast(DType::F64), &[x])
            })],
            silent: vec![of(&|b| {
                let x = b.input(&[3]);
                b.op(Op::Cast(DType::F32), &[x])
            })],
        },
        Cases {
            rule: "unary-before-broadcast",
            fires: vec![of(&|b| {
                let x = b.input(&[3, 1]);
                let y = b.op(Op::Broadcast { shape: sizes(&[3, 5]) }, &[x]);
                b.unary(UnaryOp::Tanh, y)
            })],
            silent: vec![of(&|b| {
                let x = b.input(&[3, 1]);
                let y = b.op(Op::Broadcast { shape: sizes(&[3, 5]) }, &[x]);
                b.reduce(ReduceOp::Sum, 1, true, y)
            })],
        },
        Cases {
            rule: "transposed-factor",
            fires: vec![
                of(&|b| {
                    let (x, w) = (b.input(&[3, 4]), b.input(&[5, 4]));
                    let t = b.op(turn(&[1, 0]), &[w]);
                    b.op(PLAIN, &[x, t])
                }),
                of(&|b| {
                    let (x, w) = (b.input(&[2, 4, 3]), b.input(&[2, 4, 5]));
                    let t = b.op(turn(&[0, 2, 1]), &[x]);
                    b.op(PLAIN, &[t, w])
                }),
            ],
            silent: vec![of(&|b| {
                let (x, w) = (b.input(&[4, 2, 3]), b.input(&[2, 3, 5]));
                let t = b.op(turn(&[1, 0, 2]), &[x]);
                let t = b.op(Op::Slice { start: sizes(&[0, 0, 0]), stop: sizes(&[2, 4, 3]), step: vec![1; 3] }, &[t]);
                b.op(PLAIN, &[t, w])
            })],
        },
        Cases {
            rule: "transpose-of-transpose",
            fires: vec![of(&|b| {
                let x = b.input(&[2, 3, 4]);
                let y = b.op(turn(&[1, 2, 0]), &[x]);
                b.op(turn(&[0, 2, 1]), &[y])
            })],
            silent: vec![of(&|b| {
                let x = b.input(&[2, 3, 4]);
                b.op(turn(&[1, 2, 0]), &[x])
            })],
        },
        Cases {
            rule: "transpose-after-elementwise",
            fires: vec![of(&|b| {
                let (x, y) = (b.input(&[2, 3, 4]), b.input(&[2, 3, 4]));
                let (x, y) = (b.op(turn(&[1, 2, 0]), &[x]), b.op(turn(&[1, 2, 0]), &[y]));
                let x = b.scalar(BinaryOp::Multiply, x, 3.0);
                let x = b.unary(UnaryOp::Exp, x);
                b.binary(BinaryOp::Add, x, y)
            })],
            silent: vec![of(&|b| {
                let (x, y) = (b.input(&[3, 3]), b.input(&[3, 3]));
                let x = b.op(turn(&[1, 0]), &[x]);
                b.binary(BinaryOp::Add, x, y)
            })],
        },
        Cases {
            rule: "factor-out-of-product",
            fires: vec![of(&|b| {
                let (x, w) = (b.input(&[3, 4]), b.input(&[5, 4]));
                let x = b.scalar(BinaryOp::Multiply, x, 0.3);
                let w = b.scalar(BinaryOp::Divide, w, 7.0);
                b.op(PRODUCT, &[x, w])
            })],
            silent: vec![of(&|b| {
                let (x, w, k) = (b.input(&[3, 4]), b.input(&[5, 4]), b.input(&[3, 1]));
                let x = b.binary(BinaryOp::Multiply, x, k);
                let x = b.scalar(BinaryOp::Add, x, 0.5);
                b.op(PRODUCT, &[x, w])
            })],
        },
        Cases {
            rule: "product-of-product",
            fires: vec![of(&|b| {
                let (x, w, v) = (b.input(&[32, 2]), b.input(&[32, 2]), b.input(&[32, 1]));
                let y = b.op(PRODUCT, &[x, w]);
                b.op(PLAIN, &[y, v])
            })],
            // Low rank factors are cheap from the left.
            silent: vec![of(&|b| {
                let (x, w, v) = (b.input(&[3, 32]), b.input(&[2, 32]), b.input(&[32, 2]));
                let y = b.op(PRODUCT, &[x, w]);
                b.op(PRODUCT, &[y, v])
            })],
        },
        merge_cases(),
    ]
}

fn merge_cases() -> Cases {
    let two = |columns: [i64; 2], same_left: bool, weights: bool, transposed: bool| {
        let mut b = B::new();
        let s = Size::symbol(b.b.symbol("S", Range::new(1, 9), 1, SymbolKind::Size));
        let ty = TensorType { dtype: DType::F64, shape: vec![s, c(8)] };
        let x = b.b.param("x", Role::Input, ty.clone(), None);
        let other = b.b.param("other", Role::Input, ty, None);
        let left = [x, if same_left { x } else { other }];
        let products: Vec<ValueId> = (0..2)
            .map(|i| {
                let shape = if transposed { [columns[i], 8] } else { [8, columns[i]] };
                let w = if weights { b.weight(&shape) } else { b.input(&shape) };
                b.op(if transposed { PRODUCT } else { PLAIN }, &[left[i], w])
            })
            .collect();
        let y = b.op(Op::Concat { axis: 1 }, &products);
        b.done(y)
    };
    // Quantised rows join as they are stored, where they are stored alike and read by products only.
    let quantized = |schemes: [&str; 2], columns: i64, read_elsewhere: bool| {
        let mut b = B::new();
        let x = b.input(&[5, 64]);
        let mut tail = None;
        let products: Vec<ValueId> = schemes
            .into_iter()
            .map(|scheme| {
                let scheme: Scheme = scheme.parse().expect("a scheme");
                let words = b.typed_weight(DType::U32, &[columns, 64 * i64::from(scheme.bits()) / 32]);
                let groups = [columns, 64 / i64::from(scheme.group())];
                let (scales, biases) = (b.weight(&groups), b.weight(&groups));
                let w = b.op(Op::Dequantize { scheme, dtype: DType::F64 }, &[words, scales, biases]);
                if read_elsewhere {
                    tail = Some(b.unary(UnaryOp::Negative, w));
                }
                b.op(PRODUCT, &[x, w])
            })
            .collect();
        let y = b.op(Op::Concat { axis: 1 }, &products);
        if let Some(t) = tail {
            b.b.result("elsewhere", t);
        }
        b.done(y)
    };
    Cases {
        rule: "merge-siblings",
        fires: vec![two([32, 64], true, true, true), quantized(["4,32", "4,32"], 32, false)],
        silent: vec![
            quantized(["4,32", "8,32"], 32, false),
            quantized(["4,32", "4,64"], 32, false),
            quantized(["4,32", "4,32"], 48, false),
            quantized(["4,32", "4,32"], 32, true),
            two([32, 64], false, true, true),
            two([32, 64], true, false, true),
            two([32, 64], true, true, false),
            two([32, 48], true, true, true),
        ],
    }
}

/// How a norm is written.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Plain,
    DividedSum,
    Sqrt,
    SelfProduct,
    DroppedAxis,
    ReciprocalRoot,
    WrongAxis,
    EpsOutside,
    OtherValue,
    WrongCount,
    NoSquare,
}

fn normalised(b: &mut B, x: ValueId, other: ValueId, how: How) -> ValueId {
    let squares = match how {
        How::SelfProduct => b.binary(BinaryOp::Multiply, x, x),
        How::OtherValue => b.unary(UnaryOp::Square, other),
        How::NoSquare => b.unary(UnaryOp::Abs, x),
        _ => b.unary(UnaryOp::Square, x),
    };
    let n = if how == How::WrongCount { 5.0 } else { 6.0 };
    let axis = if how == How::WrongAxis { 0 } else { 1 };
    let sum = b.reduce(ReduceOp::Sum, axis, how != How::DroppedAxis, squares);
    let mean = match how {
        How::DividedSum => b.scalar(BinaryOp::Divide, sum, n),
        _ => b.scalar(BinaryOp::Multiply, sum, 1.0 / n),
    };
    let root = match how {
        How::EpsOutside => {
            let r = b.unary(UnaryOp::Sqrt, mean);
            let r = b.scalar(BinaryOp::Add, r, 1e-3);
            return b.binary(BinaryOp::Divide, x, r);
        }
        How::Sqrt => {
            let v = b.scalar(BinaryOp::Add, mean, 1e-3);
            let r = b.unary(UnaryOp::Sqrt, v);
            return b.binary(BinaryOp::Divide, x, r);
        }
        How::ReciprocalRoot => {
            let v = b.scalar(BinaryOp::Add, mean, 1e-3);
            let r = b.unary(UnaryOp::Sqrt, v);
            b.unary(UnaryOp::Reciprocal, r)
        }
        _ => {
            let v = b.scalar(BinaryOp::Add, mean, 1e-3);
            b.unary(UnaryOp::Rsqrt, v)
        }
    };
    let root = if how == How::DroppedAxis { b.op(Op::Reshape { shape: sizes(&[6, 1]) }, &[root]) } else { root };
    b.binary(BinaryOp::Multiply, x, root)
}

fn norm_cases() -> Vec<Cases> {
    let rms = |how: How| {
        let mut b = B::new();
        let (x, other) = (b.input(&[6, 6]), b.input(&[6, 6]));
        let y = normalised(&mut b, x, other, how);
        b.done(y)
    };
    let layer = |how: How, centre: bool| {
        let mut b = B::new();
        let x = b.input(&[6, 6]);
        let mean = b.mean(if centre { x } else { return rms(how) });
        let d = b.binary(BinaryOp::Subtract, x, mean);
        let y = normalised(&mut b, d, x, how);
        b.done(y)
    };
    let weighted = |norm: Op, last: bool, after: BinaryOp, with_weight: bool| {
        let mut b = B::new();
        let x = b.input(&[6, 6]);
        let w = b.weight(&[6]);
        let y = if with_weight { b.op(norm, &[x, w]) } else { b.op(norm, &[x]) };
        let v = b.weight(&[6]);
        let v = if last { v } else { b.op(Op::Reshape { shape: sizes(&[6, 1]) }, &[v]) };
        let y = b.binary(after, y, v);
        b.done(y)
    };
    let soft = |axis: u32, shift: bool, same: bool| {
        let mut b = B::new();
        let (x, other) = (b.input(&[6, 6]), b.input(&[6, 6]));
        let most = b.reduce(if shift { ReduceOp::Max } else { ReduceOp::Min }, axis, true, x);
        let d = b.binary(BinaryOp::Subtract, x, most);
        let e = b.unary(UnaryOp::Exp, d);
        let sum = b.reduce(ReduceOp::Sum, axis, true, if same { e } else { other });
        let y = b.binary(BinaryOp::Divide, e, sum);
        b.done(y)
    };
    let half = |wide: DType, back: DType, cast_weight: bool| {
        let mut b = B::new();
        b.dtype = DType::BF16;
        let x = b.input(&[3, 8]);
        let w = b.weight(&[8]);
        let x = b.op(Op::Cast(wide), &[x]);
        b.dtype = wide;
        let w = if cast_weight { b.op(Op::Cast(wide), &[w]) } else { b.weight(&[8]) };
        let y = b.op(Op::RmsNorm { eps: 1e-5.into() }, &[x, w]);
        let y = b.op(Op::Cast(back), &[y]);
        b.done(y)
    };
    let (rms_op, layer_op) = (Op::RmsNorm { eps: 1e-5.into() }, Op::LayerNorm { eps: 1e-5.into() });
    use How::*;
    let right = [Plain, DividedSum, Sqrt, SelfProduct, DroppedAxis, ReciprocalRoot];
    let wrong = [WrongAxis, EpsOutside, OtherValue, WrongCount, NoSquare];
    vec![
        Cases { rule: "rms-norm", fires: right.map(rms).to_vec(), silent: wrong.map(rms).to_vec() },
        Cases {
            rule: "layer-norm",
            fires: right.map(|h| layer(h, true)).to_vec(),
            silent: wrong.map(|h| layer(h, true)).into_iter().chain([layer(Plain, false)]).collect(),
        },
        Cases {
            rule: "norm-weight",
            fires: vec![
                weighted(rms_op.clone(), true, BinaryOp::Multiply, false),
                weighted(layer_op.clone(), true, BinaryOp::Multiply, false),
            ],
            silent: vec![
                weighted(rms_op.clone(), false, BinaryOp::Multiply, false),
                weighted(rms_op.clone(), true, BinaryOp::Add, false),
                weighted(rms_op, true, BinaryOp::Multiply, true),
            ],
        },
        Cases {
            rule: "layer-norm-bias",
            fires: vec![weighted(layer_op.clone(), true, BinaryOp::Add, true)],
            silent: vec![
                weighted(layer_op.clone(), true, BinaryOp::Add, false),
                weighted(layer_op.clone(), false, BinaryOp::Add, true),
                weighted(layer_op, true, BinaryOp::Multiply, true),
            ],
        },
        Cases {
            rule: "softmax",
            fires: vec![soft(1, true, true)],
            silent: vec![soft(0, true, true), soft(1, false, true), soft(1, true, false)],
        },
        Cases {
            rule: "composite-in-f32",
            fires: vec![half(DType::F32, DType::BF16, true)],
            silent: vec![
                half(DType::F32, DType::F16, true),
                half(DType::F64, DType::BF16, true),
                half(DType::F32, DType::BF16, false),
            ],
        },
    ]
}

fn activation_cases() -> Vec<Cases> {
    let of = |build: &dyn Fn(&mut B, ValueId, ValueId) -> ValueId| {
        let mut b = B::new();
        let (x, other) = (b.input(&[3, 4]), b.input(&[3, 4]));
        let y = build(&mut b, x, other);
        b.done(y)
    };
    use BinaryOp::{Add, Divide, Maximum, Minimum, Multiply};
    let below = |b: &mut B, x: ValueId, one: f64| {
        let n = b.unary(UnaryOp::Negative, x);
        let e = b.unary(UnaryOp::Exp, n);
        b.scalar(Add, e, one)
    };
    let gelu = |b: &mut B, x: ValueId, y: ValueId, half: f64, root: f64, order: u32| {
        let z = b.scalar(Multiply, x, root);
        let e = b.unary(UnaryOp::Erf, z);
        let s = b.scalar(Add, e, 1.0);
        match order {
            0 => {
                let h = b.scalar(Multiply, y, half);
                b.binary(Multiply, h, s)
            }
            1 => {
                let h = b.scalar(Multiply, s, half);
                b.binary(Multiply, y, h)
            }
            _ => {
                let p = b.binary(Multiply, s, y);
                b.scalar(Multiply, p, half)
            }
        }
    };
    let approx = |b: &mut B, x: ValueId, y: ValueId, k: f64, cube: bool, factored: bool| {
        let q = b.unary(UnaryOp::Square, x);
        let v = if factored {
            let p = b.scalar(Multiply, q, k);
            let p = b.scalar(Add, p, 1.0);
            b.binary(Multiply, x, p)
        } else {
            let p = if cube { b.binary(Multiply, q, x) } else { q };
            let p = b.scalar(Multiply, p, k);
            b.binary(Add, x, p)
        };
        let u = b.scalar(Multiply, v, (2.0 / std::f64::consts::PI).sqrt());
        let t = b.unary(UnaryOp::Tanh, u);
        let s = b.scalar(Add, t, 1.0);
        let h = b.scalar(Multiply, y, 0.5);
        b.binary(Multiply, h, s)
    };
    let root = std::f64::consts::FRAC_1_SQRT_2;
    vec![
        Cases {
            rule: "sigmoid",
            fires: vec![
                of(&|b, x, _| {
                    let d = below(b, x, 1.0);
                    b.of_scalar(Divide, 1.0, d)
                }),
                of(&|b, x, _| {
                    let d = below(b, x, 1.0);
                    b.unary(UnaryOp::Reciprocal, d)
                }),
            ],
            silent: vec![
                of(&|b, x, _| {
                    let d = below(b, x, 2.0);
                    b.of_scalar(Divide, 1.0, d)
                }),
                of(&|b, x, _| {
                    let e = b.unary(UnaryOp::Exp, x);
                    let d = b.scalar(Add, e, 1.0);
                    b.of_scalar(Divide, 1.0, d)
                }),
            ],
        },
        Cases {
            rule: "silu",
            fires: vec![
                of(&|b, x, _| {
                    let s = b.unary(UnaryOp::Sigmoid, x);
                    b.binary(Multiply, s, x)
                }),
                of(&|b, x, _| {
                    let d = below(b, x, 1.0);
                    b.binary(Divide, x, d)
                }),
            ],
            silent: vec![
                of(&|b, x, y| {
                    let s = b.unary(UnaryOp::Sigmoid, x);
                    b.binary(Multiply, s, y)
                }),
                of(&|b, x, y| {
                    let d = below(b, x, 1.0);
                    b.binary(Divide, y, d)
                }),
            ],
        },
        Cases {
            rule: "gelu",
            fires: (0..3).map(|o| of(&|b, x, _| gelu(b, x, x, 0.5, root, o))).collect(),
            silent: vec![
                of(&|b, x, y| gelu(b, x, y, 0.5, root, 0)),
                of(&|b, x, _| gelu(b, x, x, 0.25, root, 1)),
                of(&|b, x, _| gelu(b, x, x, 0.5, 0.7, 2)),
            ],
        },
        Cases {
            rule: "gelu-approx",
            fires: vec![
                of(&|b, x, _| approx(b, x, x, 0.044715, true, false)),
                of(&|b, x, _| approx(b, x, x, 0.044715, true, true)),
            ],
            silent: vec![
                of(&|b, x, y| approx(b, x, y, 0.044715, true, false)),
                of(&|b, x, _| approx(b, x, x, 0.04, true, false)),
                of(&|b, x, _| approx(b, x, x, 0.044715, false, false)),
            ],
        },
        Cases {
            rule: "relu",
            fires: vec![of(&|b, x, _| b.scalar(Maximum, x, 0.0))],
            silent: vec![of(&|b, x, _| b.scalar(Minimum, x, 0.0)), of(&|b, x, _| b.scalar(Maximum, x, 0.1))],
        },
        Cases {
            rule: "gated",
            fires: Activation::ALL
                .iter()
                .map(|a| {
                    of(&|b, x, y| {
                        let g = b.unary(a.unary(), x);
                        b.binary(Multiply, y, g)
                    })
                })
                .collect(),
            silent: vec![
                of(&|b, x, _| {
                    let g = b.unary(UnaryOp::Sigmoid, x);
                    b.binary(Multiply, x, g)
                }),
                of(&|b, x, y| {
                    let g = b.unary(UnaryOp::Tanh, x);
                    b.binary(Multiply, g, y)
                }),
                of(&|b, x, y| {
                    let g = b.unary(UnaryOp::Silu, x);
                    b.binary(Add, g, y)
                }),
            ],
        },
    ]
}

/// How attention is written.
#[derive(Clone, Copy, Default)]
struct Attention {
    /// Key and value heads; 0 for one each query head.
    shared: i64,
    /// Heads repeated in the wrong order.
    tiled: bool,
    rank: usize,
    mask: u32,
    /// Softmax over the queries instead of the keys.
    wrong_axis: bool,
    /// In f64, which the composite does not compute in.
    wide: bool,
    scale: f64,
    /// Factors before and after a tanh of the scores.
    cap: Option<(f64, f64)>,
    /// The mask comes before the tanh.
    late: bool,
}

fn attention_case(a: Attention) -> Function {
    let mut b = B::new();
    b.dtype = if a.wide { DType::F64 } else { DType::F32 };
    let (h, s, t, d) = (4, 3, 5, 8);
    let kv = if a.shared == 0 { h } else { a.shared };
    let head = |n: i64, rows: i64| if a.rank == 3 { vec![n, rows, d] } else { vec![1, n, rows, d] };
    let q = b.input(&head(h, s));
    let (k, v) = (b.input(&head(kv, t)), b.input(&head(kv, t)));
    let repeated = |b: &mut B, x: ValueId| {
        if a.shared == 0 {
            return x;
        }
        let (one, many) = match a.tiled {
            false => ([1, kv, 1, t, d], [1, kv, h / kv, t, d]),
            true => ([1, 1, kv, t, d], [1, h / kv, kv, t, d]),
        };
        let x = b.op(Op::Reshape { shape: sizes(&one) }, &[x]);
        let x = b.op(Op::Broadcast { shape: sizes(&many) }, &[x]);
        b.op(Op::Reshape { shape: sizes(&[1, h, t, d]) }, &[x])
    };
    let (k, v) = (repeated(&mut b, k), repeated(&mut b, v));
    let scores = b.op(PRODUCT, &[q, k]);
    let scores = b.scalar(BinaryOp::Multiply, scores, a.scale);
    let capped = |b: &mut B, scores: ValueId| match a.cap {
        Some((before, after)) => {
            let x = b.scalar(BinaryOp::Multiply, scores, before);
            let x = b.unary(UnaryOp::Tanh, x);
            b.scalar(BinaryOp::Multiply, x, after)
        }
        None => scores,
    };
    let scores = if a.late { scores } else { capped(&mut b, scores) };
    let full = b.shape(scores);
    let iota = |b: &mut B, axis: u32| b.op(Op::Iota { dtype: DType::I32, shape: sizes(&[s, t]), axis }, &[]);
    let lower = |b: &mut B, op: CompareOp, more: i64| {
        let (row, column) = (iota(b, 0), iota(b, 1));
        let last = b.scalar(BinaryOp::Add, row, more as f64);
        let seen = b.op(Op::Compare(op), &[column, last]);
        b.op(Op::Broadcast { shape: full.clone() }, &[seen])
    };
    let scores = match a.mask {
        1 => {
            let seen = lower(&mut b, CompareOp::LessEqual, t - s);
            let low = b.full(f64::NEG_INFINITY, scores);
            b.op(Op::Select, &[seen, scores, low])
        }
        2 => {
            let hidden = lower(&mut b, CompareOp::Greater, t - s);
            let low = b.full(-1e30, scores);
            let zero = b.full(0.0, scores);
            let mask = b.op(Op::Select, &[hidden, low, zero]);
            b.binary(BinaryOp::Add, scores, mask)
        }
        3 => {
            let mask = b.input(&[s, t]);
            b.binary(BinaryOp::Add, scores, mask)
        }
        4 => {
            // Not aligned with the last key: a mask, and no causal one.
            let seen = lower(&mut b, CompareOp::LessEqual, 1);
            let low = b.full(-1e30, scores);
            b.op(Op::Select, &[seen, scores, low])
        }
        5 => {
            // A mask that only dampens.
            let seen = lower(&mut b, CompareOp::LessEqual, t - s);
            let low = b.full(-3.0, scores);
            b.op(Op::Select, &[seen, scores, low])
        }
        _ => scores,
    };
    let scores = if a.late { capped(&mut b, scores) } else { scores };
    let weights = if a.wrong_axis {
        let rank = full.len() as u32;
        let most = b.reduce(ReduceOp::Max, rank - 2, true, scores);
        let shifted = b.binary(BinaryOp::Subtract, scores, most);
        let e = b.unary(UnaryOp::Exp, shifted);
        let sum = b.reduce(ReduceOp::Sum, rank - 2, true, e);
        b.binary(BinaryOp::Divide, e, sum)
    } else {
        b.op(Op::Softmax, &[scores])
    };
    let y = b.op(PLAIN, &[weights, v]);
    b.done(y)
}

fn attention_cases() -> Cases {
    let plain = Attention { rank: 4, scale: 0.25, ..Attention::default() };
    let fires: Vec<Attention> = vec![
        plain,
        Attention { rank: 3, ..plain },
        Attention { shared: 2, ..plain },
        Attention { shared: 1, mask: 1, ..plain },
        Attention { mask: 2, ..plain },
        Attention { mask: 3, ..plain },
        Attention { mask: 4, ..plain },
        Attention { rank: 3, mask: 3, ..plain },
        Attention { shared: 2, tiled: true, ..plain },
        Attention { cap: Some((0.5, 2.0)), mask: 1, ..plain },
        Attention { cap: Some((0.5, 3.0)), ..plain },
    ];
    // The composite each case becomes: causal, with a mask, key heads.
    let becomes = [(false, false, 4), (false, false, 4), (false, false, 2), (true, false, 1), (true, false, 4)]
        .into_iter()
        .chain([
            (false, true, 4),
            (false, true, 4),
            (false, true, 4),
            (false, false, 4),
            (true, false, 4),
            (false, false, 4),
        ]);
    let rules = all();
    for (a, (causal, mask, heads)) in fires.iter().zip(becomes) {
        let f = attention_case(*a);
        let found = matches(&rules["attention"], &f).found;
        let sdpa = found.iter().find_map(|(_, t)| match t {
            Term::Op(Op::Sdpa { causal, mask, .. }, x) => Some((*causal, *mask, x[1].clone())),
            Term::Op(Op::Reshape { .. }, x) => match &x[0] {
                Term::Op(Op::Sdpa { causal, mask, .. }, x) => Some((*causal, *mask, x[1].clone())),
                _ => None,
            },
            _ => None,
        });
        let (c1, m1, k) = sdpa.expect("attention is seen");
        assert_eq!((c1, m1), (causal, mask));
        if let Term::Op(Op::Reshape { shape }, _) = k {
            assert_eq!(shape[1], c(heads));
        } else {
            assert_eq!(heads, 4, "repeated heads are read once");
        }
    }
    Cases {
        rule: "attention",
        fires: fires.into_iter().map(attention_case).collect(),
        silent: vec![
            attention_case(Attention { mask: 5, ..plain }),
            attention_case(Attention { wrong_axis: true, ..plain }),
            attention_case(Attention { wide: true, ..plain }),
            // A cap of masked scores lets the hidden keys weigh.
            attention_case(Attention { cap: Some((0.5, 2.0)), late: true, mask: 2, ..plain }),
            attention_case(Attention { cap: Some((0.5, -2.0)), ..plain }),
        ],
    }
}

/// How a rotary embedding is written.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Halves,
    Rotated,
    /// Tables are joined, not angles.
    RotatedTables,
    Interleaved,
    /// Neighbours taken from pairs, not by steps.
    InterleavedPairs,
}

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Sign,
    Swapped,
    OtherAngle,
    OtherValue,
    /// Positions are an input of any values.
    FreePositions,
    /// Positions skip every other one.
    Strided,
}

fn rope_case(turn: Turn, wrong: Wrong, computed: bool) -> Function {
    let mut b = B::new();
    b.dtype = DType::F32;
    let (h, d, half) = (2, 8, 4);
    let s = Size::symbol(b.b.symbol("S", Range::new(1, 5), 1, SymbolKind::Size));
    let (offset, _) = b.b.scalar("offset", Range::new(0, 9), None);
    let full = vec![c(1), c(h), s.clone(), c(d)];
    let ty = TensorType { dtype: DType::F32, shape: full.clone() };
    let x = b.b.param("x", Role::Input, ty.clone(), None);
    let other = b.b.param("other", Role::Input, ty, None);
    // Frequencies 4^-i: exact in f32, as are their products with small positions.
    let w = if computed {
        let i = b.op(Op::Iota { dtype: DType::F32, shape: sizes(&[half]), axis: 0 }, &[]);
        let e = b.scalar(BinaryOp::Multiply, i, -2.0 / d as f64);
        b.of_scalar(BinaryOp::Power, 256.0, e)
    } else {
        let bytes = [1.0f32, 0.25, 0.0625, 0.375].iter().flat_map(|w| f32::to_le_bytes(*w));
        let dense = mlxc_ir::graph::Dense { dtype: DType::F32, shape: vec![half], bytes: bytes.collect() };
        b.op(Op::Constant(std::sync::Arc::new(dense)), &[])
    };
    let positions = match wrong {
        Wrong::FreePositions => {
            let ty = TensorType { dtype: DType::F32, shape: vec![s.clone()] };
            b.b.param("positions", Role::Input, ty, None)
        }
        _ => {
            let i = b.op(Op::Iota { dtype: DType::I32, shape: vec![s.clone()], axis: 0 }, &[]);
            let i = if wrong == Wrong::Strided { b.scalar(BinaryOp::Multiply, i, 2.0) } else { i };
            let i = b.binary(BinaryOp::Add, i, offset);
            b.op(Op::Cast(DType::F32), &[i])
        }
    };
    let p = b.op(Op::Reshape { shape: vec![s.clone(), c(1)] }, &[positions]);
    let grid = vec![s.clone(), c(half)];
    let p = b.op(Op::Broadcast { shape: grid.clone() }, &[p]);
    let angles = b.binary(BinaryOp::Multiply, p, w);
    let off = if wrong == Wrong::OtherAngle { b.scalar(BinaryOp::Multiply, angles, 2.0) } else { angles };
    let doubled = |b: &mut B, v: ValueId| b.op(Op::Concat { axis: 1 }, &[v, v]);
    let table = |b: &mut B, f: UnaryOp, v: ValueId| match turn {
        Turn::Rotated => {
            let v = doubled(b, v);
            b.unary(f, v)
        }
        Turn::RotatedTables => {
            let t = b.unary(f, v);
            doubled(b, t)
        }
        _ => b.unary(f, v),
    };
    let (cos, sin) = (table(&mut b, UnaryOp::Cos, angles), table(&mut b, UnaryOp::Sin, off));
    let take = |b: &mut B, x: ValueId, second: bool| {
        let last = match turn {
            Turn::Interleaved => (i64::from(second), d, 2),
            Turn::InterleavedPairs => {
                let pairs = vec![c(1), c(h), s.clone(), c(half), c(2)];
                let v = b.op(Op::Reshape { shape: pairs.clone() }, &[x]);
                let lo = i64::from(second);
                let (mut start, mut stop) = (vec![c(0); 5], pairs);
                (start[4], stop[4]) = (c(lo), c(lo + 1));
                let v = b.op(Op::Slice { start, stop, step: vec![1; 5] }, &[v]);
                return b.op(Op::Reshape { shape: vec![c(1), c(h), s.clone(), c(half)] }, &[v]);
            }
            _ if second => (half, d, 1),
            _ => (0, half, 1),
        };
        let (mut start, mut stop, mut step) = (vec![c(0); 4], full.clone(), vec![1; 4]);
        (start[3], stop[3], step[3]) = (c(last.0), c(last.1), last.2);
        b.op(Op::Slice { start, stop, step }, &[x])
    };
    let (mut one, mut two) = (take(&mut b, x, false), take(&mut b, x, true));
    match wrong {
        Wrong::Swapped => std::mem::swap(&mut one, &mut two),
        Wrong::OtherValue => two = take(&mut b, other, true),
        _ => {}
    }
    if matches!(turn, Turn::Rotated | Turn::RotatedTables) {
        let minus = if wrong == Wrong::Sign { two } else { b.unary(UnaryOp::Negative, two) };
        let turned = b.op(Op::Concat { axis: 3 }, &[minus, one]);
        let near = b.binary(BinaryOp::Multiply, x, cos);
        let far = b.binary(BinaryOp::Multiply, turned, sin);
        let y = b.binary(BinaryOp::Add, near, far);
        return b.done(y);
    }
    let product = |b: &mut B, x: ValueId, t: ValueId| b.binary(BinaryOp::Multiply, x, t);
    let (u, v) = (product(&mut b, one, cos), product(&mut b, two, sin));
    let first = b.binary(if wrong == Wrong::Sign { BinaryOp::Add } else { BinaryOp::Subtract }, u, v);
    let (u, v) = (product(&mut b, two, cos), product(&mut b, one, sin));
    let second = b.binary(BinaryOp::Add, u, v);
    let y = if turn == Turn::Halves {
        b.op(Op::Concat { axis: 3 }, &[first, second])
    } else {
        let column = Op::Reshape { shape: vec![c(1), c(h), s.clone(), c(half), c(1)] };
        let (first, second) = (b.op(column.clone(), &[first]), b.op(column, &[second]));
        let pairs = b.op(Op::Concat { axis: 4 }, &[first, second]);
        b.op(Op::Reshape { shape: full }, &[pairs])
    };
    b.done(y)
}

fn rope_cases() -> Vec<Cases> {
    use Wrong::*;
    let of = |rule: &'static str, turns: &[Turn]| {
        let all = |wrong: Wrong, computed: bool| turns.iter().map(move |t| rope_case(*t, wrong, computed));
        Cases {
            rule,
            fires: all(Nothing, true).chain(all(Nothing, false)).collect(),
            silent: [Sign, Swapped, OtherAngle, OtherValue, FreePositions, Strided]
                .into_iter()
                .flat_map(|w| all(w, true))
                .collect(),
        }
    };
    let partial = |from: i64, behind: i64| {
        let mut b = B::new();
        let (offset, _) = b.b.scalar("offset", Range::new(0, 9), None);
        let x = b.input(&[1, 2, 3, 12]);
        let cut = |b: &mut B, lo: i64, hi: i64| {
            let op = Op::Slice { start: sizes(&[0, 0, 0, lo]), stop: sizes(&[1, 2, 3, hi]), step: vec![1; 4] };
            b.op(op, &[x])
        };
        let turned = cut(&mut b, from, from + 8);
        let op = Op::Rope { dims: 8, traditional: false, base: 256.0.into(), scale: 1.0.into() };
        let turned = b.op(op, &[turned, offset]);
        let rest = cut(&mut b, behind, behind + 4);
        let y = b.op(Op::Concat { axis: 3 }, &[turned, rest]);
        b.done(y)
    };
    // Powers of a round base are recognised; other frequencies stay an operand.
    let rules = all();
    for (computed, operands) in [(true, 2), (false, 3)] {
        let found = matches(&rules["rope-halves"], &rope_case(Turn::Halves, Nothing, computed)).found;
        assert!(matches!(&found[0].1, Term::Op(Op::Rope { dims: 8, .. }, x) if x.len() == operands), "{found:?}");
    }
    vec![
        of("rope-halves", &[Turn::Halves]),
        of("rope-rotated", &[Turn::Rotated, Turn::RotatedTables]),
        of("rope-interleaved", &[Turn::Interleaved, Turn::InterleavedPairs]),
        Cases { rule: "rope-partial", fires: vec![partial(0, 8)], silent: vec![partial(4, 0), partial(0, 7)] },
    ]
}

/// What detection makes of a program still has kernels, and they are right.
#[test]
fn detected_composites_have_kernels() {
    let profile = mlxc_codegen::profiles::by_name("x86-64-v4-bf16").expect("a known profile");
    let rope = [Turn::Halves, Turn::Rotated, Turn::Interleaved].map(|t| rope_case(t, Wrong::Nothing, false));
    for f in attention_cases().fires.iter().chain(&rope) {
        let f = canonicalise(f).expect("canonical form");
        let (g, report) = saturate(&f, &Options::default()).expect("saturation");
        let g = canonicalise(&g).expect("canonical form");
        let found = g.nodes.iter().filter(|n| matches!(n.op, Op::Sdpa { .. } | Op::Rope { .. })).count();
        assert_eq!(found, 1, "{:?}", report.fired);
        let symbols: Vec<i64> = g.symbols.iter().map(|s| s.range.hi.min(4)).collect();
        mlxc_tests::kernels::check(&g, &profile, &arguments(&g, &symbols, 3), 8.0);
    }
}
