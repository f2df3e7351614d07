//! Broken variants of the kernel files: each must be refused, with the right diagnostic.

#![allow(clippy::unwrap_used)]

use mlxc_ir::kernel::{Access, BufferData, Kernel, Options, Scalar, parse, run, verify};

fn text(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Changes what must occur once or more: only the first occurrence.
fn change(name: &str, from: &str, to: &str) -> String {
    let text = text(name);
    assert!(text.contains(from), "{name}: no {from}");
    text.replacen(from, to, 1)
}

fn refused(text: &str) -> Vec<u16> {
    match parse(text, "broken") {
        Err(e) => {
            assert!(e.at.is_some(), "{e}");
            vec![e.id]
        }
        Ok(kernels) => kernels.iter().filter_map(|k| verify(k).err()).flatten().map(|e| e.id).collect(),
    }
}

#[test]
fn the_verifier_refuses() {
    let cases: &[(&str, &str, &str, u16)] = &[
        // Ranges.
        ("prefill_attention", "if b*32 + i < S { v = f32(q", "if b*32 + i < 4096 { v = f32(q", 523),
        ("prefill_attention", "require pos + S <= 4096", "", 523),
        ("decode_attention_gpu", "po: f32[32, 16, 64]", "po: f32[32, 15, 64]", 523),
        ("decode_attention_cpu", "first min(16, n - j) else -0x1p127]) }", "first n else -0x1p127]) }", 524),
        ("silu_scale_cpu", "0..T/16*16 step", "0..T step", 523),
        ("silu_scale_gpu", "if c < T {", "if c <= T {", 523),
        ("gate_up_silu_regs", "if m < M {", "if m < M + 1 {", 523),
        ("gate_up_silu_cpu", "ap: u32[ceildiv(M, 14)", "ap: u32[M/14", 523),
        ("rope_cache", "kc[h - 32, at, d +: 2]", "kc[h - 33, at, d +: 2]", 522),
        ("rope_cache", "let h = b*4 + lane/16", "let h = b*4 + (lane - 5)/16", 522),
        ("gather_rows_cpu", "idx(ids[n], 0..V)", "idx(ids[n], 0..V + 1)", 523),
        ("qmv4_cpu", "l: 2*b + l/8", "l: 2*b + l/7", 523),
        ("add_rms_norm_cpu", "a[j] = fma", "a[j + 1] = fma", 523),
        ("softmax_cpu", "T/16*16", "T/0*16", 521),
        ("softmax_cpu", "T/16*16", "T*T", 520),
        ("gather_rows_cpu", "grid(n: N)", "grid(n: idx(ids[0], 0..N))", 520),
        // Registers and unrolling.
        ("qmv4_cpu", "for s in 0..4 unroll { a", "for s in 0..4 { a", 513),
        ("qmv4_gpu", "extract(q, j/2)", "extract(q, l/8)", 513),
        ("silu_scale_cpu", "step 16 {", "step 16 unroll {", 526),
        ("gate_up_silu_cpu", "for k in 0..1024 { let b0", "for k in 0..1024 unroll { let b0", 526),
        // Uniform control flow.
        ("prefill_attention", "pos + min(b*32 + 32, S)", "pos + min(b*32 + row, S)", 530),
        (
            "add_rms_norm_gpu",
            "let sum = lanes.add<256>(ss)",
            "var sum: f32 = 0.0; if lane < 9 { sum = lanes.add<256>(ss) }",
            531,
        ),
        ("add_rms_norm_gpu", "lanes.add<256>", "lanes.add<96>", 532),
        ("gate_up_silu_tiles", "group 128 subgroup 32", "group 128", 533),
        ("gate_up_silu_tiles", "group 128 subgroup 32", "group 128 subgroup any", 533),
        // Access modes.
        ("silu_scale_cpu", "y: f32[S, T] write", "y: f32[S, T] read", 510),
        ("add_rms_norm_cpu", "r: bf16[S, 2048] update", "r: bf16[S, 2048] write", 510),
        ("histogram_gpu", "counts: atomic u32[256]", "counts: u32[256]", 512),
        ("histogram_gpu", "atomic.add counts[i], local[i]", "counts[i] = local[i]", 512),
        ("histogram_gpu", "atomic u32[256] update", "atomic u64[256] update", 503),
        ("silu_scale_cpu", "w[c +: 16]", "w[s, c +: 16]", 511),
        ("silu_scale_cpu", "w[c +: 16]", "w[c +: 15]", 511),
        // Names, types, literals, syntax.
        ("prefill_attention", "tile_b(vs", "tile_a(vs", 503),
        ("prefill_attention", "= bf16(ks[i, d +: 4] * al[i])", "= ks[i, d +: 4] * al[i]", 503),
        ("softmax_cpu", "let n = T % 16", "let n = T % 16; let n = 3", 502),
        ("softmax_cpu", "hmax(m)", "hmax(q)", 502),
        ("softmax_cpu", "exp(f32", "exq(f32", 505),
        ("softmax_cpu", "sum: f32x16 = 0.0", "sum: f32x16 = 1e99", 504),
        ("histogram_gpu", "local[i] = 0", "local[i] = -1", 504),
        ("softmax_cpu", "grid(s: S)", "grid(s: S))", 501),
        ("softmax_cpu", "grid(s: S)", "grid(s: S ~)", 501),
        ("softmax_cpu", "let k = 1.0", "let k = T +", 501),
        ("gather_rows_cpu", "idx(ids[n], 0..V)", "ids[n]", 503),
        ("softmax_cpu", "sym S in 1..=65536", "sym S in 9..=1", 504),
        ("prefill_attention", "require pos + S <= 4096", "require pos + S <= 0", 527),
    ];
    for (name, from, to, id) in cases {
        let ids = refused(&change(name, from, to));
        assert!(ids.contains(id), "{name}: `{to}` gave {ids:?}, not {id}");
    }
}

/// The id of what stops a kernel when it runs unverified on buffers of the given lengths.
fn interpreted(text: &str, scalars: &[(&str, i64)], size: impl Fn(&str) -> usize) -> Option<u16> {
    let k: Kernel = parse(text, "broken").unwrap_or_else(|e| panic!("{e}")).remove(0);
    let symbols: Vec<(&str, Scalar)> = scalars.iter().map(|(n, v)| (*n, Scalar::Int(*v))).collect();
    let mut data: Vec<BufferData> = k
        .buffers
        .iter()
        .map(|b| {
            let n = size(&b.name);
            let value = if b.access == Access::Read { 0.5 } else { 0.0 };
            BufferData::of(b.dtype, (0..n).map(|_| value))
        })
        .collect();
    run(&k, &mut data, &symbols, &Options::default()).err().map(|e| e.id)
}

#[test]
fn the_interpreter_refuses() {
    let norm = |name: &str| if name == "w" { 2048 } else { 2 * 2048 };
    let s2: &[(&str, i64)] = &[("S", 2)];
    assert_eq!(interpreted(&text("add_rms_norm_gpu"), s2, norm), None);
    let unset = change("add_rms_norm_gpu", "v[j] = f32(h); ss", "ss").replace("hsum(v[j] * v[j])", "1.0");
    assert_eq!(interpreted(&unset, s2, norm), Some(551));

    let silu = |name: &str| if matches!(name, "w" | "b") { 37 } else { 74 };
    let scalars: &[(&str, i64)] = &[("S", 2), ("T", 37)];
    assert_eq!(interpreted(&text("silu_scale_cpu"), scalars, silu), None);
    let tail = change("silu_scale_cpu", "y[s, c +: 16 first n] = ", "let u = ");
    assert_eq!(interpreted(&tail, scalars, silu), Some(550));
    let past = change("silu_scale_gpu", "if c < T {", "if c < T + 1 {");
    assert_eq!(interpreted(&past, scalars, silu), Some(554));
    let twice = change("silu_scale_gpu", "k*256 + lane", "k*256 + lane/2");
    assert_eq!(interpreted(&twice, scalars, silu), Some(552));
    let groups = change("silu_scale_cpu", "grid(s: S)", "grid(s: S, again: 2)");
    assert_eq!(interpreted(&groups, scalars, silu), Some(553));
    assert_eq!(interpreted(&text("silu_scale_cpu"), &[("S", 2)], silu), Some(558));
    assert_eq!(interpreted(&text("silu_scale_cpu"), &[("S", 3), ("T", 37)], silu), Some(558));

    let rope = |name: &str| match name {
        "qkv" => 2 * 48 * 64,
        "cs" => 64 * 64,
        "q" => 2 * 2048,
        _ => 8 * 64 * 64,
    };
    let small = |t: String| t.replace("4096", "64").replace("4095", "63");
    let scalars: &[(&str, i64)] = &[("S", 2), ("pos", 0)];
    assert_eq!(interpreted(&small(text("rope_cache")), scalars, rope), None);
    let overlap = small(change("rope_cache", "let h = b*4 + lane/16", "let h = b*3 + lane/16"));
    assert_eq!(interpreted(&overlap, scalars, rope), Some(553));

    let attention = |name: &str| match name {
        "q" | "y" => 2 * 2048,
        _ => 8 * 64 * 64,
    };
    assert_eq!(interpreted(&small(text("prefill_attention")), scalars, attention), None);
    for barrier in
        ["        sc[r +: 8, 8*j +: 8] = s }\n      barrier sg", "      barrier\n      for j in 0..4 unroll {"]
    {
        let lost = barrier.replace("\n      barrier sg", "").replace("      barrier\n", "");
        let lost = small(change("prefill_attention", barrier, &lost));
        assert_eq!(interpreted(&lost, scalars, attention), Some(552), "{barrier}");
    }
    let divergent = small(change("prefill_attention", "pos + min(b*32 + 32, S)", "pos + min(b*32 + row*32, S)"));
    assert_eq!(interpreted(&divergent, scalars, attention), Some(555));

    let plain = change("histogram_gpu", "    barrier\n    for i in lane..1024", "    for i in lane..1024");
    let sizes = |name: &str| if name == "x" { 2000 } else { 256 };
    assert_eq!(interpreted(&text("histogram_gpu"), &[("N", 2000)], sizes), None);
    assert_eq!(interpreted(&plain, &[("N", 2000)], sizes), Some(552));

    let body = |e: &str| {
        format!("kernel k {{\n buf x: i32[4] read\n buf y: i32[4] write\n phase p grid(i: 4) {{ y[i] = {e} }}\n}}")
    };
    let four = |_: &str| 4;
    assert_eq!(interpreted(&body("7 / (x[i] + 1)"), &[], four), None);
    assert_eq!(interpreted(&body("7 / x[i]"), &[], four), Some(557));
    assert_eq!(interpreted(&body("7 << (x[i] + 32)"), &[], four), Some(557));
}

#[test]
fn hostile_text_is_refused_without_harm() {
    let deep = "(".repeat(100_000);
    let nots = "!".repeat(100_000);
    let blocks = "if true { ".repeat(100_000);
    let sum = format!("1{}", "+1".repeat(100_000));
    let elses = format!("if true {{ }}{}", " else if true { }".repeat(100_000));
    for inner in [
        format!("y[i] = {deep}"),
        format!("let a = {nots}true"),
        blocks,
        format!("let a = {sum}"),
        elses,
        "let a = 99999999999999999999".into(),
        "let a = 0x1p99999999999 + 1.0".into(),
        "reg a: f32[4294967295, 4294967295]".into(),
        "for j in 0..9223372036854775807 step 9223372036854775807 { y[(j*-9223372036854775808 + i)/3] = 0.0 }".into(),
        "let t = splat<tile<f32, 8x0> >(f32(1.0))".into(),
        "let a = nan(0x7f800000)".into(),
    ] {
        let text = format!("kernel k {{\n buf y: f32[4] write\n phase p grid(i: 4) {{ {inner}\n }}\n}}");
        if let Ok(kernels) = parse(&text, "hostile") {
            let _ = verify(&kernels[0]);
        }
    }
    // Every prefix and every one-byte change of a real kernel parses or is refused.
    let text = text("decode_attention_gpu");
    for (cut, c) in text.char_indices().step_by(7) {
        let _ = parse(&text[..cut], "prefix");
        let mut changed = text.clone();
        changed.replace_range(cut..cut + c.len_utf8(), ["]", "9", "{", ".", "x"][cut % 5]);
        if let Ok(kernels) = parse(&changed, "changed") {
            let _ = verify(&kernels[0]);
        }
    }
}
