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
