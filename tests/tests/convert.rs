//! Checkpoints written anew: equal to what MLX's own tool writes, and read back.

use mlxc::convert::{SHARD_BYTES, convert};
use mlxc::source::Build;
use mlxc::{DType, Errors};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(name)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn id<T>(r: Result<T, Errors>) -> u16 {
    r.err().map_or(0, |e| e.0[0].id)
}

/// Every tensor of the trained Llama in 4 and 8 bits, bit for bit.
#[test]
fn quantised_folders_are_those_of_mlx_s_tool() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    for bits in [4, 8] {
        let target = folder.path().join(format!("{bits}"));
        let mut build = Build::new(fixture("kjv-llama"));
        build.quantize = Some(format!("{bits},64").parse().unwrap_or_else(|e| panic!("{e}")));
        let made = convert(&build, &target, SHARD_BYTES, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
        let (mine, theirs) = (
            read(&target.join("model.safetensors")),
            read(&fixture(&format!("kjv-llama-{bits}bit")).join("model.safetensors")),
        );
        let open = |b| SafeTensors::deserialize(b).unwrap_or_else(|e| panic!("{e}"));
        let (mine, theirs) = (open(&mine), open(&theirs));
        assert_eq!((mine.len(), made.tensors, made.quantized_layers), (theirs.len(), theirs.len(), 29));
        for (name, t) in theirs.tensors() {
            let m = mine.tensor(&name).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(m.dtype() == t.dtype() && m.shape() == t.shape() && m.data() == t.data(), "{name}");
        }
        // The new folder is a model of its own, quantised already.
        let mut again = Build::new(&target);
        assert!(again.trace().is_ok());
        again.quantize = build.quantize;
        assert_eq!(id(again.trace()), 942);
    }
}

#[test]
fn casts_and_mixed_layers_read_back() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let target = folder.path().join("mixed");
    let mut build = Build::new(fixture("kjv-llama"));
    build.dtype = Some(DType::F16);
    build.quantize_layers = vec![
        ("*mlp*".into(), "3,32".parse().ok()),
        ("*down_proj".into(), None),
        ("*o_proj".into(), "mxfp8".parse().ok()),
    ];
    convert(&build, &target, SHARD_BYTES, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let weights = |b: &Build| {
        let m = b.trace().unwrap_or_else(|e| panic!("{e}"));
        let w = b.weights(&m).unwrap_or_else(|e| panic!("{e}"));
        let read = |w: &dyn mlxc::weights::Weights, x: &mlxc_ir::graph::Weight| {
            (x.name.to_string(), x.ty.clone(), w.read(&x.name, &x.ty).unwrap_or_else(|e| panic!("{e}")).into_owned())
        };
        let mut all: Vec<_> = m.weights.iter().map(|x| read(&*w, x)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert_eq!(weights(&build), weights(&Build::new(&target)));
}

/// A failure leaves nothing behind.
#[test]
fn failures_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let target = folder.path().join("out");
    let left = || std::fs::read_dir(folder.path()).map(Iterator::count).unwrap_or(0);
    let mut build = Build::new(fixture("kjv-llama-4bit"));
    build.quantize = "8,64".parse().ok();
    assert_eq!((id(convert(&build, &target, SHARD_BYTES, &mut |_, _| {})), left()), (942, 0));
    assert_eq!((id(convert(&Build::new("none"), &target, SHARD_BYTES, &mut |_, _| {})), left()), (947, 0));
    let missing = Build::new(fixture("kjv-llama"));
    assert_eq!(id(convert(&missing, &folder.path().join("no/such/place"), SHARD_BYTES, &mut |_, _| {})), 948);
    std::fs::create_dir(&target).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((id(convert(&missing, &target, SHARD_BYTES, &mut |_, _| {})), left()), (952, 1));
}

/// A checkpoint in many files is the same model.
#[test]
fn shards_hold_the_same_weights() {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let target = folder.path().join("sharded");
    let whole = Build::new(fixture("kjv-llama"));
    let made = convert(&whole, &target, 400_000, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    assert!(made.files > 8, "{made:?}");
    let bytes = |b: &Build| {
        let mut b = b.clone();
        b.strip = true;
        let c = b.compile(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        let w = b.weights(&c.traced).unwrap_or_else(|e| panic!("{e}"));
        c.package_bytes(&*w, &Vec::new()).unwrap_or_else(|e| panic!("{e}"))
    };
    assert!(bytes(&whole) == bytes(&Build::new(&target)));
    // One file gone is one error that names it.
    let name = "model-00003-of-";
    let gone = std::fs::read_dir(&target).unwrap_or_else(|e| panic!("{e}")).flatten().map(|f| f.path());
    let gone = gone.into_iter().find(|p| p.to_string_lossy().contains(name)).expect("a third file");
    std::fs::remove_file(&gone).unwrap_or_else(|e| panic!("{e}"));
    let error = Build::new(&target).trace().expect_err("a file is missing");
    assert!(error.0[0].to_string().contains(name), "{error}");
}
