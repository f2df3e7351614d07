//! Dawn reads every shader: it alone checks that barriers stand in uniform control flow.

use super::browser;
use mlxc::code::{Legalised, modules};
use mlxc::pipeline::{Level, Options, compile};
use mlxc::source::Build;
use mlxc_codegen::gpu_profiles::{self, ShaderLanguage};
use mlxc_codegen::legalise::{GpuLegal, legalise_gpu};
use mlxc_codegen::wgsl::Header;
use mlxc_ir::graph::{Module, Role, Weight};
use mlxc_ir::kernel::{Access, parse};
use mlxc_tests::{every, random};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Modules by text, each with the name of the first place it was seen.
#[derive(Default)]
struct Modules {
    by_text: BTreeMap<String, String>,
}

impl Modules {
    fn add(&mut self, source: &str, legal: &[GpuLegal]) {
        for m in modules(legal, ShaderLanguage::Wgsl, Header::Browser) {
            // Types that WGSL has in naga only, or that the emulated GPU lacks.
            let lacking = ["enable f16;", "i64", "u64"].iter().any(|w| m.text.contains(w));
            if !lacking {
                self.by_text.entry(m.text).or_insert_with(|| format!("{source}/{}", m.entry));
            }
        }
    }

    /// The kernels of a module for browsers; false if it has a dtype that they lack.
    fn compile(&mut self, source: &str, module: &Module, level: Level) -> bool {
        let mut options = Options::for_target("web").unwrap_or_else(|e| panic!("{e}"));
        options.level = level;
        let compiled = match compile(module, &options) {
            Ok(compiled) => compiled,
            Err(e) if e.0.iter().all(|d| d.id == 545) => return false,
            Err(e) => panic!("{source}: {e}"),
        };
        let Legalised::Gpu(legal) = &compiled.legal else { panic!("kernels of a GPU") };
        self.add(source, legal);
        true
    }
}

fn random_module(seed: u64) -> Module {
    let f = random::function(seed, 24);
    let weights = f.params.iter().filter(|p| matches!(p.role, Role::Weight(_)));
    let weights = weights.map(|p| Weight { name: p.name.clone(), ty: p.ty.clone() }).collect();
    Module { weights, functions: vec![f], ..Module::default() }
}

/// The modules of the snapshots for `webgpu`, which are the same in every dialect; a comment begins each.
fn goldens(root: &Path, out: &mut Modules) -> usize {
    let before = out.by_text.len();
    for folder in ["codegen/tests/snapshots", "tests/tests/snapshots"] {
        for file in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix("_webgpu.snap") else { continue };
            let text = std::fs::read_to_string(file.path()).unwrap();
            let (_, modules) = text.split_once("\n---\n").unwrap();
            for part in format!("\n{modules}").split("\n// ").skip(1) {
                assert_eq!(part.matches("@compute").count(), 1, "{name}: {part}");
                out.by_text.entry(format!("// {part}\n")).or_insert_with(|| format!("the golden {name}"));
            }
        }
    }
    out.by_text.len() - before
}

#[test]
fn dawn_accepts_every_shader() {
    let mut all = Modules::default();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let of_goldens = goldens(root, &mut all);
    assert!(of_goldens >= 20, "{of_goldens} modules of goldens");
    let mut files: Vec<_> = std::fs::read_dir(root.join("ir/tests/kernels")).unwrap().flatten().collect();
    files.sort_by_key(|f| f.path());
    for file in files {
        let path = file.path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for kernel in parse(&std::fs::read_to_string(&path).unwrap(), &name).unwrap_or_else(|d| panic!("{d}")) {
            let read_only: Vec<bool> = kernel.buffers.iter().map(|b| b.access == Access::Read).collect();
            for profile in ["webgpu", "vulkan"] {
                // Kernels for CPUs that no GPU has the types or vectors for are refused.
                if let Ok(legal) = legalise_gpu(&kernel, &gpu_profiles::by_name(profile).unwrap(), &read_only) {
                    all.add(&format!("{name} for {profile}"), &[legal]);
                }
            }
        }
    }
    let of_files = all.by_text.len() - of_goldens;
    assert!(of_files >= 8, "{of_files} modules of kernel files");
    let mut graphs = vec![("every".to_string(), every::module())];
    graphs.extend((0..24).map(|seed| (format!("random {seed}"), random_module(seed))));
    let fixtures = root.join("tests/fixtures");
    let models =
        ["kjv-llama-4bit", "kjv-llama-8bit", "families/bert", "families/gemma3", "families/mixtral", "families/qwen3"];
    let models = models.map(|name| (name, None)).into_iter().chain([("kjv-llama", None), ("kjv-llama", Some(8))]);
    graphs.extend(models.map(|(name, kv_bits)| {
        let mut build = Build::new(fixtures.join(name));
        build.kv_bits = kv_bits;
        (name.to_string(), build.trace().unwrap_or_else(|e| panic!("{e}")))
    }));
    let levels = [Level::Strict, Level::Exact].into_iter().cycle();
    let compiled = graphs.iter().zip(levels).filter(|((name, m), level)| all.compile(name, m, *level)).count();
    assert!(compiled >= 16, "{compiled} of {} graphs", graphs.len());
    let modules: Vec<_> = all.by_text.iter().map(|(text, name)| json!({"name": name, "text": text})).collect();
    println!(
        "{} modules: {of_goldens} of goldens, {of_files} of kernel files, others of {compiled} graphs",
        modules.len()
    );
    browser::run("shaders", &json!({"modules": modules}), BTreeMap::new(), Duration::from_secs(120));
}
