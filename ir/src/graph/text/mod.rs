//! The text form of the Graph IR. [`print()`] and [`parse`] are inverse.
//!
//! ```text
//! weight "norm.weight": bf16[2048]
//! entry "block" {
//!   size S in 1..=4096
//!   param "x": bf16[S, 2048] input
//!   param "norm.weight": bf16[2048] weight 0
//!   %0 = param {index: 0} (): bf16[S, 2048] @ "model.rs":3:14
//!   %1 = param {index: 1} (): bf16[2048]
//!   %2 = rms_norm {eps: 1e-5} (%0, %1): bf16[S, 2048] "normed"
//!   result "y" = %2
//! }
//! ```
//!
//! A node has its number, op, attributes in braces, operands, result types, the user's name and source line. Sizes are
//! expressions over the function's symbols. Floats print so that they read back bit by bit. `//` begins a comment.

mod attributes;
mod lex;
mod parse;
mod print;

pub use parse::{parse, parse_source};
pub use print::print;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Location;
    use crate::graph::*;
    use mlxc_package::{DType, Range, Size};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A module that uses every kind of attribute.
    fn sample(values: &[f64], name: &str) -> Module {
        let mut b = FunctionBuilder::new(name);
        let s = Size::symbol(b.symbol("S", Range::new(1, 64), 2, SymbolKind::Size));
        let (pos, id) = b.scalar("pos", Range::new(0, 31), None);
        b.require(Size::constant(32) - Size::symbol(id) - s.ceil_div(4).at_most(3));
        let at = Location::new("a \"b\".rs", 7, 9);
        let x = b.param("x", Role::Input, TensorType { dtype: DType::F32, shape: vec![s.clone(), 8.into()] }, Some(at));
        let w = b.param(name, Role::Weight(0), TensorType::constant(DType::F32, &[8]), None);
        let k = b.param("k", Role::State(0), TensorType::constant(DType::F32, &[64, 8]), None);
        let n = b.node(Op::RmsNorm { eps: values[0].into() }, &[x, w], None).unwrap();
        b.name(n, name);
        let p = b
            .node(Op::Pad { low: vec![0, 1], high: vec![2, 0], value: Literal::float(values[1]) }, &[n], None)
            .unwrap();
        let sl = Op::Slice { start: vec![0.into(), 1.into()], stop: vec![s.clone(), 9.into()], step: vec![1, 2] };
        let sl = b.node(sl, &[p], None).unwrap();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dense = Dense { dtype: DType::F64, shape: vec![values.len() as i64], bytes };
        b.node(Op::Constant(Arc::new(dense)), &[], None).unwrap();
        let u = b.node(Op::SliceUpdate { axes: vec![0] }, &[k, x, pos], None).unwrap();
        let sum = Op::Reduce { op: ReduceOp::Sum, axes: vec![0, 1], keepdims: true };
        let sum = b.node(sum, &[sl], None).unwrap();
        b.node(Op::Gated(Activation::GeluApprox), &[x, x], None).unwrap();
        b.node(Op::FromSize { size: s.clone() * s.clone() + 3.into(), dtype: DType::I64 }, &[], None).unwrap();
        let rope = Op::Rope { dims: 4, traditional: true, base: values[0].into(), scale: 1.0.into() };
        b.node(rope, &[x, pos], None).unwrap();
        b.result(name, sum);
        b.update(3, u);
        Module {
            weights: vec![Weight { name: name.into(), ty: TensorType::constant(DType::F32, &[8]) }],
            states: vec![State { name: "k".into(), ty: TensorType::constant(DType::F32, &[64, 8]) }],
            functions: vec![b.finish()],
        }
    }

    #[test]
    fn calls_round_trip() {
        let mut m = sample(&[0.5, 2.0], "block");
        m.functions[0].is_block = true;
        let mut b = FunctionBuilder::like(&m.functions[0]);
        b.function_mut().name = "entry".into();
        b.function_mut().is_block = false;
        let g = m.functions[0].clone();
        let args: Vec<ValueId> = g.params.iter().map(|p| b.param(&p.name, p.role, p.ty.clone(), None)).collect();
        let out = b.call(0, &g, &args, None);
        b.result("y", out[0]);
        b.update(3, out[1]);
        m.functions.push(b.finish());
        assert_eq!(parse(&print(&m), "t").unwrap(), m);
    }

    #[test]
    fn values_of_a_source_are_at_their_lines() {
        let text = "entry \"f\" {\n  param \"x\": f32[2] input\n  %0 = param {index: 0} (): f32[2]\n  \
                    %1 = exp (%0): f32[3] @ \"model.rs\":7:1\n  %2 = exp (%0): f32[3]\n}\n";
        let m = parse_source(text, "f.graph").unwrap();
        let places: Vec<String> =
            verify::verify(&m).unwrap_err().iter().map(|d| d.at.as_ref().unwrap().to_string()).collect();
        assert_eq!(places, ["model.rs:7:1", "f.graph:5:3"]);
        assert_eq!(parse(&print(&m), "again").unwrap(), m);
    }

    #[test]
    fn errors_name_the_place() {
        let text = print(&sample(&[1.0, 2.0], "f"));
        for (from, to, id) in [
            ("rms_norm", "rms_nrm", 203),
            ("%2)", "%99)", 211),
            ("eps: 1.0", "eps: \"x\"", 202),
            ("f32[S, 8]", "f32[T, 8]", 203),
            ("f32[S, 8]", "f33[S, 8]", 203),
            ("size S", "size \u{1}", 201),
            ("..=64", "..=99999999999999999999", 204),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text, "{from}");
            match parse(&broken, "file.graph") {
                Err(d) => {
                    assert_eq!(d.id, id, "{d}");
                    assert!(d.at.is_some_and(|a| &*a.file == "file.graph" && a.line > 0));
                }
                Ok(m) => assert_eq!(verify::verify(&m).unwrap_err()[0].id, id),
            }
        }
        assert_eq!(parse(&"(".repeat(100_000), "f").unwrap_err().id, 202);
        let deep = text.replacen("f32[S, 8]", &format!("f32[{}S, 8]", "(".repeat(100_000)), 1);
        assert_eq!(parse(&deep, "f").unwrap_err().id, 205);
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(bits in prop::collection::vec(any::<u64>(), 2..5), name in "[^\u{0}]{0,8}") {
            let values: Vec<f64> = bits.into_iter().map(f64::from_bits).collect();
            let m = sample(&values, &name);
            let text = print(&m);
            prop_assert_eq!(parse(&text, "t").unwrap(), m, "{}", text);
        }

        #[test]
        fn broken_text_is_an_error_and_no_panic(at in 0usize..2000, with in "\\PC{0,3}", cut in 0usize..2000) {
            let text = print(&sample(&[1.0, f64::NAN], "f"));
            let chars: Vec<char> = text.chars().collect();
            let at = at % chars.len();
            let broken: String = chars[..at].iter().chain(with.chars().collect::<Vec<_>>().iter()).chain(&chars[at + 1..]).collect();
            if let Ok(m) = parse(&broken, "t") {
                let _ = verify::verify(&m);
            }
            let _ = parse(&chars[..cut % chars.len()].iter().collect::<String>(), "t");
        }
    }
}
