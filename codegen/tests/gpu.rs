//! GPU kernels made legal for every GPU profile: the legal kernel means the same in the interpreter, and naga accepts
//! its WGSL.

#![allow(clippy::unwrap_used)]

mod run;

use mlxc_codegen::gpu_profiles;
use mlxc_codegen::legalise::{GPU_PASSES, GpuLegal, legalise_gpu};
use mlxc_codegen::wgsl::{self, Header};
use mlxc_ir::DType::{self, *};
use mlxc_ir::kernel::{self, ArgKind, BufferData, Kernel, Options, Order, Scalar};
use mlxc_ir::profile::TargetProfile;
use run::{Random, elements, kernel};

/// A kernel file of the `ir` crate at smaller sizes.
fn file(name: &str, replace: &[(&str, &str)]) -> Kernel {
    let path = format!("{}/../ir/tests/kernels/{name}.kir", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name}: no {from}");
        text = text.replace(from, to);
    }
    kernel(&text)
}

fn random_data(kernel: &Kernel, sizes: &[u64], seed: u64) -> Vec<BufferData> {
    let mut random = Random::new(seed);
    (0..kernel.buffers.len())
        .map(|b| {
            let (n, d) = (elements(kernel, b, sizes), run::dtype(kernel, b));
            match d {
                d if d.is_float() => BufferData::of(d, (0..n).map(|_| f64::from(random.unit()))),
                d => BufferData { dtype: d, bits: (0..n).map(|_| random.bits() >> (64 - d.bytes() * 8)).collect() },
            }
        })
        .collect()
}

fn scalars<'k>(kernel: &'k Kernel, values: &[u64]) -> Vec<(&'k str, Scalar)> {
    let symbols = kernel.symbols.iter().map(|s| (kernel.var_name(s.var), false));
    let args = kernel.args.iter().map(|a| (&*a.name, matches!(a.kind, ArgKind::Scalar(d) if d.is_float())));
    let all = symbols.chain(args).zip(values);
    all.map(|((name, float), v)| (name, if float { Scalar::Float(*v as f64) } else { Scalar::Int(*v as i64) }))
        .collect()
}

fn interpreted(kernel: &Kernel, data: &[BufferData], values: &[u64], options: Options) -> Vec<BufferData> {
    let mut data = data.to_vec();
    kernel::run(kernel, &mut data, &scalars(kernel, values), &options)
        .unwrap_or_else(|d| panic!("{d}\n{}", kernel::print(kernel)));
    data
}

/// The largest error of a result relative to the largest value of its buffer.
fn close(what: &str, got: &[BufferData], want: &[BufferData], tolerance: f64) {
    for (b, (got, want)) in got.iter().zip(want).enumerate() {
        let top = want.values().iter().filter(|v| v.is_finite()).fold(1e-30, |m: f64, v| m.max(v.abs()));
        let half = match want.dtype {
            BF16 => 0.01,
            F16 => 0.002,
            _ => 0.0,
        };
        let slack = if tolerance == 0.0 { 0.0 } else { (tolerance + half) * top };
        for (i, (g, w)) in got.values().into_iter().zip(want.values()).enumerate() {
            let same = g == w || g.is_nan() && w.is_nan();
            assert!(same || (g - w).abs() <= slack, "{what}: buffer {b}, element {i} is {g}, not {w}");
        }
    }
}

fn legal(kernel: &Kernel, profile: &TargetProfile) -> GpuLegal {
    legalise_gpu(kernel, profile, &[])
        .unwrap_or_else(|d| panic!("{}: {}\n{}", profile.name, d[0], kernel::print(kernel)))
}

/// Validates the WGSL of a legal kernel; `MLXC_WGSL` names a folder to look at it in.
fn valid(legal: &GpuLegal, profile: &TargetProfile) {
    for header in [Header::Naga, Header::Browser] {
        for module in wgsl::write(legal, header) {
            if let Some(folder) = std::env::var_os("MLXC_WGSL") {
                let name = format!("{}-{}-{header:?}.wgsl", module.entry, profile.name);
                std::fs::write(std::path::Path::new(&folder).join(name), &module.text).unwrap();
            }
            if header == Header::Naga {
                wgsl::validate(&module.text, profile).unwrap_or_else(|d| panic!("{d}\n{}", module.text));
                assert_eq!(wgsl::spirv(&module.text).unwrap()[0], 0x0723_0203);
            }
        }
    }
}

fn wgsl_profiles() -> Vec<TargetProfile> {
    ["webgpu", "vulkan"].map(|n| gpu_profiles::by_name(n).unwrap()).into()
}

/// Legal kernels run as the abstract one, for every profile that has what it needs; WGSL is valid.
fn means_the_same(kernel: &Kernel, profiles: &[TargetProfile], data: &[BufferData], values: &[u64], tolerance: f64) {
    let want = interpreted(kernel, data, values, Options::default());
    for profile in profiles {
        let legal = legal(kernel, profile);
        let widths: &[u32] = if profile.name == "vulkan" { &[4, 8, 32, 64] } else { &[32] };
        for (seed, width) in widths.iter().enumerate() {
            let order = if seed == 0 { Order::Descending } else { Order::Shuffled };
            let options = Options { seed: seed as u64, order, subgroup_width: *width, ..Options::default() };
            let got = interpreted(legal.kernel(), data, values, options);
            close(&format!("{} on {} at {width}", kernel.name, profile.name), &got, &want, tolerance);
        }
        if gpu_profiles::language(profile) == gpu_profiles::ShaderLanguage::Wgsl {
            valid(&legal, profile);
        }
    }
}

const QMV: &[(&str, &str)] = &[
    ("grid(b: 256)", "grid(b: 2)"),
    ("u32[2048, 256]", "u32[16, 256]"),
    ("bf16[2048, 32]", "bf16[16, 32]"),
    ("y: bf16[2048]", "y: bf16[16]"),
];

/// The kernel files, at sizes that the interpreter runs in moments.
fn files() -> Vec<(Kernel, Vec<Vec<u64>>)> {
    let norm = &[("2048", "256"), ("1024", "128"), ("256>", "32>"), ("group 256", "group 32")];
    vec![
        (file("silu_scale_gpu", &[]), vec![vec![3, 1], vec![2, 37], vec![1, 300]]),
        (file("add_rms_norm_gpu", norm), vec![vec![1], vec![3]]),
        (file("decode_attention_gpu", &[]), vec![vec![0], vec![70]]),
        (file("histogram_gpu", &[]), vec![vec![1], vec![1100]]),
        (file("qmv4_gpu", QMV), vec![vec![]]),
        (file("rope_cache", &[("4096", "64"), ("4095", "63")]), vec![vec![1, 0], vec![5, 7]]),
        (file("gate_up_silu_regs", &[("2048", "64"), ("8192", "64"), ("nb: 256", "nb: 2")]), vec![vec![1], vec![33]]),
    ]
}

#[test]
fn kernel_files_mean_the_same() {
    for (kernel, sizes) in files() {
        for (seed, values) in sizes.iter().enumerate() {
            let data = random_data(&kernel, values, seed as u64);
            means_the_same(&kernel, &gpu_profiles::all(), &data, values, 2e-5);
        }
    }
}

#[test]
fn every_pass_keeps_the_meaning() {
    for (kernel, sizes) in files() {
        let values = sizes.last().unwrap();
        let data = random_data(&kernel, values, 5);
        let want = interpreted(&kernel, &data, values, Options::default());
        for profile in ["webgpu", "vulkan", "apple7"].map(|n| gpu_profiles::by_name(n).unwrap()) {
            let mut now = kernel.clone();
            for (pass, run) in GPU_PASSES {
                run(&mut now, &profile).unwrap();
                let got = interpreted(&now, &data, values, Options::default());
                close(&format!("{} after {pass} for {}", kernel.name, profile.name), &got, &want, 2e-5);
            }
        }
    }
}

/// An elementwise kernel of one statement over `n` elements, `lanes` at a time where they are there.
fn elementwise(types: &[(&str, DType)], to: DType, expression: &str) -> Kernel {
    let buffers: String = types.iter().map(|(name, d)| format!("  buf {name}: {d}[N] read\n")).collect();
    kernel(&format!(
        "kernel elementwise {{
  sym N in 1..=4096
{buffers}  buf out: {to}[N] write
  phase main grid(g: ceildiv(N, 16)) group 16 {{
    let i = g*16 + lane
    if i < N {{ out[i] = {expression} }}
  }}
}}"
    ))
}

#[test]
fn casts_between_all_types() {
    let interesting =
        [0.0, -0.0, 0.5, -1.5, 1e-6, 6e-8, 3e-5, 127.5, -129.0, 255.0, 300.7, 65504.0, 65520.0, 1e10, -1e10, 3e38];
    let profiles = wgsl_profiles();
    let types = [U8, I8, U16, I16, U32, I32, F16, BF16, F32];
    for from in types {
        for to in types {
            let cast = if from == to { "x[i]".into() } else { format!("{to}(x[i])") };
            let kernel = elementwise(&[("x", from)], to, &cast);
            let mut random = Random::new(3);
            let mut data: Vec<u64> = BufferData::of(from, interesting).bits;
            data.extend((0..200).map(|_| random.bits() >> (64 - from.bytes() * 8)));
            if from.is_float() {
                data.extend(BufferData::of(from, [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]).bits);
            }
            let n = data.len();
            let data = vec![BufferData { dtype: from, bits: data }, BufferData::zeros(to, n)];
            means_the_same(&kernel, &profiles, &data, &[n as u64], 0.0);
        }
    }
}

/// The profiles on which a kernel with tiles runs.
fn apple() -> Vec<TargetProfile> {
    ["apple7", "apple10"].map(|n| gpu_profiles::by_name(n).unwrap()).into()
}

#[test]
fn tiles_stay_on_metal_and_are_refused_elsewhere() {
    let small = &[("2048", "64"), ("8192", "64"), ("nb: 256", "nb: 2")];
    let tiles = file("gate_up_silu_tiles", small);
    let data = random_data(&tiles, &[33], 1);
    means_the_same(&tiles, &apple(), &data, &[33], 2e-5);
    for profile in wgsl_profiles() {
        let refused = legalise_gpu(&tiles, &profile, &[]).unwrap_err();
        assert!(refused.iter().all(|d| d.id == 545), "{}", refused[0]);
    }
    let attention = file("prefill_attention", &[("4096", "64"), ("4095", "63")]);
    let data = random_data(&attention, &[9, 5], 2);
    means_the_same(&attention, &apple(), &data, &[9, 5], 2e-4);
}

#[test]
fn reductions_over_every_run_of_lanes() {
    for (dtype, lanes, run, op) in [
        (F32, 64, 1, "add"),
        (F32, 64, 2, "max"),
        (F32, 64, 4, "add"),
        (F32, 64, 16, "min"),
        (F32, 64, 32, "add"),
        (F32, 128, 64, "add"),
        (F32, 128, 128, "max"),
        (U32, 256, 256, "xor"),
        (I32, 32, 8, "and"),
        (I32, 16, 16, "or"),
        (U8, 64, 64, "add"),
        (I8, 64, 16, "min"),
        (BF16, 64, 64, "max"),
        (U32, 96, 32, "add"),
        (F32, 2, 2, "add"),
    ] {
        let kernel = kernel(&format!(
            "kernel reduce {{
  sym N in 1..=4
  buf x: {dtype}[N, {lanes}] read
  buf y: {dtype}[N, {lanes}] write
  phase main grid(n: N) group {lanes} {{
    y[n, lane] = lanes.{op}<{run}>(x[n, lane])
  }}
}}"
        ));
        let data = random_data(&kernel, &[3], run);
        means_the_same(&kernel, &gpu_profiles::all(), &data, &[3], if dtype.is_float() { 1e-5 } else { 0.0 });
    }
}

#[test]
fn vectors_predicates_and_values_of_lane_0() {
    let kernel = kernel(
        "kernel together {
  buf x: f32[4, 64, 4] read
  buf y: f32[4, 64, 4] write
  buf z: u32[4, 64] write
  phase main grid(g: 4) group 64 {
    let v = lanes.add<64>(x[g, lane, 0 +: 4])
    let zeroth = group.bcast(extract(x[g, lane, 0 +: 4], 1))
    let some = lanes.or<16>(extract(x[g, lane, 0 +: 4], 2) > 0.9)
    if zeroth > 0.0 { barrier }
    y[g, lane, 0 +: 4] = v + zeroth
    z[g, lane] = u32(some)
  }
}",
    );
    let data = random_data(&kernel, &[], 4);
    means_the_same(&kernel, &gpu_profiles::all(), &data, &[], 1e-5);
}

#[test]
fn grids_that_do_not_fit_are_lines() {
    let kernel = kernel(
        "kernel line {
  sym A in 1..=100000
  sym B in 1..=7
  buf y: u32[A, B, 2, 3, 4] write
  phase long grid(a: A, b: B) group 4 {
    for i in 0..2 { for j in 0..3 { y[a, b, i, j, lane] = u32(a*1000 + b*100 + i*10 + j) } }
  }
}",
    );
    let axes = super_kernel("grid(a: 3, b: B, c: 2, d: 3) group 4 { y[a, b, c, d, lane] = u32(a + b + c + d) }");
    for profile in wgsl_profiles() {
        for kernel in [&kernel, &axes] {
            let made = legal(kernel, &profile);
            assert!(made.phases()[0].linear);
            valid(&made, &profile);
        }
        let direct = legal(&elementwise(&[("x", F32)], F32, "x[i]"), &profile);
        assert!(!direct.phases()[0].linear);
    }
}

fn super_kernel(phase: &str) -> Kernel {
    kernel(&format!("kernel axes {{\n  sym B in 1..=7\n  buf y: u32[3, B, 2, 3, 4] write\n  phase main {phase}\n}}"))
}

#[test]
fn what_a_target_lacks_is_refused_by_id() {
    let by = |kernel: &Kernel, profile: &str| {
        let refused = legalise_gpu(kernel, &gpu_profiles::by_name(profile).unwrap(), &[]);
        refused.map(|_| ()).map_err(|d| d[0].id)
    };
    let double = elementwise(&[("x", F64)], F64, "x[i] + 1.0");
    for profile in gpu_profiles::NAMES {
        assert_eq!(by(&double, profile), Err(545), "{profile}");
    }
    let long = elementwise(&[("x", I64)], I64, "x[i] / 3");
    assert_eq!(by(&long, "webgpu"), Err(545));
    assert_eq!(by(&long, "vulkan"), Ok(()));
    assert_eq!(by(&long, "apple7"), Ok(()));
    let phase =
        |text: &str| kernel(&format!("kernel refused {{\n  buf y: f32[64] update\n  phase main grid(g: 1) {text}\n}}"));
    let sub = phase("group 64 subgroup any { let s = sg.add(1.0); if lane == 0 { y[0] = s } }");
    assert_eq!(by(&sub, "webgpu"), Err(545));
    assert_eq!(by(&sub, "vulkan"), Ok(()));
    assert_eq!(by(&phase("group 512 { if lane == 0 { y[0] = 1.0 } }"), "webgpu"), Err(542));
    let memory = "group 64 { group t: f32[5000]; t[lane] = 1.0; barrier; if lane == 0 { y[0] = t[0] } }";
    assert_eq!(by(&phase(memory), "webgpu"), Err(540));
    assert_eq!(by(&phase(memory), "vulkan"), Ok(()));
    assert_eq!(by(&phase("group 1 { y[0 +: 8] = splat<8>(1.0) }"), "vulkan"), Err(545));
    let many: String = (0..11).map(|b| format!("  buf b{b}: f32[4] read\n")).collect();
    let many =
        kernel(&format!("kernel many {{\n{many}  buf y: f32[4] write\n  phase p grid(g: 4) {{ y[g] = b0[g] }}\n}}"));
    assert_eq!(by(&many, "webgpu"), Err(541));
    assert_eq!(
        legalise_gpu(&many, &mlxc_codegen::profiles::by_name("x86-64-v3").unwrap(), &[]).unwrap_err()[0].id,
        544
    );
}

#[test]
fn odd_rows_of_narrow_types_are_stored_by_atomics() {
    for (dtype, t) in [(BF16, 7), (F16, 5), (U8, 13), (I8, 3), (I16, 9)] {
        let kernel = kernel(&format!(
            "kernel rows {{
  sym S in 1..=64
  sym T in 1..=64
  buf x: {dtype}[S, T] update
  buf y: {dtype}[S, T] write
  phase main grid(s: S) group 8 {{
    group g: {dtype}[8]
    for c in lane..T step 8 {{
      let v = x[s, c]
      g[lane] = v
      x[s, c] = v
      y[s, c] = g[lane]
    }}
  }}
  phase tail grid(s: S) group 1 {{
    let n = T % 4
    let c = T/4*4
    x[s, c +: 4 first n] = x[s, c +: 4 first n else vec(x[s, 0], x[s, 0], x[s, 0], x[s, 0])]
  }}
}}"
        ));
        let data = random_data(&kernel, &[3, t], 8);
        means_the_same(&kernel, &gpu_profiles::all(), &data, &[3, t], 0.0);
        let made = legal(&kernel, &gpu_profiles::by_name("webgpu").unwrap());
        assert!(made.phases()[0].storage.iter().all(|s| s.words && s.atomic && s.unit == 1));
    }
}

#[test]
fn serial_steps_pass_their_counter() {
    let kernel = kernel(
        "kernel steps {
  sym N in 1..=64
  buf y: u32[N] update
  serial k in 0..3 {
    phase add grid(n: N) group 1 { y[n] = y[n] + u32(k) }
  }
}",
    );
    let data = random_data(&kernel, &[9], 8);
    means_the_same(&kernel, &gpu_profiles::all(), &data, &[9], 0.0);
    let made = legal(&kernel, &gpu_profiles::by_name("webgpu").unwrap());
    assert_eq!(made.phases()[0].counters.len(), 1);
}

#[test]
fn subgroups_of_any_width_run_their_own_operations() {
    let kernel = kernel(
        "kernel together {
  buf x: f32[2, 64] read
  buf y: f32[2, 64] write
  phase main grid(g: 2) group 64 subgroup any {
    group t: f32[64]
    t[lane] = x[g, lane]
    barrier sg
    let most = sg.max(t[lane])
    let other = sg.xor(x[g, lane], 1)
    y[g, lane] = select(sg.any(x[g, lane] > 2.0), 0.0, most - other)
  }
}",
    );
    let data = random_data(&kernel, &[], 4);
    for profile in ["vulkan", "apple8"].map(|n| gpu_profiles::by_name(n).unwrap()) {
        let made = legal(&kernel, &profile);
        for width in [4, 8, 32] {
            let options = Options { subgroup_width: width, ..Options::default() };
            let [got, want] = [made.kernel(), &kernel].map(|k| interpreted(k, &data, &[], options));
            close(&profile.name, &got, &want, 0.0);
        }
        if profile.name == "vulkan" {
            valid(&made, &profile);
        }
    }
}

#[test]
fn elementary_functions_of_every_width() {
    let all = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan"];
    let all = all.into_iter().chain(["sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfinv", "rsqrt"]);
    let two = ["pow(abs(v) + 0.1, v)", "atan2(v, v + 0.3)"].map(str::to_string);
    for expression in all.map(|f| format!("{f}(abs(v)*0.9 + 0.05)")).chain(two) {
        for lanes in [1, 2, 4] {
            let at = if lanes == 1 { "lane".into() } else { format!("lane*{lanes} +: {lanes}") };
            let kernel = kernel(&format!(
                "kernel f {{
  buf x: f32[2, 32] read
  buf y: f32[2, 32] write
  phase main grid(g: 2) group {} {{ let v = x[g, {at}]; y[g, {at}] = {expression} }}
}}",
                32 / lanes
            ));
            let data = random_data(&kernel, &[], 4);
            means_the_same(&kernel, &gpu_profiles::all(), &data, &[], 2e-6);
        }
    }
}

#[test]
fn constants_that_no_compiler_accepts() {
    let of = |to: DType, e: &str| (to, e.to_string());
    for (to, e) in [
        of(F32, "select(x[i] > 0.0, f32(inf), -f32(inf))"),
        of(F32, "select(x[i] > 0.0, f32(nan), 1e-45)"),
        of(F32, "0x1p127 * 2.0 + x[i]"),
        of(F16, "f16(f32(inf) + x[i])"),
        of(I32, "(i32(2147483647) + 1) / select(x[i] > 0.0, i32(-1), 2)"),
        of(I32, "i32(-2147483648) - 1"),
        of(U32, "u32(3) - 4 + u32(1.0 / 0.0)"),
        of(F32, "as<f32>(u32(0x7fc00000))"),
        of(BF16, "bf16(i) / 3.0"),
        of(F16, "f16(i) * 0.5"),
        of(U8, "u8(i)"),
    ] {
        let kernel = elementwise(&[("x", F32)], to, &e);
        let data = random_data(&kernel, &[50], 3);
        means_the_same(&kernel, &gpu_profiles::all(), &data, &[50], 0.0);
    }
}

#[test]
fn wide_integers_and_native_f16_on_vulkan() {
    let profiles = ["vulkan", "apple9"].map(|n| gpu_profiles::by_name(n).unwrap());
    for (from, to, e) in [
        (I64, I64, "x[i] / (x[i] | 1) + (x[i] >> 7) * -9223372036854775808"),
        (U64, U64, "(x[i] % 1000) << 5"),
        (I64, F32, "f32(x[i])"),
        (F32, I64, "i64(x[i] * 1e19)"),
        (F32, U64, "u64(x[i] * 1e20)"),
        (I64, I8, "i8(x[i])"),
        (I64, BF16, "bf16(x[i])"),
        (U64, F16, "f16(x[i] % 70000)"),
        (F16, F16, "-x[i] * 3.0 + abs(x[i])"),
        (F16, U16, "as<u16>(x[i]) ^ 1"),
        (U16, F16, "as<f16>(x[i] & 0x7bff)"),
    ] {
        let kernel = elementwise(&[("x", from)], to, e);
        let data = random_data(&kernel, &[70], 3);
        means_the_same(&kernel, &profiles, &data, &[70], 0.0);
    }
}

#[test]
fn bits_between_vectors_of_narrow_types() {
    for (from, lanes, to, others) in [
        (U32, 1, BF16, 2),
        (BF16, 4, U32, 2),
        (U8, 4, U32, 1),
        (U32, 1, I8, 4),
        (I8, 2, I16, 1),
        (F32, 2, F16, 4),
        (F16, 2, F32, 1),
        (I16, 4, U16, 4),
        (U8, 4, F16, 2),
    ] {
        let at = |n: i32| if n == 1 { "lane".to_string() } else { format!("lane*{n} +: {n}") };
        let ty = if others == 1 { to.to_string() } else { format!("{to}x{others}") };
        let kernel = kernel(&format!(
            "kernel bits {{
  buf x: {from}[{}] read
  buf y: {to}[{}] write
  phase main grid(g: 1) group 16 {{ y[{}] = as<{ty}>(x[{}]) }}
}}",
            16 * lanes,
            16 * others,
            at(others),
            at(lanes)
        ));
        let data = random_data(&kernel, &[], 3);
        means_the_same(&kernel, &gpu_profiles::all(), &data, &[], 0.0);
    }
}

#[test]
fn registers_are_variables_after_unrolling() {
    for profile in wgsl_profiles() {
        for (kernel, _) in files() {
            let made = legal(&kernel, &profile);
            let text: String = wgsl::write(&made, Header::Naga).into_iter().map(|m| m.text).collect();
            assert!(!text.contains("var acc: array") && !text.contains("var v: array"), "{text}");
        }
    }
}

/// Sweeps of the functions that have a form of their own without f64, against f64, in units in the last place.
#[test]
fn functions_without_f64_are_accurate() {
    let profile = gpu_profiles::by_name("webgpu").unwrap();
    let mut random = Random::new(12);
    let mut spread = |lo: f64, hi: f64| (lo + (hi - lo) * (f64::from(random.unit()) * 0.5 + 0.5)) as f32;
    let angles: Vec<f32> = (0..2000)
        .map(|i| match i % 4 {
            0 => spread(-10.0, 10.0),
            1 => spread(-30_000.0, 30_000.0),
            2 => (i as f32) * std::f32::consts::FRAC_PI_2,
            _ => spread(-60.0, 60.0).exp2() * 1e12,
        })
        .collect();
    let check = |e: &str, x: &[f32], y: &[f32], want: &dyn Fn(f64, f64) -> f64, ulp: f64| {
        let kernel = elementwise(&[("x", F32), ("y", F32)], F32, e);
        let made = legal(&kernel, &profile);
        let data = [x, y].map(|v| BufferData::of(F32, v.iter().map(|v| f64::from(*v))));
        let n = x.len();
        let data = [data[0].clone(), data[1].clone(), BufferData::zeros(F32, n)];
        let got = interpreted(made.kernel(), &data, &[n as u64], Options::default()).pop().unwrap().values();
        for ((g, x), y) in got.iter().zip(x).zip(y) {
            let w = want(f64::from(*x), f64::from(*y));
            let rounded = w as f32;
            if rounded.is_nan() || rounded.is_infinite() || rounded == 0.0 {
                assert!(*g as f32 == rounded || g.is_nan() && rounded.is_nan(), "{e} of {x}, {y}: {g}, not {w}");
                continue;
            }
            if rounded.abs() < f32::MIN_POSITIVE * 2.0 {
                continue;
            }
            let unit = f64::from(f32::from_bits(rounded.abs().to_bits() + 1) - rounded.abs());
            assert!((g - w).abs() <= ulp * unit, "{e} of {x}, {y}: {g}, not {w}: {} ulp", (g - w).abs() / unit);
        }
    };
    let none = vec![0.0; angles.len()];
    check("sin(x[i])", &angles, &none, &|x, _| x.sin(), 4.0);
    check("cos(x[i])", &angles, &none, &|x, _| x.cos(), 4.0);
    check("tan(x[i])", &angles, &none, &|x, _| x.tan(), 6.0);
    let bases: Vec<f32> =
        (0..2000).map(|i| if i % 2 == 0 { spread(0.5, 2.0) } else { spread(-40.0, 40.0).exp2() }).collect();
    let powers: Vec<f32> =
        (0..2000).map(|i| if i % 3 == 0 { spread(-90.0, 90.0) } else { spread(-3.0, 3.0) }).collect();
    check("pow(x[i], y[i])", &bases, &powers, &f64::powf, 8.0);
    let (zero, infinity) = (0.0f32, f32::INFINITY);
    let special = [
        (zero, 2.0),
        (zero, -1.0),
        (infinity, 0.5),
        (infinity, -2.0),
        (1.0, infinity),
        (2.0, infinity),
        (0.5, infinity),
        (-2.0, 3.0),
        (-2.0, 2.0),
        (-2.0, 0.5),
        (-8.0, -3.0),
        (3.0, 0.0),
        (2.0, -infinity),
        (-1.0, 5.0),
    ];
    let (x, y): (Vec<f32>, Vec<f32>) = special.into_iter().unzip();
    check("pow(x[i], y[i])", &x, &y, &f64::powf, 4.0);
    let far = [infinity, f32::NAN, f32::MAX, 1e30, -1e30, 1e-30];
    check("sin(x[i])", &far, &[0.0; 6], &|x, _| x.sin(), 4.0);
}

#[test]
fn dots_tables_and_folds() {
    let kernel = kernel(
        "kernel dots {
  buf x: bf16[16, 4] read
  buf a: u8[16, 4] read
  buf b: i8[16, 4] read
  buf y: f32[16, 2] write
  buf z: i32[16] write
  buf w: u32[16] write
  phase main grid(g: 1) group 16 {
    let v = x[lane, 0 +: 4]
    y[lane, 0 +: 2] = dot2(splat<2>(f32(1.0)), v, v)
    z[lane] = dot4(i32(5), a[lane, 0 +: 4], b[lane, 0 +: 4]) + hmax(i32(b[lane, 0 +: 4]))
    w[lane] = lut(vec<u32x4>(l: 3*l + 1), u32(lane)) + u32(hmin(a[lane, 0 +: 4]))
  }
}",
    );
    let data = random_data(&kernel, &[], 4);
    means_the_same(&kernel, &gpu_profiles::all(), &data, &[], 1e-5);
}
