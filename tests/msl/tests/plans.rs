//! Whole plans for Apple's GPUs under the gate: the small Llama of the fixtures, and ops of every kind.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use mlxc::models::{Config, EntryOptions, trace_model};
use mlxc::pipeline::{Options, compile};
use mlxc::weights::{Checkpoint, Weights};
use mlxc::{DType, Module, Quantization};
use mlxc_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp};
use mlxc_msl_gate::{Build, Gate, GateSession, Order};
use mlxc_tests::suite::{Fill, Suite, c, sizes};

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/kjv-llama")
}

fn session(module: &Module, weights: &dyn Weights, target: &str, build: Build, order: Order) -> GateSession {
    let options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
    let compiled = compile(module, &options).unwrap_or_else(|e| panic!("{e}"));
    let package = compiled.package(weights, &Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    let gate = Gate::new().unwrap_or_else(|e| panic!("{e}"));
    GateSession::new(&gate, &package, build, order).unwrap_or_else(|e| panic!("{e}"))
}

fn bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The logits of the last token.
fn step(s: &mut GateSession, entry: &str, tokens: &[i32], position: i64) -> i32 {
    let of_entry = s.plan().entries.iter().find(|e| e.name == entry).unwrap();
    let value = |name: &str| if name == "position" { position } else { tokens.len() as i64 };
    let symbols: Vec<i64> = of_entry.symbols.iter().map(|s| value(&s.name)).collect();
    let (tokens, at) = (bytes(tokens), bytes(&[position as i32]));
    let out = s.run(entry, &symbols, &[("tokens", &tokens), ("position", &at)]).unwrap_or_else(|e| panic!("{e}"));
    let logits: Vec<f32> = out[0].1.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap() as i32
}

/// Every prompt's smallest margin is above 1e-3, so no step is excused.
fn tokens_are_the_expected_ones(build: Build, order: Order, decoded: usize) {
    let text = std::fs::read_to_string(fixture().join("config.json")).unwrap();
    let config = Config::parse(&text, "config.json").unwrap_or_else(|e| panic!("{e}"));
    let module = trace_model(&config, EntryOptions::new(DType::F32, 64, 512), &Quantization::default());
    let module = module.unwrap_or_else(|e| panic!("{e}"));
    let weights = Checkpoint::open(&fixture()).unwrap_or_else(|e| panic!("{e}"));
    let mut s = session(&module, &weights, "apple7", build, order);
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture().join("expected.json")).unwrap()).unwrap();
    let list = |v: &serde_json::Value| -> Vec<i32> {
        v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect()
    };
    let prompt = list(&expected["prompts"][0]["prompt_tokens"]);
    let want = list(&expected["prompts"][0]["greedy_f32"]);
    let mut got = vec![step(&mut s, "prefill", &prompt, 0)];
    while got.len() <= decoded {
        let (token, at) = ([*got.last().unwrap()], prompt.len() + got.len() - 1);
        got.push(step(&mut s, "decode", &token, at as i64));
    }
    assert_eq!(got, want[..got.len()]);
}

#[test]
fn the_small_llama_in_f32() {
    tokens_are_the_expected_ones(Build::Strict, Order::Forward, 8);
    tokens_are_the_expected_ones(Build::Strict, Order::Reverse, 2);
}

#[test]
fn the_small_llama_stays_in_its_buffers() {
    tokens_are_the_expected_ones(Build::Checked, Order::Random(3), 2);
}

/// Ops of every kind of kernel, in one module.
fn ops(dtype: DType) -> Suite {
    let mut s = Suite::new(&format!("ops_{dtype}"));
    let n = s.symbol("N", 0, 70);
    let x = s.input(dtype, &[n.clone(), c(12)], Fill::Small);
    let y = s.input(dtype, &[n.clone(), c(12)], Fill::Small);
    let w = s.input(dtype, &sizes(&[12, 20]), Fill::Small);
    for op in [BinaryOp::Add, BinaryOp::Multiply, BinaryOp::Maximum] {
        let v = s.op(Op::Binary(op), &[x, y]);
        s.check(format!("{op:?}"), v, 2.0);
    }
    let t = s.op(Op::Transpose { perm: vec![1, 0] }, &[x]);
    s.check("transpose", t, 0.0);
    let wide = s.op(Op::Cast(DType::F32), &[x]);
    s.check("cast", wide, 0.0);
    for op in [ReduceOp::Sum, ReduceOp::Max] {
        let v = s.op(Op::Reduce { op, axes: vec![1], keepdims: false }, &[x]);
        s.check(format!("{op:?}"), v, 8.0);
    }
    if dtype.is_float() {
        for op in [UnaryOp::Exp, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Sin] {
            let v = s.op(Op::Unary(op), &[x]);
            s.check(format!("{op:?}"), v, 8.0);
        }
        let v = s.op(Op::Softmax, &[x]);
        s.check("softmax", v, 8.0);
        let v = s.op(Op::MatMul { transpose_a: false, transpose_b: false }, &[x, w]);
        s.check("product", v, 16.0);
    }
    s
}

#[test]
fn ops_of_every_kind() {
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U8, DType::I64] {
        ops(dtype).run_on_gpu("apple7", &[&[0], &[1], &[33]]);
    }
}
