//! Real kernels through the whole runtime: right results, the same bits on any number of threads.

#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{ROWS, WIDTH, package, package_with, weight};
use mlxc_package::plan::Place;
use mlxc_runtime::*;
use std::sync::Arc;

fn rows(n: u64, seed: u32) -> Tensor {
    let values: Vec<f32> =
        (0..n * WIDTH).map(|i| ((i as u32 + seed).wrapping_mul(2654435761) >> 8) as f32 * 1e-5).collect();
    Tensor::from_slice(&[n, WIDTH], &values).unwrap()
}

/// What the package computes, in plain Rust.
struct Reference {
    cache: Vec<f32>,
}

impl Reference {
    fn new() -> Self {
        Reference { cache: vec![0.0; (ROWS * WIDTH) as usize] }
    }

    fn step(&mut self, x: &Tensor, pos: usize) -> (Vec<f32>, Vec<f32>) {
        let w = weight();
        let (width, x) = (WIDTH as usize, x.as_slice::<f32>().unwrap());
        let (mut y, mut n) = (Vec::new(), Vec::new());
        let t: Vec<f32> = x.iter().enumerate().map(|(i, v)| v * w[i % width]).collect();
        self.cache[pos * width..][..t.len()].copy_from_slice(&t);
        for (s, row) in t.chunks(width).enumerate() {
            n.push(row.iter().copied().fold(f32::MIN, f32::max));
            let mut a = vec![0f32; width];
            for r in 0..=pos + s {
                a.iter_mut().zip(&self.cache[r * width..]).for_each(|(a, v)| *a += v);
            }
            y.extend(a);
        }
        (y, n)
    }
}

fn load(package: &Arc<Package>, threads: usize) -> Session {
    let options = LoadOptions { threads: Some(threads), ..LoadOptions::default() };
    Model::load(package.clone(), &options).unwrap().session().unwrap()
}

#[test]
fn every_number_of_threads_gives_the_same_right_bits() {
    let package = package();
    for (threads, poison) in [(1, false), (2, false), (3, false), (8, false), (2, true), (1, true)] {
        let options = LoadOptions { threads: Some(threads), poison, profile: true, ..LoadOptions::default() };
        let model = Model::load(package.clone(), &options).unwrap();
        assert_eq!(model.threads(), threads);
        let mut session = model.session().unwrap();
        for round in 0..50 {
            let mut reference = Reference::new();
            let mut pos = 0;
            for n in [7, 1, 1, 20, 3, 1, 31] {
                let x = rows(n, round);
                let at = Tensor::scalar(pos as i32).unwrap();
                let out = session.run("main", &[("pos", at.view()), ("x", x.view())]).unwrap();
                let (y, largest) = reference.step(&x, pos);
                assert_eq!((out[0].0.as_str(), out[1].0.as_str()), ("y", "n"));
                assert_eq!(out[0].1, Tensor::from_slice(&[n, WIDTH], &y).unwrap());
                assert_eq!(out[1].1, Tensor::from_slice(&[n], &largest).unwrap());
                pos += n as usize;
            }
            assert_eq!(session.state("cache").unwrap().as_slice::<f32>().unwrap(), reference.cache);
            let times = session.times(session.entry("main").unwrap());
            assert_eq!(times.len(), 4);
            assert_eq!((times[2].kernel.as_str(), times[2].phase.as_str()), ("append", "sum"));
            session.reset();
            assert!(session.state("cache").unwrap().bytes().iter().all(|b| *b == 0));
        }
    }
}

#[test]
fn steps_reuse_outputs_and_take_foreign_memory() {
    let package = package();
    let mut session = load(&package, 2);
    let main = session.entry("main").unwrap();
    let mut outputs = session.outputs(main);
    let mut reference = Reference::new();
    let big = rows(40, 1);
    let shifted = vec![0f32; 8 + 40 * WIDTH as usize];
    let mut address = None;
    for (pos, n) in [(0usize, 40u64), (40, 1), (41, 2)] {
        let mut shifted = shifted.clone();
        let count = (n * WIDTH) as usize;
        shifted[3..3 + count].copy_from_slice(&big.as_slice::<f32>().unwrap()[..count]);
        let shape = [n, WIDTH];
        let x = TensorView::from_slice(&shape, &shifted[3..3 + count]).unwrap();
        let at = [pos as i32];
        let at = TensorView::from_slice(&[], &at).unwrap();
        session.step(main, &[x, at], &mut outputs).unwrap();
        let (y, _) = reference.step(&x.to_tensor().unwrap(), pos);
        assert_eq!(outputs[0].as_slice::<f32>().unwrap(), y);
        let now = outputs[0].bytes().as_ptr();
        assert_eq!(*address.get_or_insert(now), now);
    }
    assert!(session.memory().staged_inputs >= 40 * WIDTH * 4);
}

#[test]
fn sessions_run_side_by_side() {
    let package = package();
    let model = Model::load(package, &LoadOptions { threads: Some(3), ..LoadOptions::default() }).unwrap();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let mut session = model.session().unwrap();
            scope.spawn(move || {
                for _ in 0..100 {
                    session.reset();
                    let mut reference = Reference::new();
                    for pos in 0..5 {
                        let x = rows(4, seed);
                        let at = Tensor::scalar(4 * pos as i32).unwrap();
                        let out = session.run("main", &[("x", x.view()), ("pos", at.view())]).unwrap();
                        assert_eq!(out[0].1.as_slice::<f32>().unwrap(), reference.step(&x, 4 * pos).0);
                    }
                }
            });
        }
    });
}

#[test]
fn inputs_that_do_not_fit_are_refused_before_anything_runs() {
    let package = package();
    let mut session = load(&package, 2);
    let before = session.state("cache").unwrap();
    let x = rows(4, 0);
    let at = |p: i32| Tensor::scalar(p).unwrap();
    let zero = at(0);
    let mut refused = |id: &str, inputs: &[(&str, TensorView<'_>)], words: &[&str]| {
        let error = session.run("main", inputs).unwrap_err();
        assert_eq!(error.id(), id, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    };
    let pos = ("pos", zero.view());
    refused("MLXC0705", &[("x", x.view()), pos, ("z", x.view())], &["`x`, `pos`", "found `z`"]);
    refused("MLXC0706", &[("x", x.view())], &["input `pos` once", "found it 0"]);
    refused("MLXC0706", &[("x", x.view()), pos, pos], &["found it 2"]);
    let ints = Tensor::from_slice(&[4, WIDTH], &vec![0i32; 4 * WIDTH as usize]).unwrap();
    refused("MLXC0708", &[("x", ints.view()), pos], &["input `x`", "f32", "i32"]);
    let flat = Tensor::zeros(DType::F32, &[4 * WIDTH]).unwrap();
    refused("MLXC0709", &[("x", flat.view()), pos], &["input `x`", "[S, 48]", "[192]"]);
    let wide = Tensor::zeros(DType::F32, &[4, 49]).unwrap();
    refused("MLXC0709", &[("x", wide.view()), pos], &["[S = 4, 48]", "[4, 49]"]);
    let none = Tensor::zeros(DType::F32, &[0, WIDTH]).unwrap();
    refused("MLXC0710", &[("x", none.view()), pos], &["`S` in 1..=64", "found 0"]);
    let many = Tensor::zeros(DType::F32, &[65, WIDTH]).unwrap();
    refused("MLXC0710", &[("x", many.view()), pos], &["input `x`", "found 65"]);
    refused("MLXC0710", &[("x", x.view()), ("pos", at(-1).view())], &["`pos` in 0..=63", "found -1"]);
    refused("MLXC0710", &[("x", x.view()), ("pos", at(64).view())], &["found 64"]);
    // Past the capacity: each bound holds, their sum does not.
    refused("MLXC0712", &[("x", x.view()), ("pos", at(61).view())], &["-S - pos + 64", "found -1", "S = 4, pos = 61"]);
    let main = session.entry("main").unwrap();
    let mut outputs = session.outputs(main);
    assert_eq!(session.step(main, &[x.view()], &mut outputs).unwrap_err().id(), "MLXC0707");
    assert_eq!(session.step(main, &[x.view(), zero.view()], &mut outputs[1..]).unwrap_err().id(), "MLXC0707");
    assert_eq!(session.run("decode", &[]).unwrap_err().id(), "MLXC0705");
    assert_eq!(session.state("kv").unwrap_err().id(), "MLXC0705");
    assert_eq!(session.set_state("cache", x.view()).unwrap_err().id(), "MLXC0709");
    assert_eq!(session.set_state("cache", ints.view()).unwrap_err().id(), "MLXC0708");
    assert_eq!(session.state("cache").unwrap(), before);
    session.run("main", &[("x", x.view()), ("pos", at(60).view())]).unwrap();
}

#[test]
fn multiples_are_checked() {
    let package = package_with(|p| p.entries[0].symbols[0].multiple = 4, &[], std::env::consts::ARCH);
    let mut session = load(&package, 1);
    let (x, pos) = (rows(6, 0), Tensor::scalar(0i32).unwrap());
    let error = session.run("main", &[("x", x.view()), ("pos", pos.view())]).unwrap_err();
    assert_eq!(error.id(), "MLXC0711");
}

#[test]
fn packages_for_other_machines_are_refused() {
    let options = LoadOptions::default();
    let arch = std::env::consts::ARCH;
    let error = Model::load(package_with(|_| {}, &["flux", "warp"], arch), &options).unwrap_err();
    assert_eq!(error.id(), "MLXC0702");
    assert!(error.to_string().contains("lacks: flux, warp"), "{error}");
    let error = Model::load(package_with(|_| {}, &[], "vax"), &options).unwrap_err();
    assert_eq!(error.id(), "MLXC0701");
    let missing = package_with(|p| p.kernels[0].phases[0].symbol = "gone".into(), &[], arch);
    let error = Model::load(missing, &options).unwrap_err();
    assert_eq!(error.id(), "MLXC0703");
    assert!(error.to_string().contains("`gone`"), "{error}");
}

#[test]
fn the_null_device_checks_and_gives_zeros() {
    let package = package_with(|_| {}, &["flux"], "vax");
    let options = LoadOptions { device: Device::Null, ..LoadOptions::default() };
    let model = Model::load(package, &options).unwrap();
    assert_eq!(model.target(), None);
    let mut session = model.session().unwrap();
    let (x, pos) = (rows(6, 0), Tensor::scalar(0i32).unwrap());
    let out = session.run("main", &[("x", x.view()), ("pos", pos.view())]).unwrap();
    assert_eq!(out[0].1, Tensor::zeros(DType::F32, &[6, WIDTH]).unwrap());
    assert_eq!(session.run("main", &[("x", x.view())]).unwrap_err().id(), "MLXC0706");
}

#[test]
fn poison_shows_a_wrong_lifetime() {
    // `u` lies in the place of `t`, which is said to be dead, by a launch order that hides it from the check.
    let arch = std::env::consts::ARCH;
    let wrong = package_with(
        |p| {
            let e = &mut p.entries[0];
            let mut late = e.buffers[2].clone();
            (late.name, late.first, late.last) = ("late".into(), 3, 3);
            late.alias = Some(mlxc_package::plan::Alias { of: 1, reason: "a lie".into() });
            e.buffers[2].last = 2;
            e.buffers.push(late);
            e.launches[3].buffers[0] = 6;
        },
        &[],
        arch,
    );
    let (x, pos) = (rows(6, 0), Tensor::scalar(0i32).unwrap());
    let inputs = [("x", x.view()), ("pos", pos.view())];
    let run = |poison| {
        let options = LoadOptions { poison, threads: Some(2), ..LoadOptions::default() };
        let out = Model::load(wrong.clone(), &options).unwrap().session().unwrap().run("main", &inputs).unwrap();
        out[1].1.to_f64s()
    };
    assert!(run(false).iter().all(|v| v.is_finite()));
    assert!(run(true).iter().all(|v| v.is_nan()));
}

#[test]
fn copied_weights_and_memory_reports() {
    let package = package();
    let options = LoadOptions { weights: WeightMemory::Copied, threads: Some(2), ..LoadOptions::default() };
    let mut session = Model::load(package.clone(), &options).unwrap().session().unwrap();
    let (x, pos) = (rows(6, 0), Tensor::scalar(0i32).unwrap());
    let inputs = [("x", x.view()), ("pos", pos.view())];
    let copied = session.run("main", &inputs).unwrap();
    let mut mapped = load(&package, 2);
    assert_eq!(copied, mapped.run("main", &inputs).unwrap());
    assert_eq!((session.memory().weights_copied, session.memory().weights_mapped), (256, 0));
    let report = mapped.memory();
    assert_eq!((report.weights_mapped, report.states), (WIDTH * 4, ROWS * WIDTH * 4));
    assert_eq!(report.arena, 256 + ROWS * WIDTH * 4);
    assert!(report.workers >= 2 * WIDTH * 4 && report.code > 0);
    assert!(matches!(package.plan().entries[0].buffers[2].place, Place::Arena { .. }));
}

#[test]
fn states_can_be_set_and_read() {
    let mut session = load(&package(), 1);
    let value = rows(ROWS, 3);
    session.set_state("cache", value.view()).unwrap();
    assert_eq!(session.state("cache").unwrap(), value);
}

#[test]
fn a_file_is_mapped_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlxc");
    let source = package();
    let mut writer = mlxc_package::PackageWriter::create(&path).unwrap();
    writer.add("weights/0", source.member("weights/0").unwrap()).unwrap();
    let target = &source.manifest().targets[0];
    let features: Vec<&str> = target.features.iter().map(String::as_str).collect();
    writer
        .add_target(&mlxc_package::TargetCode {
            name: &target.name,
            kind: target.kind,
            plan: &target.plan,
            arch: &target.arch,
            features: &features,
            abi: target.abi,
            align: target.align,
            code: source.code(target).unwrap(),
            symbols: &source.symbols(target).unwrap(),
        })
        .unwrap();
    writer.add_plan(mlxc_package::PLAN, source.plan()).unwrap();
    writer.finish("0").unwrap();
    let untrusted = Package::open_with(&path, OpenOptions { untrusted: true }).unwrap();
    let refused = Model::load(Arc::new(untrusted), &LoadOptions::default()).unwrap_err();
    assert_eq!(refused.id(), "MLXC0608");
    let package = Arc::new(Package::open(&path).unwrap());
    let (x, pos) = (rows(6, 0), Tensor::scalar(0i32).unwrap());
    let inputs = [("x", x.view()), ("pos", pos.view())];
    assert_eq!(load(&package, 2).run("main", &inputs).unwrap(), load(&source, 1).run("main", &inputs).unwrap());
}
