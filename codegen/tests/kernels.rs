//! The CPU kernels of the Kernel IR's proposal, compiled for every profile this machine runs and compared with
//! plain Rust.

#![allow(clippy::unwrap_used)]

mod run;

use half::bf16;
use mlxc_codegen::legalise::legalise;
use mlxc_codegen::llvm::{Options, compile, print_assembly};
use mlxc_codegen::profiles;
use run::{Memory, Random, compiled, elements, execute, kernel, legal, runnable};

const SILU: &str = "kernel silu_scale_cpu {
  sym S in 1..=65536
  sym T in 1..=65536
  buf x: f32[S, T] read
  buf w: f32[T] read
  buf b: f32[T] read
  buf z: f32[S, T] read
  buf y: f32[S, T] write
  phase main grid(s: S) {
    for c in 0..T/16*16 step 16 {
      let t = fma(x[s, c +: 16], w[c +: 16], b[c +: 16])
      nt y[s, c +: 16] = t / (exp(-t) + 1.0) * z[s, c +: 16]
    }
    let c = T/16*16
    let n = T % 16
    let t = fma(x[s, c +: 16 first n], w[c +: 16 first n], b[c +: 16 first n])
    y[s, c +: 16 first n] = t / (exp(-t) + 1.0) * z[s, c +: 16 first n]
  }
}";

const NORM: &str = "kernel add_rms_norm_cpu {
  sym S in 1..=4096
  buf x: bf16[S, 2048] read
  buf r: bf16[S, 2048] update
  buf w: bf16[2048] read
  buf y: bf16[S, 2048] write
  phase rows grid(s: S) {
    group v: f32[2048]
    reg a: f32x16[4] = 0.0
    for c in 0..2048 step 64 {
      for j in 0..4 unroll {
        let h = bf16(f32(x[s, c + 16*j +: 16]) + f32(r[s, c + 16*j +: 16]))
        let f = f32(h)
        r[s, c + 16*j +: 16] = h
        v[c + 16*j +: 16] = f
        a[j] = fma(f, f, a[j])
      }
    }
    let k = rsqrt(hsum((a[0] + a[1]) + (a[2] + a[3])) * 0x1p-11 + 1e-5)
    for c in 0..2048 step 16 {
      y[s, c +: 16] = bf16(v[c +: 16] * k * f32(w[c +: 16]))
    }
  }
}";

const GATE_UP: &str = "kernel gate_up_silu_cpu {
  sym M in 1..=4096
  buf x: bf16[M, 2048] read
  buf wp: bf16[512, 1024, 64] read
  buf bg: f32[8192] read
  buf bu: f32[8192] read
  buf y: bf16[M, 8192] write
  buf ap: u32[ceildiv(M, 14), 1024, 14] scratch
  phase pack grid(t: ceildiv(M, 14)) {
    for k in 0..1024 { for i in 0..14 {
      var u: u32 = 0
      if t*14 + i < M { u = as<u32>(x[t*14 + i, 2*k +: 2]) }
      ap[t, k, i] = u
    } }
  }
  phase tiles grid(p: 512, q: ceildiv(M, 56)) {
    for t in q*4..min(q*4 + 4, ceildiv(M, 14)) {
      reg acc: f32x16[14, 2] = 0.0
      for k in 0..1024 {
        let b0 = wp[p, k, 0 +: 32]
        let b1 = wp[p, k, 32 +: 32]
        for i in 0..14 unroll {
          let a = as<bf16x32>(splat<16>(ap[t, k, i]))
          acc[i, 0] = dot2(acc[i, 0], a, b0)
          acc[i, 1] = dot2(acc[i, 1], a, b1)
        }
      }
      for i in 0..14 unroll { if t*14 + i < M {
        let g = acc[i, 0] + bg[p*16 +: 16]
        let u = acc[i, 1] + bu[p*16 +: 16]
        y[t*14 + i, p*16 +: 16] = bf16(g / (exp(-g) + 1.0) * u)
      } }
    }
  }
}";

const QMV4: &str = "kernel qmv4_cpu {
  buf x: bf16[2048] read
  buf w: u32[2048, 256] read
  buf sc: bf16[2048, 32] read
  buf bi: bf16[2048, 32] read
  buf y: bf16[2048] write
  buf xp: bf16[16, 4, 32] scratch
  buf xs: f32[32] scratch
  phase prep grid(b: 16) {
    for s in 0..4 { for l in 0..16 { for h in 0..2 { xp[b, s, 2*l + h] = x[b*128 + 8*l + s + 4*h] } } }
    for q in 0..2 {
      var t: f32x16 = 0.0
      for c in 0..64 step 16 { t = t + f32(x[b*128 + q*64 + c +: 16]) }
      xs[2*b + q] = hsum(t)
    }
  }
  phase rows grid(n: 2048) {
    let table = vec<bf16x32>(l: l % 16)
    var t: f32x16 = 0.0
    for g in 0..32 step 16 {
      let sv = f32(sc[n, g +: 16])
      t = fma(f32(bi[n, g +: 16]), xs[g +: 16], t)
      for b in 0..8 unroll {
        let v = w[n, g*8 + b*16 +: 16]
        prefetch w[n + 4, g*8 + b*16 +: 16]
        reg a: f32x16[2] = 0.0
        for s in 0..4 unroll { a[s%2] = dot2(a[s%2], lut(table, as<u16x32>(v >> u32(4*s))), xp[g/2 + b, s, 0 +: 32]) }
        t = fma(a[0] + a[1], shuffle<16>(sv, l: 2*b + l/8), t)
      }
    }
    y[n] = bf16(hsum(t))
  }
}";

fn halves(random: &mut Random, n: usize, scale: f32) -> Vec<bf16> {
    (0..n).map(|_| bf16::from_f32(random.unit() * scale)).collect()
}

fn close(got: f32, want: f64, relative: f64, absolute: f64) -> bool {
    (f64::from(got) - want).abs() <= relative * want.abs() + absolute
}

#[test]
fn silu_with_a_tail() {
    let kernel = kernel(SILU);
    for profile in runnable() {
        let code = compiled(&kernel, profile);
        for (rows, columns) in [(1, 1), (3, 15), (2, 16), (5, 37), (4, 64)] {
            let mut random = Random::new(rows * 100 + columns);
            let scalars = [rows, columns];
            let n = (rows * columns) as usize;
            let (x, z) = (random.floats(n), random.floats(n));
            let (w, b) = (random.floats(columns as usize), random.floats(columns as usize));
            let mut buffers =
                [Memory::from(&x), Memory::from(&w), Memory::from(&b), Memory::from(&z), Memory::new(4 * n)];
            execute(&kernel, &code, &scalars, &mut buffers);
            for (i, got) in buffers[4].to::<f32>().into_iter().enumerate() {
                let c = i % columns as usize;
                let t = f64::from(x[i].mul_add(w[c], b[c]));
                let want = t / ((-t).exp() + 1.0) * f64::from(z[i]);
                assert!(close(got, want, 4e-7, 1e-12), "{profile} {rows}x{columns} at {i}: {got} not {want}");
            }
        }
    }
}

#[test]
fn residual_and_norm() {
    let kernel = kernel(NORM);
    for profile in runnable() {
        let code = compiled(&kernel, profile);
        assert_eq!(code.phases[0].group_bytes, 8192);
        let rows = 3;
        let mut random = Random::new(11);
        let (x, r) = (halves(&mut random, rows * 2048, 2.0), halves(&mut random, rows * 2048, 2.0));
        let w = halves(&mut random, 2048, 1.0);
        let mut buffers = [Memory::from(&x), Memory::from(&r), Memory::from(&w), Memory::new(rows * 4096)];
        execute(&kernel, &code, &[rows as u64], &mut buffers);
        let (sums, y) = (buffers[1].to::<bf16>(), buffers[3].to::<bf16>());
        for s in 0..rows {
            let row: Vec<bf16> =
                (0..2048).map(|c| bf16::from_f32(x[s * 2048 + c].to_f32() + r[s * 2048 + c].to_f32())).collect();
            assert_eq!(&sums[s * 2048..(s + 1) * 2048], &row[..], "{profile}: the residual is exact");
            let mean = row.iter().map(|v| v.to_f64() * v.to_f64()).sum::<f64>() / 2048.0;
            let k = 1.0 / (mean + 1e-5).sqrt();
            for c in 0..2048 {
                let want = row[c].to_f64() * k * w[c].to_f64();
                assert!(close(y[s * 2048 + c].to_f32(), want, 0.0041, 1e-30), "{profile} row {s} column {c}");
            }
        }
    }
}

#[test]
fn gate_and_up() {
    let kernel = kernel(GATE_UP);
    let mut random = Random::new(5);
    let wp = halves(&mut random, 512 * 1024 * 64, 0.05);
    let (bg, bu) = (random.floats(8192), random.floats(8192));
    for profile in runnable() {
        let code = compiled(&kernel, profile);
        for rows in [1usize, 15, 59] {
            if rows > 15 && profile != runnable()[0] {
                continue;
            }
            let x = halves(&mut random, rows * 2048, 1.0);
            let scalars = [rows as u64];
            let mut buffers = [
                Memory::from(&x),
                Memory::from(&wp),
                Memory::from(&bg),
                Memory::from(&bu),
                Memory::new(rows * 8192 * 2),
                Memory::new(elements(&kernel, 5, &scalars) * 4),
            ];
            execute(&kernel, &code, &scalars, &mut buffers);
            let y = buffers[4].to::<bf16>();
            for _ in 0..2000 {
                let (m, n) = (random.bits() as usize % rows, random.bits() as usize % 8192);
                let dot = |half: usize| -> f64 {
                    (0..2048)
                        .map(|k| {
                            let at = (n / 16 * 1024 + k / 2) * 64 + half * 32 + n % 16 * 2 + k % 2;
                            x[m * 2048 + k].to_f64() * wp[at].to_f64()
                        })
                        .sum()
                };
                let (g, u) = (dot(0) + f64::from(bg[n]), dot(1) + f64::from(bu[n]));
                let want = g / ((-g).exp() + 1.0) * u;
                let got = y[m * 8192 + n].to_f32();
                assert!(close(got, want, 0.0041, 1e-4), "{profile} M={rows} [{m}, {n}]: {got} not {want}");
            }
        }
    }
}

#[test]
fn four_bit_matrix_vector() {
    let kernel = kernel(QMV4);
    let mut random = Random::new(3);
    let x = halves(&mut random, 2048, 1.0);
    let w: Vec<u32> = (0..2048 * 256).map(|_| random.bits() as u32).collect();
    let (sc, bi) = (halves(&mut random, 2048 * 32, 0.1), halves(&mut random, 2048 * 32, 0.1));
    for profile in runnable() {
        let code = compiled(&kernel, profile);
        let mut buffers = [
            Memory::from(&x),
            Memory::from(&w),
            Memory::from(&sc),
            Memory::from(&bi),
            Memory::new(2048 * 2),
            Memory::new(16 * 4 * 32 * 2),
            Memory::new(32 * 4),
        ];
        execute(&kernel, &code, &[], &mut buffers);
        for (n, got) in buffers[4].to::<bf16>().into_iter().enumerate() {
            let want: f64 = (0..2048)
                .map(|k| {
                    let q = f64::from(w[n * 256 + k / 8] >> (4 * (k % 8)) & 15);
                    let (s, b) = (sc[n * 32 + k / 64].to_f64(), bi[n * 32 + k / 64].to_f64());
                    (q * s + b) * x[k].to_f64()
                })
                .sum();
            assert!(close(got.to_f32(), want, 0.0041, 2e-4), "{profile} row {n}: {got} not {want}");
        }
    }
}

#[test]
fn the_same_bytes_again_and_on_any_number_of_threads() {
    for name in
        ["x86-64-v4-amx", "x86-64-v4-fp16", "x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64-neon"]
    {
        let profile = profiles::by_name(name).unwrap();
        // Kernels are told apart by name, so repeat them under others.
        let renamed: Vec<_> = [SILU, NORM, QMV4, SILU, NORM, QMV4, SILU, NORM, QMV4]
            .iter()
            .enumerate()
            .map(|(i, t)| {
                let mut kernel = kernel(t);
                kernel.name = format!("{}_{i}", kernel.name).into();
                legalise(&kernel, &profile).unwrap()
            })
            .collect();
        let one = compile(&renamed, &profile, &Options { threads: 1, ..Options::default() }).unwrap();
        let three = compile(&renamed, &profile, &Options { threads: 3, ..Options::default() }).unwrap();
        assert!(one == three, "{name}");
        assert_eq!(one.phases.len(), 12);
        assert!(one.phases.iter().all(|p| one.blob.offset(&p.symbol).is_some()));
    }
}

#[test]
fn wide_instructions_are_used() {
    let assembly = print_assembly(&legal(&kernel(GATE_UP), "x86-64-v4-bf16")).unwrap();
    let count = |what: &str| assembly.matches(what).count();
    assert_eq!(count("vdpbf16ps"), 28, "14 rows by 2 columns, unrolled");
    let spilled = assembly.lines().filter(|l| l.contains("%zmm") && l.trim_end().ends_with("(%rsp)")).count();
    assert_eq!(spilled, 0, "no accumulator leaves its register");
    let assembly = print_assembly(&legal(&kernel(QMV4), "x86-64-v4-bf16")).unwrap();
    assert!(assembly.contains("vpermw"), "a table look-up is one permutation");
}

#[test]
fn two_kernels_of_one_name_are_refused() {
    let profile = profiles::by_name("x86-64-v3").unwrap();
    let twice = [legal(&kernel(SILU), "x86-64-v3"), legal(&kernel(SILU), "x86-64-v3")];
    assert_eq!(compile(&twice, &profile, &Options::default()).map_err(|d| d.id), Err(806));
    let other = profiles::by_name("x86-64-v2").unwrap();
    assert_eq!(compile(&twice[..1], &other, &Options::default()).map_err(|d| d.id), Err(807));
}
