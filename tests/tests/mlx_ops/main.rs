//! Ops against what MLX computed: every case of `fixtures/mlx_ops` traced by its name, compiled for this machine and run.
//!
//! A case is exact where the op moves elements, compares, or computes with integers or random bits; else it has a
//! tolerance in ulp of the largest value of the tensor.

mod array;
mod cases;
mod nn;
mod numbers;

use cases::{Case, Limit};
use mlxc::pipeline::Options;
use mlxc::{Array, DType, Executable, trace};
use mlxc_runtime::{LoadOptions, Tensor, TensorView};
use mlxc_tests::compare::epsilon;
use mlxc_tests::suite::tensor;
use safetensors::SafeTensors;
use std::collections::BTreeMap;

const DATA: &[u8] = include_bytes!("../../fixtures/mlx_ops/expected.safetensors");
const INDEX: &str = include_str!("../../fixtures/mlx_ops/expected.json");

fn all() -> Vec<Case> {
    [array::cases(), numbers::cases(), nn::cases()].concat()
}

fn listed() -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(INDEX).expect("the index is JSON");
    let names = json["cases"].as_array().expect("cases are a list");
    names.iter().map(|n| n.as_str().expect("a case has a name").to_string()).collect()
}

fn dtype(d: safetensors::Dtype) -> DType {
    use safetensors::Dtype as S;
    match d {
        S::BOOL => DType::Bool,
        S::U8 => DType::U8,
        S::U16 => DType::U16,
        S::U32 => DType::U32,
        S::U64 => DType::U64,
        S::I8 => DType::I8,
        S::I16 => DType::I16,
        S::I32 => DType::I32,
        S::I64 => DType::I64,
        S::F16 => DType::F16,
        S::BF16 => DType::BF16,
        S::F32 => DType::F32,
        other => panic!("no case has the dtype {other:?}"),
    }
}

/// The tensors `name/in0` or `name/out0` and their successors.
fn tensors(file: &SafeTensors<'_>, name: &str, side: &str) -> Vec<Tensor> {
    (0..)
        .map_while(|i| file.tensor(&format!("{name}/{side}{i}")).ok())
        .map(|v| {
            let shape: Vec<u64> = v.shape().iter().map(|n| *n as u64).collect();
            Tensor::from_bytes(dtype(v.dtype()), &shape, v.data()).expect("a whole tensor")
        })
        .collect()
}

/// Runs every case of a group in one module and compares.
fn group(group: &str) {
    let file = SafeTensors::deserialize(DATA).expect("the fixture is a safetensors file");
    let prefix = format!("{group}/");
    let cases: Vec<Case> = all().into_iter().filter(|c| c.name.starts_with(&prefix)).collect();
    let held: Vec<(Vec<Tensor>, Vec<Tensor>)> =
        cases.iter().map(|c| (tensors(&file, c.name, "in"), tensors(&file, c.name, "out"))).collect();
    let mut wrong = Vec::new();
    let module = trace(group, |cx| {
        for (case, (inputs, outputs)) in cases.iter().zip(&held) {
            let args: Vec<Array> = inputs
                .iter()
                .enumerate()
                .map(|(i, t)| {
                    let shape: Vec<i64> = t.shape().iter().map(|n| *n as i64).collect();
                    cx.input(&format!("{}.{i}", case.name), t.dtype(), shape)
                })
                .collect();
            let got = (case.trace)(cx, &args);
            assert_eq!(got.len(), outputs.len(), "{} has as many results as MLX", case.name);
            got.iter().enumerate().for_each(|(i, y)| cx.output(&format!("{}:{i}", case.name), y));
        }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    let load = LoadOptions { threads: Some(2), poison: true, ..LoadOptions::default() };
    let mut exe = Executable::load(&module, &options, &BTreeMap::new(), &load).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<String> =
        cases.iter().zip(&held).flat_map(|(c, (i, _))| (0..i.len()).map(|i| format!("{}.{i}", c.name))).collect();
    let inputs: Vec<(&str, TensorView<'_>)> =
        names.iter().map(String::as_str).zip(held.iter().flat_map(|(i, _)| i.iter().map(Tensor::view))).collect();
    let got = exe.run(&inputs).unwrap_or_else(|e| panic!("{e}"));
    let wanted = cases.iter().zip(&held).flat_map(|(c, (_, o))| o.iter().enumerate().map(move |(i, t)| (c, i, t)));
    for (got, (case, i, want)) in got.iter().zip(wanted) {
        if let Some(what) = differs(got, want, case.limit) {
            wrong.push(format!("{} result {i}: {what}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a result, if anything is.
fn differs(got: &Tensor, want: &Tensor, limit: Limit) -> Option<String> {
    if got.shape() != want.shape() || got.dtype() != want.dtype() {
        return Some(format!("{}{:?}, not {}{:?}", got.dtype(), got.shape(), want.dtype(), want.shape()));
    }
    let (g, w) = (tensor(got), tensor(want));
    let scale = (0..w.len()).map(|i| w.float(i).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let allowed = match limit {
        Limit::Exact => 0.0,
        Limit::Ulp(n) => n * epsilon(want.dtype()) * scale,
    };
    let bad = |i: &usize| {
        let (a, b) = (g.float(*i), w.float(*i));
        let same = a == b || a.is_nan() && b.is_nan();
        let off = (a - b).abs();
        !same && (off > allowed || off.is_nan())
    };
    let list: Vec<String> = (0..g.len())
        .filter(bad)
        .take(4)
        .map(|i| {
            format!(
                "[{i}] {:e}, not {:e} ({:.1} ulp)",
                g.float(i),
                w.float(i),
                (g.float(i) - w.float(i)).abs() / (epsilon(want.dtype()) * scale)
            )
        })
        .collect();
    (!list.is_empty()).then(|| list.join("; "))
}

#[test]
fn every_case_of_the_fixture_is_traced() {
    let (mut here, mut there): (Vec<String>, Vec<String>) =
        (all().iter().map(|c| c.name.to_string()).collect(), listed());
    here.sort_unstable();
    there.sort_unstable();
    assert_eq!(here, there);
}

macro_rules! groups {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            group(stringify!($name));
        }
    )*};
}

groups! {
    logic unary binary reduce scan sort index create product conv pool random activation loss
}

#[test]
fn movement() {
    group("move");
}
