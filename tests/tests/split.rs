//! Weights above a target's binding limit are stored and multiplied in pieces.

use mlxc::pipeline::{Options, compile};
use mlxc_ir::DType;
use mlxc_ir::graph::{Op, TensorType};
use mlxc_ir::{QuantMode, Scheme};
use mlxc_tests::suite::{Fill, Suite, c};

/// A vocabulary of 70 rows that is looked up and multiplied with, as a tied embedding is.
fn tied(dtype: DType, scheme: Option<Scheme>) -> Suite {
    let mut s = Suite::new("tied");
    let n = s.symbol("S", 0, 5);
    let ids = s.input(DType::I32, &[n], Fill::Cycle(vec![0.0, 69.0, -1.0, 33.0, -70.0, 68.0, 31.0, 32.0]));
    let (table, rows) = match scheme {
        None => {
            let table = s.weight(dtype, &[70, 64], Fill::Small);
            (table, s.op(Op::Gather { axis: 0 }, &[table, ids]))
        }
        Some(scheme) => {
            let words = s.weight(DType::U32, &[70, scheme.words(64).expect("whole words")], Fill::Wide);
            let groups = 64 / i64::from(scheme.group());
            let (scales, biases) =
                (s.weight(dtype, &[70, groups], Fill::Small), s.weight(dtype, &[70, groups], Fill::Small));
            let op = Op::Dequantize { scheme, dtype };
            let table = s.op(op.clone(), &[words, scales, biases]);
            let picked = [words, scales, biases].map(|w| s.op(Op::Gather { axis: 0 }, &[w, ids]));
            (table, s.op(op, &picked))
        }
    };
    let logits = s.op(Op::MatMul { transpose_a: false, transpose_b: true }, &[rows, table]);
    s.check("rows", rows, 4.0);
    s.check("logits", logits, 16.0);
    s
}

fn limited(target: &str, bytes: u64) -> Options {
    let mut options = Options::for_target(target).unwrap_or_else(|e| panic!("{e}"));
    options.profile.limits.buffer_bytes = bytes;
    options
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let scheme = Scheme::new(QuantMode::Affine, 4, 32).expect("a scheme of MLX");
    for (dtype, scheme, limit) in [
        (DType::F32, None, 6000),
        (DType::BF16, None, 2048),
        (DType::F32, Some(scheme), 1500),
        (DType::F32, None, 3072),
    ] {
        let suite = tied(dtype, scheme);
        for target in ["cpu", "vulkan", "webgpu"] {
            suite.run_with(&limited(target, limit), 2, &[&[0], &[1], &[5]]);
        }
    }
}

/// Every launch binds at most the limit, and pieces are weights of their own.
#[test]
fn no_launch_binds_more_than_the_limit() {
    let compiled =
        compile(&tied(DType::F32, None).module(), &limited("webgpu", 6000)).unwrap_or_else(|e| panic!("{e}"));
    let plan = &compiled.scheduled.plan;
    assert!(plan.weights.iter().all(|w| w.bytes <= 6000), "{:?}", plan.weights);
    assert_eq!(plan.weights.len(), 4);
    assert!(plan.weights.iter().any(|w| w.name == "w1.rows0"), "{:?}", plan.weights);
}

#[test]
fn what_cannot_be_cut_is_refused_with_its_name() {
    // A row that is larger, a reader that has no pieces, a value that is no weight.
    let e = compile(&tied(DType::F32, None).module(), &limited("webgpu", 128)).err().expect("refused");
    assert_eq!(e.0[0].id, 311, "{e}");
    // More pieces than a kernel may bind.
    let e = compile(&tied(DType::F32, None).module(), &limited("webgpu", 1536)).err().expect("refused");
    assert_eq!(e.0[0].id, 320, "{e}");
    let mut s = Suite::new("sum");
    let w = s.weight(DType::F32, &[70, 64], Fill::Small);
    let y = s.op(Op::Unary(mlxc_ir::graph::UnaryOp::Exp), &[w]);
    s.check("exp", y, 4.0);
    let e = compile(&s.module(), &limited("webgpu", 6000)).err().expect("refused");
    assert_eq!(e.0[0].id, 311, "{e}");
    assert!(e.to_string().contains("`exp`") && e.to_string().contains("`w0`"), "{e}");
    let mut s = Suite::new("large");
    let x = s.input(DType::F32, &[c(70), c(64)], Fill::Small);
    let y = s.op(Op::Unary(mlxc_ir::graph::UnaryOp::Exp), &[x]);
    s.check("exp", y, 4.0);
    let e = compile(&s.module(), &limited("webgpu", 6000)).err().expect("refused");
    assert_eq!(e.0[0].id, 411, "{e}");
    assert_eq!(TensorType::constant(DType::F32, &[70, 64]).max_bytes(&[]), 17_920);
}
