//! The kernel files, interpreted at small and odd sizes and compared with plain arithmetic.

#![allow(clippy::unwrap_used)]

use half::bf16;
use mlxc_ir::DType::{self, BF16, F32, I32, U8, U32};
use mlxc_ir::kernel::{BufferData, Kernel, Options, Order, Scalar, parse, run, verify};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// About normal with deviation 1.
    fn number(&mut self) -> f64 {
        (0..4).map(|_| (self.next() % 20001) as f64 / 10000.0 - 1.0).sum::<f64>() * 0.87
    }

    fn data(&mut self, dtype: DType, len: usize) -> BufferData {
        BufferData::of(dtype, (0..len).map(|_| self.number()))
    }
}

fn kernel(name: &str, replace: &[(&str, &str)]) -> Kernel {
    let path = format!("{}/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name}: no {from}");
        text = text.replace(from, to);
    }
    let k = parse(&text, name).unwrap_or_else(|e| panic!("{e}")).remove(0);
    if let Err(errors) = verify(&k) {
        panic!("{}", errors[0]);
    }
    k
}

/// Runs with named buffers; those not named are zeros of `len`. Returns all by name.
fn outputs(
    k: &Kernel,
    given: &[(&str, &BufferData)],
    scalars: &[(&str, i64)],
    len: &[(&str, usize)],
    options: Options,
) -> Vec<(String, BufferData)> {
    let mut data: Vec<BufferData> = k
        .buffers
        .iter()
        .map(|b| match given.iter().find(|(n, _)| *n == &*b.name) {
            Some((_, d)) => (*d).clone(),
            None => {
                let (_, n) = len.iter().find(|(n, _)| *n == &*b.name).unwrap_or_else(|| panic!("no {}", b.name));
                BufferData::zeros(b.dtype, *n)
            }
        })
        .collect();
    let scalars: Vec<(&str, Scalar)> = scalars.iter().map(|(n, v)| (*n, Scalar::Int(*v))).collect();
    run(k, &mut data, &scalars, &options).unwrap_or_else(|e| panic!("{e}"));
    k.buffers.iter().map(|b| b.name.to_string()).zip(data).collect()
}

fn named<'a>(all: &'a [(String, BufferData)], name: &str) -> &'a BufferData {
    &all.iter().find(|(n, _)| n == name).unwrap().1
}

fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let top = want.iter().fold(1e-9, |m: f64, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * top, "{what}: element {i} is {g}, not {w}");
    }
}

fn runs() -> Vec<Options> {
    vec![
        Options { seed: 1, ..Options::default() },
        Options { seed: 2, order: Order::Descending, math_ulp: 2, ..Options::default() },
    ]
}

fn bf(v: f64) -> f64 {
    bf16::from_f64(v).to_f64()
}

fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}

#[test]
fn elementwise_with_tails() {
    let mut r = Random(1);
    for (s, t) in [(3, 1), (2, 16), (2, 37), (1, 1000)] {
        let (x, w, b, z) = (r.data(F32, s * t), r.data(F32, t), r.data(F32, t), r.data(F32, s * t));
        let want: Vec<f64> =
            (0..s * t).map(|i| silu(x.values()[i] * w.values()[i % t] + b.values()[i % t]) * z.values()[i]).collect();
        for name in ["silu_scale_cpu", "silu_scale_gpu"] {
            let k = kernel(name, &[]);
            let given = [("x", &x), ("w", &w), ("b", &b), ("z", &z)];
            for o in runs() {
                let out = outputs(&k, &given, &[("S", s as i64), ("T", t as i64)], &[("y", s * t)], o);
                close(name, &named(&out, "y").values(), &want, 1e-6);
            }
        }
    }
}

#[test]
fn residual_and_norm() {
    let mut r = Random(2);
    for s in [1, 3] {
        let (x, res, w) = (r.data(BF16, s * 2048), r.data(BF16, s * 2048), r.data(BF16, 2048));
        let h: Vec<f64> = x.values().iter().zip(res.values()).map(|(a, b)| bf(a + b)).collect();
        let mut want = Vec::new();
        for row in h.chunks(2048) {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / 2048.0;
            want.extend(row.iter().zip(w.values()).map(|(v, w)| v / (mean + 1e-5).sqrt() * w));
        }
        for name in ["add_rms_norm_cpu", "add_rms_norm_gpu"] {
            let k = kernel(name, &[]);
            let given = [("x", &x), ("r", &res), ("w", &w)];
            let out = outputs(&k, &given, &[("S", s as i64)], &[("y", s * 2048)], runs()[0]);
            close(name, &named(&out, "y").values(), &want, 5e-3);
            assert_eq!(named(&out, "r").values(), h);
        }
        let words =
            |d: &BufferData| BufferData { dtype: U32, bits: d.bits.chunks(2).map(|p| p[0] | p[1] << 16).collect() };
        let halves = |d: &BufferData| BufferData {
            dtype: BF16,
            bits: d.bits.iter().flat_map(|w| [w & 0xffff, w >> 16]).collect(),
        };
        let k = kernel("add_rms_norm_gpu_webgpu", &[]);
        for width in [4, 8, 32, 64] {
            let o = Options { subgroup_width: width, ..Options::default() };
            let (x, res, w) = (words(&x), words(&res), words(&w));
            let out = outputs(&k, &[("x", &x), ("r", &res), ("w", &w)], &[("S", s as i64)], &[("y", s * 1024)], o);
            close("webgpu", &halves(named(&out, "y")).values(), &want, 5e-3);
            assert_eq!(halves(named(&out, "r")).values(), h);
        }
    }
}

#[test]
fn matmul_with_epilogue() {
    let mut r = Random(3);
    for m in [1, 14, 17, 60] {
        let x = r.data(BF16, m * 64);
        let w = BufferData::of(BF16, (0..2 * 64 * 64).map(|_| r.number() * 0.2));
        let b = r.data(F32, 128);
        let (xv, wv, bv) = (x.values(), w.values(), b.values());
        let product = |which: usize, i: usize, n: usize| {
            (0..64).map(|k| xv[i * 64 + k] * wv[(which * 64 + n) * 64 + k]).sum::<f64>() + bv[which * 64 + n]
        };
        let want: Vec<f64> =
            (0..m * 64).map(|i| silu(product(0, i / 64, i % 64)) * product(1, i / 64, i % 64)).collect();
        let mut packed = vec![0.0; 4 * 32 * 64];
        for p in 0..4 {
            for k in 0..32 {
                for v in 0..2 {
                    for c in 0..16 {
                        for h in 0..2 {
                            packed[(p * 32 + k) * 64 + v * 32 + 2 * c + h] = wv[(v * 64 + p * 16 + c) * 64 + 2 * k + h];
                        }
                    }
                }
            }
        }
        let packed = BufferData::of(BF16, packed);
        let bg = BufferData { dtype: F32, bits: b.bits[..64].to_vec() };
        let bu = BufferData { dtype: F32, bits: b.bits[64..].to_vec() };
        let small = [("2048", "64"), ("8192", "64"), ("1024", "32"), ("p: 512", "p: 4"), ("[512", "[4")];
        let k = kernel("gate_up_silu_cpu", &small);
        let given = [("x", &x), ("wp", &packed), ("bg", &bg), ("bu", &bu)];
        let len = [("y", m * 64), ("ap", m.div_ceil(14) * 32 * 14)];
        for o in runs() {
            let out = outputs(&k, &given, &[("M", m as i64)], &len, o);
            close("cpu", &named(&out, "y").values(), &want, 8e-3);
        }
        for name in ["gate_up_silu_tiles", "gate_up_silu_regs"] {
            let k = kernel(name, &[("2048", "64"), ("8192", "64"), ("nb: 256", "nb: 2")]);
            let given = [("x", &x), ("w", &w), ("b", &b)];
            let out = outputs(&k, &given, &[("M", m as i64)], &[("y", m * 64)], runs()[0]);
            close(name, &named(&out, "y").values(), &want, 8e-3);
        }
    }
}

#[test]
fn quantised_vector_product() {
    let mut r = Random(4);
    let rows = 16;
    let q: Vec<u64> = (0..rows * 2048).map(|_| r.next() % 16).collect();
    let words = q.chunks(8).map(|c| c.iter().enumerate().fold(0, |w, (j, n)| w | n << (4 * j))).collect();
    let w = BufferData { dtype: U32, bits: words };
    let (sc, bi, x) = (r.data(BF16, rows * 32), r.data(BF16, rows * 32), r.data(BF16, 2048));
    let (s, b, xv) = (sc.values(), bi.values(), x.values());
    let want: Vec<f64> = (0..rows)
        .map(|n| {
            let term = |k: usize| (q[n * 2048 + k] as f64 * s[n * 32 + k / 64] + b[n * 32 + k / 64]) * xv[k];
            (0..2048).map(term).sum()
        })
        .collect();
    let sizes = [("[2048, 256]", "[16, 256]"), ("[2048, 32]", "[16, 32]"), ("y: bf16[2048]", "y: bf16[16]")];
    for (name, grid) in [("qmv4_cpu", ("n: 2048", "n: 16")), ("qmv4_gpu", ("b: 256)", "b: 2)"))] {
        let k = kernel(name, &[sizes[0], sizes[1], sizes[2], grid]);
        let given = [("x", &x), ("w", &w), ("sc", &sc), ("bi", &bi)];
        for o in runs() {
            let out = outputs(&k, &given, &[], &[("y", rows), ("xp", 2048), ("xs", 32)], o);
            close(name, &named(&out, "y").values(), &want, 8e-3);
        }
    }
}

/// Attention of query rows `q` (32 heads of 64) at positions `pos..` over a cache of 8 heads, `context` rows.
fn attention(q: &[f64], kc: &[f64], vc: &[f64], context: usize, pos: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for (i, q) in q.chunks(64).enumerate() {
        let (s, h) = (i / 32, i % 32);
        let row = |c: usize| (h / 4 * context + c) * 64;
        let scores: Vec<f64> =
            (0..=pos + s).map(|c| (0..64).map(|d| q[d] * kc[row(c) + d]).sum::<f64>() * 0.125).collect();
        let top = scores.iter().fold(f64::MIN, |m, e| m.max(*e));
        let p: Vec<f64> = scores.iter().map(|e| (e - top).exp()).collect();
        let sum: f64 = p.iter().sum();
        out.extend((0..64).map(|d| p.iter().enumerate().map(|(c, p)| p / sum * vc[row(c) + d]).sum::<f64>()));
    }
    out
}

const CONTEXT: usize = 512;
const CONTEXT_SIZES: [(&str, &str); 2] = [("4096", "512"), ("4095", "511")];

/// Keys of row-major cache as blocks of 16 keys with pairs of dimensions together.
fn blocked(k: &BufferData) -> BufferData {
    let mut bits = vec![0; k.bits.len()];
    for (i, b) in k.bits.iter().enumerate() {
        let (h, c, d) = (i / 64 / CONTEXT, i / 64 % CONTEXT, i % 64);
        bits[((h * (CONTEXT / 16) + c / 16) * 32 + d / 2) * 32 + c % 16 * 2 + d % 2] = *b;
    }
    BufferData { dtype: k.dtype, bits }
}

#[test]
fn decode_attention() {
    let mut r = Random(5);
    let (kc, vc) = (r.data(BF16, 8 * CONTEXT * 64), r.data(BF16, 8 * CONTEXT * 64));
    for pos in [0, 5, 255, 256, 300] {
        let q = r.data(BF16, 32 * 64);
        let want = attention(&q.values(), &kc.values(), &vc.values(), CONTEXT, pos);
        // What lies past the position is state nobody wrote: a result that depends on it fails by value.
        let mut stale = (kc.clone(), vc.clone());
        for data in [&mut stale.0, &mut stale.1] {
            for (i, b) in data.bits.iter_mut().enumerate() {
                if i / 64 % CONTEXT > pos {
                    *b = 0x7fc0;
                }
            }
        }
        let split = [("32, 16, 64", "32, 2, 64"), ("32, 16, 2]", "32, 2, 2]")];
        let k = kernel("decode_attention_gpu", &[CONTEXT_SIZES[0], CONTEXT_SIZES[1], split[0], split[1]]);
        let len = [("y", 2048), ("po", 32 * 2 * 64), ("ml", 32 * 2 * 2)];
        let scalars = [("pos", pos as i64)];
        let given = [("q", &q), ("kc", &stale.0), ("vc", &stale.1)];
        let out = outputs(&k, &given, &scalars, &len, runs()[1]);
        close("gpu", &named(&out, "y").values(), &want, 8e-3);

        let cpu = [CONTEXT_SIZES[0], CONTEXT_SIZES[1], split[0], split[1], ("8, 256, 32, 32", "8, 32, 32, 32")];
        let k = kernel("decode_attention_cpu", &cpu);
        let kt = blocked(&stale.0);
        for o in runs() {
            let out = outputs(&k, &[("q", &q), ("kt", &kt), ("vc", &vc)], &scalars, &len, o);
            close("cpu", &named(&out, "y").values(), &want, 8e-3);
        }
    }
}

#[test]
fn prefill_attention() {
    let mut r = Random(6);
    let (kc, vc) = (r.data(BF16, 8 * CONTEXT * 64), r.data(BF16, 8 * CONTEXT * 64));
    let k = kernel("prefill_attention", &CONTEXT_SIZES);
    for (s, pos) in [(1, 0), (5, 3), (33, 7)] {
        let q = r.data(BF16, s * 32 * 64);
        let want = attention(&q.values(), &kc.values(), &vc.values(), CONTEXT, pos);
        let given = [("q", &q), ("kc", &kc), ("vc", &vc)];
        let scalars = [("S", s as i64), ("pos", pos as i64)];
        let out = outputs(&k, &given, &scalars, &[("y", s * 2048)], runs()[0]);
        close("prefill", &named(&out, "y").values(), &want, 8e-3);
    }
}

#[test]
fn rotary_embedding_into_the_cache() {
    let mut r = Random(7);
    for (s, pos) in [(1, 9), (3, 0)] {
        let qkv = r.data(BF16, s * 48 * 64);
        let angles: Vec<f64> = (0..CONTEXT * 32).map(|_| r.number()).collect();
        let mut table = vec![0.0; CONTEXT * 64];
        for (i, a) in angles.iter().enumerate() {
            table[i / 32 * 64 + i % 32] = a.cos();
            table[i / 32 * 64 + 32 + i % 32] = a.sin();
        }
        let cs = BufferData::of(F32, table);
        let (kc, vc) = (r.data(BF16, 8 * CONTEXT * 64), r.data(BF16, 8 * CONTEXT * 64));
        let v = qkv.values();
        let rotated = |s: usize, h: usize, d: usize| {
            let (c, n) = (angles[(pos + s) * 32 + d % 32].cos(), angles[(pos + s) * 32 + d % 32].sin());
            let (a, b) = (v[(s * 48 + h) * 64 + d % 32], v[(s * 48 + h) * 64 + 32 + d % 32]);
            if d < 32 { a * c - b * n } else { b * c + a * n }
        };
        let want_q: Vec<f64> = (0..s * 2048).map(|i| rotated(i / 2048, i / 64 % 32, i % 64)).collect();
        let (mut want_k, mut want_v) = (kc.values(), vc.values());
        for i in 0..s * 8 * 64 {
            let (t, h, d) = (i / 512, i / 64 % 8, i % 64);
            want_k[(h * CONTEXT + pos + t) * 64 + d] = rotated(t, 32 + h, d);
            want_v[(h * CONTEXT + pos + t) * 64 + d] = v[(t * 48 + 40 + h) * 64 + d];
        }
        let scalars = [("S", s as i64), ("pos", pos as i64)];
        let len = [("q", s * 2048)];
        let k = kernel("rope_cache", &CONTEXT_SIZES);
        let given = [("qkv", &qkv), ("cs", &cs), ("kc", &kc), ("vc", &vc)];
        let out = outputs(&k, &given, &scalars, &len, runs()[0]);
        close("q", &named(&out, "q").values(), &want_q, 8e-3);
        close("k", &named(&out, "kc").values(), &want_k, 8e-3);
        assert_eq!(named(&out, "vc").values(), want_v);

        let k = kernel("rope_cache_cpu", &[CONTEXT_SIZES[0], CONTEXT_SIZES[1], ("8, 256, 32, 32", "8, 32, 32, 32")]);
        let kt = blocked(&kc);
        let given = [("qkv", &qkv), ("cs", &cs), ("kt", &kt), ("vc", &vc)];
        let out = outputs(&k, &given, &scalars, &len, runs()[1]);
        close("cpu q", &named(&out, "q").values(), &want_q, 8e-3);
        let want_kt = blocked(&BufferData::of(BF16, want_k));
        close("cpu k", &named(&out, "kt").values(), &want_kt.values(), 8e-3);
        assert_eq!(named(&out, "vc").values(), want_v);
    }
}

#[test]
fn row_softmax() {
    let mut r = Random(8);
    let k = kernel("softmax_cpu", &[]);
    for (s, t) in [(1, 1), (2, 16), (3, 45)] {
        let x = r.data(BF16, s * t);
        let mut want = Vec::new();
        for row in x.values().chunks(t) {
            let sum: f64 = row.iter().map(|v| v.exp()).sum();
            want.extend(row.iter().map(|v| v.exp() / sum));
        }
        for o in runs() {
            let out = outputs(&k, &[("x", &x)], &[("S", s as i64), ("T", t as i64)], &[("y", s * t)], o);
            close("softmax", &named(&out, "y").values(), &want, 4e-3);
        }
    }
}

#[test]
fn gather_clamps_what_the_data_says() {
    let mut r = Random(9);
    let k = kernel("gather_rows_cpu", &[]);
    let table = r.data(BF16, 10 * 64);
    let ids = [3.0, -7.0, 9.0, 4000.0];
    let mut data = [BufferData::of(I32, ids), table.clone(), BufferData::zeros(F32, 4 * 64)];
    let scalars = [("N", Scalar::Int(4)), ("V", Scalar::Int(10)), ("scale", Scalar::Float(0.5))];
    run(&k, &mut data, &scalars, &Options::default()).unwrap();
    let rows = [3, 0, 9, 9];
    let want: Vec<f64> =
        rows.iter().flat_map(|r| table.values()[r * 64..(r + 1) * 64].to_vec()).map(|v| v * 0.5).collect();
    assert_eq!(data[2].values(), want);
}

#[test]
fn histogram_by_atomics() {
    let mut r = Random(10);
    let k = kernel("histogram_gpu", &[]);
    let n = 2500;
    let x = BufferData { dtype: U8, bits: (0..n).map(|_| r.next() % 256).collect() };
    let mut want = vec![0; 256];
    x.bits.iter().for_each(|b| want[*b as usize] += 1);
    for o in runs() {
        let zeros = BufferData::zeros(U32, 256);
        let out = outputs(&k, &[("x", &x), ("counts", &zeros)], &[("N", n as i64)], &[], o);
        assert_eq!(named(&out, "counts").bits, want);
    }
}

#[test]
fn serial_phases_see_their_counter() {
    let mut r = Random(11);
    let k = kernel("prefix_serial_cpu", &[]);
    let x = BufferData { dtype: I32, bits: (0..256).map(|_| r.next() % 100).collect() };
    let mut want: Vec<i64> = x.bits.iter().map(|b| *b as i64).collect();
    for stride in [1, 3, 5] {
        let before = want.clone();
        for i in 0..256 {
            if i % 64 >= stride {
                want[i] += before[i - stride];
            }
        }
    }
    let out = outputs(&k, &[("x", &x)], &[], &[("t", 256)], runs()[0]);
    let got: Vec<i64> = named(&out, "x").bits.iter().map(|b| *b as i64).collect();
    assert_eq!(got, want);
}
