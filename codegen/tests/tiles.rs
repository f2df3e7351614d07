//! Matrix tiles on CPUs: what the writer makes of them, and what has no instruction.

#![allow(clippy::unwrap_used)]

mod run;

use mlxc_codegen::legalise::legalise;
use mlxc_codegen::llvm::print_assembly;
use mlxc_codegen::profiles;
use mlxc_ir::DType::*;
use mlxc_ir::kernel::{self, BufferData, Options};
use run::{Memory, Random, compiled, execute, kernel, legal, runnable};

const AMX: &str = "x86-64-v4-amx";

/// Two tiles by two, added to what is there, with pairs of rows interleaved on the right.
const PRODUCT: &str = "kernel product {
  buf a: bf16[32, 96] read
  buf b: bf16[48, 64] read
  buf c: f32[2, 32, 40] update
  phase main grid(g: 2) {
    reg acc: tile<f32, 16x16>[2, 2]
    for i in 0..2 unroll {
      for j in 0..2 unroll {
        acc[i, j] = tile_c(c[g, i*16 +: 16, j*16 +: 16])
      }
    }
    for k in 0..3 {
      let b0 = tile_b_2(b[k*16 +: 16, 0 +: 32])
      let b1 = tile_b_2(b[k*16 +: 16, 32 +: 32])
      for i in 0..2 unroll {
        let rows = tile_a(a[i*16 +: 16, k*32 +: 32])
        acc[i, 0] = mma(rows, b0, acc[i, 0])
        acc[i, 1] = mma(rows, b1, acc[i, 1])
      }
    }
    for i in 0..2 unroll {
      for j in 0..2 unroll {
        c[g, i*16 +: 16, j*16 +: 16] = acc[i, j]
      }
    }
  }
}";

fn bf16(n: usize, random: &mut Random) -> BufferData {
    BufferData::of(BF16, (0..n).map(|_| f64::from(random.unit())))
}

#[test]
fn tiles_multiply_as_the_interpreter_says() {
    let kernel = kernel(PRODUCT);
    let legal = legal(&kernel, AMX);
    let assembly = print_assembly(&legal).unwrap();
    let count = |what: &str| assembly.matches(what).count();
    assert_eq!((count("tdpbf16ps"), count("ldtilecfg"), count("tilerelease")), (4, 1, 1), "{assembly}");
    let mut random = Random::new(3);
    let c = BufferData::of(F32, (0..2 * 32 * 40).map(|_| f64::from(random.unit())));
    let data = vec![bf16(32 * 96, &mut random), bf16(48 * 64, &mut random), c];
    let mut expected = data.clone();
    kernel::run(&kernel, &mut expected, &[], &Options::default()).unwrap();
    // Interleaved rows, by plain arithmetic.
    let (a, b, before) = (data[0].values(), data[1].values(), data[2].values());
    for (n, got) in expected[2].values().into_iter().enumerate() {
        let (g, i, j) = (n / 1280, n / 40 % 32, n % 40);
        let sum: f64 = (0..96).map(|k| a[i * 96 + k] * b[k / 2 * 64 + 2 * j.min(31) + k % 2]).sum();
        let want = before[n] + if j < 32 { sum } else { 0.0 };
        assert!((got - want).abs() < 1e-4, "{g} {i} {j}: {got} not {want}");
    }
    if !profiles::runs_here(profiles::cpu_target(AMX).unwrap()) {
        return;
    }
    let mut memory: Vec<Memory> = data.iter().map(|d| Memory::from(&d.to_bytes())).collect();
    execute(&kernel, &compiled(&kernel, AMX), &[], &mut memory);
    let got = BufferData::from_bytes(F32, memory[2].bytes());
    for (n, (got, want)) in got.values().into_iter().zip(expected[2].values()).enumerate() {
        assert!((got - want).abs() < 1e-4, "{n}: {got} not {want}");
    }
}

#[test]
fn what_no_instruction_does_is_refused() {
    let refused = |text: &str, profile: &str| {
        let errors = legalise(&kernel(text), &profiles::by_name(profile).unwrap()).unwrap_err();
        assert!(errors.iter().all(|d| d.id == 545), "{}", errors[0]);
        errors[0].to_string()
    };
    for profile in ["x86-64-v4-bf16", "x86-64-v3", "aarch64-neon"] {
        assert!(refused(PRODUCT, profile).contains("tile<"), "{profile}");
    }
    let elsewhere = PRODUCT.replace("acc[i, 1] = mma(rows, b1, acc[i, 1])", "acc[i, 1] = mma(rows, b1, acc[i, 0])");
    assert!(refused(&elsewhere, AMX).contains("added to in place"));
    let nine = PRODUCT.replace("16x16>[2, 2]", "16x16>[3, 2]").replace("acc[i, 1]", "acc[i + 1, 1]");
    assert!(refused(&nine, AMX).contains("more matrix tiles"));
    let turned = PRODUCT.replace("tile_c(", "tile_c_t(");
    assert!(refused(&turned, AMX).contains("other than loaded"));
    let small = "kernel small {
  buf c: f32[8, 8] update
  phase main grid() {
    let t = tile_c(c[0 +: 8, 0 +: 8])
    c[0 +: 8, 0 +: 8] = t
  }
}";
    assert!(refused(small, AMX).contains("8x8"));
}

/// Vectors end to end, and what is picked from two.
#[test]
fn vectors_of_vectors() {
    let text = "kernel pick {
  buf a: f32[2, 8] read
  buf c: f32[2, 8] write
  phase main grid() {
    let both = vec(a[0, 0 +: 8], a[1, 0 +: 8])
    c[0, 0 +: 8] = shuffle<8>(both, l: l + l%2*7)
    c[1, 0 +: 8] = shuffle<8>(both, l: l + 1 + l%2*7)
  }
}";
    let kernel = kernel(text);
    let mut data = vec![BufferData::of(F32, (0..16).map(f64::from)), BufferData::of(F32, [0.0; 16])];
    kernel::run(&kernel, &mut data, &[], &Options::default()).unwrap();
    let want = [0., 8., 2., 10., 4., 12., 6., 14., 1., 9., 3., 11., 5., 13., 7., 15.];
    assert_eq!(data[1].values(), want);
    for profile in runnable() {
        let mut memory = vec![Memory::from(&data[0].to_bytes()), Memory::from(&[0f32; 16])];
        execute(&kernel, &compiled(&kernel, profile), &[], &mut memory);
        assert_eq!(BufferData::from_bytes(F32, memory[1].bytes()).values(), want, "{profile}");
    }
}
