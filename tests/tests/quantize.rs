//! Quantised weights against MLX's, bit for bit: as a package is written, and computed at run time.

use mlxc::pipeline::Options;
use mlxc::quantization::{Quantization, Quantizing};
use mlxc::weights::Weights;
use mlxc::{DType, Executable, Scheme, trace};
use mlxc_ir::graph::TensorType;
use mlxc_runtime::{LoadOptions, TensorView};
use safetensors::SafeTensors;
use std::collections::BTreeMap;

const ROWS: i64 = 8;
const K: i64 = 256;

fn fixture() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/quantize/quantized.safetensors");
    std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn data<'a>(file: &SafeTensors<'a>, name: &str) -> &'a [u8] {
    file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data()
}

/// Every scheme on weights of every dtype.
#[test]
fn stored_weights_are_mlx_s() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{e}"));
    let mut compared = 0;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for scheme in Scheme::all() {
            let dense = BTreeMap::from([("l.weight".to_string(), data(&file, &format!("{dtype}.values")).to_vec())]);
            let q = Quantizing::new(dense, dtype, Quantization::uniform(scheme));
            let last = |n: Option<i64>| [ROWS, n.unwrap_or(0)];
            let mut parts = vec![("weight", DType::U32, last(scheme.words(K)))];
            parts.push(("scales", scheme.scale_dtype(dtype), last(scheme.groups(K))));
            if scheme.has_biases() {
                parts.push(("biases", dtype, last(scheme.groups(K))));
            }
            for (part, dtype_of_part, shape) in parts {
                let ty = TensorType::constant(dtype_of_part, &shape);
                let mine = q.read(&format!("l.{part}"), &ty).unwrap_or_else(|e| panic!("{e}")).into_owned();
                let theirs = data(&file, &format!("{dtype}.{scheme}.{part}"));
                let differing = mine.iter().zip(theirs).filter(|(a, b)| a != b).count();
                assert_eq!((mine.len(), differing), (theirs.len(), 0), "{dtype} {scheme} {part}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 * (18 * 3 + 3 * 2));
}

/// The op: codes, scales and biases of every scheme, on values given at run time.
#[test]
fn quantize_at_run_time_is_mlx_s() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{e}"));
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let schemes = Scheme::all();
        let parts =
            |s: &Scheme| if s.has_biases() { &["weight", "scales", "biases"][..] } else { &["weight", "scales"] };
        let module = trace("quantize", |cx| {
            let x = cx.input("x", dtype, [ROWS, K]);
            for s in &schemes {
                let q = x.quantize(*s);
                cx.output(&format!("{s}.weight"), &q.words);
                cx.output(&format!("{s}.scales"), &q.scales);
                if let Some(b) = &q.biases {
                    cx.output(&format!("{s}.biases"), b);
                }
            }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let mut exe = Executable::load(&module, &options, &mlxc::weights::NoWeights, &LoadOptions::default())
            .unwrap_or_else(|e| panic!("{e}"));
        let x = data(&file, &format!("{dtype}.values"));
        let view = TensorView::new(dtype, &[ROWS as u64, K as u64], x).unwrap_or_else(|e| panic!("{e}"));
        let out = exe.run(&[("x", view)]).unwrap_or_else(|e| panic!("{e}"));
        let mut results = out.iter();
        for s in &schemes {
            for part in parts(s) {
                let name = format!("{s}.{part}");
                let mine = results.next().unwrap_or_else(|| panic!("{name}")).bytes();
                let theirs = data(&file, &format!("{dtype}.{name}"));
                let differing = mine.iter().zip(theirs).filter(|(a, b)| a != b).count();
                assert_eq!((mine.len(), differing), (theirs.len(), 0), "{dtype} {name}");
            }
        }
    }
}
