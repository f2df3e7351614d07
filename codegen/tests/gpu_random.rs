//! Random elementwise kernels over all types: made legal for WebGPU and Vulkan they give the same bits in the
//! interpreter, and naga accepts them.

#![allow(clippy::unwrap_used)]

use mlxc_codegen::gpu_profiles;
use mlxc_codegen::legalise::legalise_gpu;
use mlxc_codegen::wgsl::{self, Header};
use mlxc_ir::DType::{self, *};
use mlxc_ir::kernel::{self, BufferData, Kernel, Options, Scalar};
use proptest::prelude::*;

const TYPES: [DType; 9] = [U8, I8, U16, I16, U32, I32, F16, BF16, F32];

/// Text of an expression of a type, over `a`, `b` and `c` of the types `of`.
fn expression(to: DType, of: [DType; 3], lanes: u8, depth: u32) -> BoxedStrategy<String> {
    let names = ["a", "b", "c"];
    let literal = move |v: i32| {
        let one = match to {
            d if d.is_float() => format!("{:?}", f64::from(v) * 0.375),
            d if d.is_signed_int() => v.to_string(),
            _ => v.unsigned_abs().to_string(),
        };
        if lanes == 1 { format!("{to}({one})") } else { format!("splat<{lanes}>({to}({one}))") }
    };
    let leaf = prop_oneof![
        3 => (0..3usize).prop_map(move |i| if of[i] == to { names[i].into() } else { format!("{to}({})", names[i]) }),
        1 => (-100..100i32).prop_map(literal),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let same = move || expression(to, of, lanes, depth - 1);
    let cast = prop::sample::select(&TYPES[..]).prop_flat_map(move |from| {
        let inner = expression(from, of, lanes, depth - 1);
        inner.prop_map(move |e| if from == to { e } else { format!("{to}({e})") })
    });
    let compared = prop::sample::select(&TYPES[..]).prop_flat_map(move |d| {
        let side = || expression(d, of, lanes, depth - 1);
        let by = prop::sample::select(&["<", "<=", "==", "!=", ">", ">="][..]);
        (side(), by, side(), same(), same()).prop_map(|(x, by, y, s, t)| format!("select({x} {by} {y}, {s}, {t})"))
    });
    let operators: &[&str] = if to.is_float() { &["+", "-", "*"] } else { &["+", "-", "*", "&", "|", "^"] };
    let binary = (same(), prop::sample::select(operators), same()).prop_map(|(x, o, y)| format!("({x} {o} {y})"));
    let call =
        (prop::sample::select(&["min", "max"][..]), same(), same()).prop_map(|(f, x, y)| format!("{f}({x}, {y})"));
    let unary = (prop::sample::select(&["abs(", "-("][..]), same()).prop_map(|(f, x)| format!("{f}{x})"));
    let special: BoxedStrategy<String> = if to.is_float() {
        let rounding = prop::sample::select(&["floor", "ceil", "trunc", "rint"][..]);
        (rounding, same()).prop_map(|(f, x)| format!("{f}({x})")).boxed()
    } else {
        let one = if lanes == 1 { format!("{to}(1)") } else { format!("splat<{lanes}>({to}(1))") };
        let three = one.replace("(1)", "(3)");
        let by = prop::sample::select(vec!["<<", ">>", "/", "%"]);
        (same(), by, same(), any::<bool>())
            .prop_map(move |(x, by, y, constant)| match (by, constant) {
                ("<<" | ">>", true) => format!("({x} {by} {three})"),
                ("<<" | ">>", false) => format!("({x} {by} ({y} & {three}))"),
                (_, true) => format!("({x} {by} {three})"),
                // Odd, and so never 0; -1 for some.
                (_, false) => format!("({x} {by} ({y} | {one}))"),
            })
            .boxed()
    };
    prop_oneof![leaf, cast, compared, binary, call, unary, special].boxed()
}

fn elementwise() -> impl Strategy<Value = (Kernel, String)> {
    let one = prop::sample::select(&TYPES[..]);
    (one.clone(), one.clone(), one.clone(), one, prop::sample::select(&[1u8, 2, 4][..]))
        .prop_flat_map(|(a, b, c, to, lanes)| (Just((a, b, c, to, lanes)), expression(to, [a, b, c], lanes, 3)))
        .prop_map(|((a, b, c, to, lanes), e)| {
            let at = if lanes == 1 { "i".to_string() } else { format!("i*{lanes} +: {lanes}") };
            let guard = if lanes == 1 { "i < N".to_string() } else { format!("i*{lanes} + {lanes} <= N") };
            let text = format!(
                "kernel random {{
  sym N in 1..=256
  buf x: {a}[N] read
  buf y: {b}[N] read
  buf z: {c}[N] read
  buf out: {to}[N] update
  phase main grid(g: ceildiv(N, 8)) group 8 {{
    let i = g*8 + lane
    if {guard} {{
      let a = x[{at}]
      let b = y[{at}]
      let c = z[{at}]
      out[{at}] = {e}
    }}
  }}
}}"
            );
            let kernel = kernel::parse(&text, "random").unwrap_or_else(|d| panic!("{d}\n{text}")).remove(0);
            (kernel, text)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn legal_kernels_give_the_same_bits((kernel, text) in elementwise(), n in 1usize..40, seed in any::<u64>()) {
        let mut state = seed | 1;
        let data: Vec<BufferData> = kernel.buffers.iter().map(|b| {
            let bits = (0..n).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let bits = (state >> 7) & (u64::MAX >> (64 - b.dtype.bytes() * 8));
                if b.dtype.is_float() && state >> 62 != 0 {
                    return BufferData::of(b.dtype, [(state >> 40) as f64 / 4096.0 - 2048.0]).bits[0];
                }
                bits
            });
            BufferData { dtype: b.dtype, bits: bits.collect() }
        }).collect();
        let run = |k: &Kernel| {
            let mut data = data.clone();
            kernel::run(k, &mut data, &[("N", Scalar::Int(n as i64))], &Options::default())
                .unwrap_or_else(|d| panic!("{d}\n{text}"));
            data.pop().unwrap()
        };
        let want = run(&kernel);
        for name in ["webgpu", "vulkan", "apple7"] {
            let profile = gpu_profiles::by_name(name).unwrap();
            let legal = legalise_gpu(&kernel, &profile, &[true, true, true, false]).unwrap_or_else(|d| panic!("{}\n{text}", d[0]));
            let got = run(legal.kernel());
            for (g, w) in got.values().into_iter().zip(want.values()) {
                prop_assert!(g == w || g.is_nan() && w.is_nan(), "{name}: {g} is not {w}\n{text}\n{}", kernel::print(legal.kernel()));
            }
            if name != "apple7" {
                let module = &wgsl::write(&legal, Header::Naga)[0];
                wgsl::validate(&module.text, &profile).unwrap_or_else(|d| panic!("{d}\n{text}\n{}", module.text));
            }
        }
    }
}
