//! Hand-written shaders in packages, on whatever GPU or emulation there is.

#![cfg(feature = "gpu")]
#![allow(clippy::unwrap_used)]

mod shaders;

use mlxc_package::plan::Plan;
use mlxc_package::{OpenOptions, Package, Size};
use mlxc_runtime::gpu::{self, AdapterKind};
use mlxc_runtime::{Device, LoadOptions, Model, RuntimeError, Session, Tensor, WeightMemory};
use shaders::{Change, WIDTH, package, package_with, target};
use std::sync::Arc;

/// Loads on the best GPU; keeps compiled pipelines out of the user's folders.
fn options(folder: &tempfile::TempDir) -> LoadOptions {
    let found = gpu::adapters().len();
    assert!(found > 0, "no Vulkan device: run `apt-get update && apt-get install -y mesa-vulkan-drivers libvulkan1`");
    LoadOptions { device: Device::Gpu(None), cache: Some(folder.path().into()), ..LoadOptions::default() }
}

fn load(package: &Arc<Package>, change: impl FnOnce(&mut LoadOptions)) -> Session {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder);
    change(&mut options);
    Model::load(package.clone(), &options).unwrap_or_else(|e| panic!("{e}")).session().unwrap_or_else(|e| panic!("{e}"))
}

fn refused(package: Package, change: impl FnOnce(&mut LoadOptions)) -> RuntimeError {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder);
    change(&mut options);
    Model::load(Arc::new(package), &options).and_then(|m| m.session()).unwrap_err()
}

fn rows(n: u64, seed: u64) -> Tensor {
    let values: Vec<f32> = (0..n * WIDTH).map(|i| ((i * 7 + seed * 13) % 11) as f32 - 5.0).collect();
    Tensor::from_slice(&[n, WIDTH], &values).unwrap()
}

fn append(session: &mut Session, x: &Tensor, pos: i32) -> Result<Vec<f32>, RuntimeError> {
    let pos = Tensor::scalar(pos).unwrap();
    let out = session.run("main", &[("pos", pos.view()), ("x", x.view())])?;
    assert_eq!(out[0].0, "y");
    assert_eq!(out[0].1.shape(), x.shape());
    Ok(out[0].1.as_slice::<f32>().unwrap().to_vec())
}

/// What `main` computes: the squares of weighted rows are added to the cache, and the result is what is then there.
fn expected(cache: &mut [f32], x: &Tensor, pos: usize) -> Vec<f32> {
    let weights = shaders::weight();
    let x = x.as_slice::<f32>().unwrap();
    let mut out = Vec::new();
    for (i, v) in x.iter().enumerate() {
        let t = v * weights[i % WIDTH as usize];
        let cell = &mut cache[pos * WIDTH as usize + i];
        *cell += t * t;
        out.push(*cell);
    }
    out
}

#[test]
fn steps_run_and_states_stay() {
    let package = package();
    let changes: [&dyn Fn(&mut LoadOptions); 4] =
        [&|_| {}, &|o| o.poison = true, &|o| o.profile = true, &|o| o.weights = WeightMemory::Copied];
    for change in changes {
        let mut session = load(&package, change);
        let mut cache = vec![0f32; (16 * WIDTH) as usize];
        for (rounds, (n, pos)) in [(1, 0), (3, 1), (3, 1), (16, 0), (0, 4), (5, 11)].into_iter().enumerate() {
            let x = rows(n, rounds as u64);
            let found = append(&mut session, &x, pos).unwrap();
            assert_eq!(found, expected(&mut cache, &x, pos as usize), "{n} rows at {pos}");
        }
        assert_eq!(session.state("cache").unwrap().as_slice::<f32>().unwrap(), cache);
        let value = rows(16, 9);
        session.set_state("cache", value.view()).unwrap();
        assert_eq!(session.state("cache").unwrap(), value);
        session.reset();
        assert!(session.state("cache").unwrap().as_slice::<f32>().unwrap().iter().all(|v| *v == 0.0));
        let x = rows(2, 1);
        cache.fill(0.0);
        assert_eq!(append(&mut session, &x, 0).unwrap(), expected(&mut cache, &x, 0));
    }
}

#[test]
fn a_refused_step_changes_nothing() {
    let mut session = load(&package(), |_| {});
    let x = rows(4, 0);
    assert_eq!(append(&mut session, &x, 14).unwrap_err().id(), "MLXC0712");
    assert_eq!(append(&mut session, &rows(17, 0), 0).unwrap_err().id(), "MLXC0710");
    let mut cache = vec![0f32; (16 * WIDTH) as usize];
    assert_eq!(append(&mut session, &x, 12).unwrap(), expected(&mut cache, &x, 12));
}

#[test]
fn sessions_are_apart() {
    let package = package();
    let folder = tempfile::tempdir().unwrap();
    let model = Model::load(package, &options(&folder)).unwrap();
    assert_eq!(model.target(), Some("test"));
    assert!(model.adapter().is_some_and(|a| !a.is_empty()));
    let found: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let run = |seed| {
            let mut session = model.session().unwrap();
            scope.spawn(move || {
                for _ in 0..3 {
                    append(&mut session, &rows(7, seed), 2).unwrap();
                }
                append(&mut session, &rows(7, seed), 2).unwrap()
            })
        };
        let running: Vec<_> = (0..3).map(run).collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for (seed, found) in found.iter().enumerate() {
        let mut cache = vec![0f32; (16 * WIDTH) as usize];
        let x = rows(7, seed as u64);
        (0..3).for_each(|_| drop(expected(&mut cache, &x, 2)));
        assert_eq!(found, &expected(&mut cache, &x, 2));
    }
}

#[test]
fn grids_above_65535_groups_are_linear() {
    let mut session = load(&package(), |_| {});
    for n in [0u64, 1, 32767, 32768, 40001] {
        let values: Vec<f32> = (0..2 * n).map(|i| (i % 1021) as f32).collect();
        let x = Tensor::from_slice(&[2, n], &values).unwrap();
        let out = session.run("wide", &[("x", x.view())]).unwrap();
        let doubled: Vec<f32> = values.iter().map(|v| v * 2.0).collect();
        assert_eq!(out[0].1.as_slice::<f32>().unwrap(), doubled, "{n}");
    }
}

#[test]
fn a_step_makes_nothing() {
    let package = package();
    let mut session = load(&package, |_| {});
    let before = gpu::counters(session.model()).unwrap();
    assert!(before.buffers > 0 && before.bind_groups > 0 && before.pipelines > 0);
    for pos in 0..5 {
        append(&mut session, &rows(1 + pos, 0), pos as i32).unwrap();
    }
    let x = Tensor::zeros(mlxc_runtime::DType::F32, &[2, 5]).unwrap();
    session.run("wide", &[("x", x.view())]).unwrap();
    let after = gpu::counters(session.model()).unwrap();
    assert_eq!(after, gpu::Counters { submissions: before.submissions + 6, ..before });
    session.state("cache").unwrap();
    assert_eq!(gpu::counters(session.model()).unwrap().buffers, before.buffers);
}

#[test]
fn launches_are_timed() {
    let package = package();
    for poison in [false, true] {
        let mut session = load(&package, |o| (o.profile, o.poison) = (true, poison));
        let id = session.entry("main").unwrap();
        append(&mut session, &rows(3, 0), 0).unwrap();
        let times = session.times(id);
        let names: Vec<&str> = times.iter().map(|t| t.kernel.as_str()).collect();
        assert_eq!(names, ["scale", "square", "append"]);
        assert!(times.iter().map(|t| t.nanoseconds).sum::<u64>() > 0);
        // Nothing is dispatched for no rows; the stamps are written all the same.
        append(&mut session, &rows(0, 0), 0).unwrap();
        assert_eq!(session.times(id).len(), 3);
    }
    let mut session = load(&package, |_| {});
    append(&mut session, &rows(3, 0), 0).unwrap();
    let id = session.entry("main").unwrap();
    assert!(session.times(id).is_empty());
}

#[test]
fn memory_is_reported() {
    let session = load(&package(), |o| o.weights = WeightMemory::Copied);
    let memory = session.memory();
    assert_eq!((memory.weights_mapped, memory.weights_copied), (0, 256));
    assert_eq!((memory.states, memory.arena, memory.workers), (512, 1024, 0));
    assert!(memory.code > 0 && memory.staged_inputs > 0);
}

#[test]
fn untrusted_shaders_run_with_checks() {
    let trusted = package();
    let bytes = shaders::bytes(|_| {}, &[target("test", &[])]);
    let package = Arc::new(Package::from_bytes_with(bytes, OpenOptions { untrusted: true }).unwrap());
    let x = rows(5, 2);
    let (mut a, mut b) = (load(&trusted, |_| {}), load(&package, |_| {}));
    assert_eq!(append(&mut a, &x, 3).unwrap(), append(&mut b, &x, 3).unwrap());
    // Metal's language cannot be checked.
    let bytes = shaders::bytes(|_| {}, &[target("test", &["metal"])]);
    let package = Package::from_bytes_with(bytes, OpenOptions { untrusted: true }).unwrap();
    assert_eq!(refused(package, |_| {}).id(), "MLXC0702");
}

#[test]
fn the_target_with_the_most_features_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let best = gpu::adapters().into_iter().min_by_key(|a| (a.kind, a.number)).unwrap();
    let all: Vec<&str> = best.features.clone();
    let all: Vec<&str> = all.into_iter().filter(|f| *f != "metal").collect();
    let (least, most) = (target("least", &[]), target("most", &all));
    let mut beyond: Vec<&str> = all.clone();
    beyond.push("telepathy");
    let bytes = shaders::bytes(|_| {}, &[least, most, target("beyond", &beyond)]);
    let model = Model::load(Arc::new(Package::from_bytes(bytes).unwrap()), &options(&folder)).unwrap();
    assert_eq!(model.target(), Some(if all.is_empty() { "least" } else { "most" }));
}

#[test]
fn packages_that_cannot_run_say_why() {
    let expect = |package: Package, id: &str, words: &[&str]| {
        let e = refused(package, |_| {});
        assert_eq!(e.id(), id, "{e}");
        words.iter().for_each(|w| assert!(e.to_string().contains(w), "{w}: {e}"));
    };
    let with = |change: Change, features: &[&str]| {
        Package::from_bytes(shaders::bytes(change, &[target("test", features)])).unwrap()
    };
    expect(with(|_| {}, &["telepathy", "f16"]), "MLXC0702", &["`test`", "GPU 0", "telepathy"]);
    expect(with(|p| p.kernels[1].phases[0].symbol = "cube".into(), &[]), "MLXC0703", &["`cube`", "found none"]);
    expect(package_with(&[("square", "square", "fn square( {")]), "MLXC0703", &["`square` to compile", "expected"]);
    // Valid text with another entry point, and with a binding that the plan does not have.
    expect(package_with(&[("square", "fn square", "fn cube")]), "MLXC0703", &["`square`"]);
    expect(package_with(&[("square", "@binding(2)", "@binding(7)")]), "MLXC0703", &["`square`"]);
    let group = |p: &mut Plan| {
        p.kernels[0].phases[0].group_bytes = 1 << 29;
        p.entries[0].arena.worker_bytes = 1 << 29;
    };
    expect(with(group, &[]), "MLXC0718", &["kernel `scale`", "536870912 bytes of group memory"]);
    expect(with(|p| p.entries[0].arena.bytes = 1 << 46, &[]), "MLXC0718", &["the arena", "70368744177664 bytes"]);
    let wide = |p: &mut Plan| {
        let e = &mut p.entries[0];
        e.arena.bytes = 1 << 45;
        e.buffers[2].place = mlxc_package::plan::Place::Arena { offset: 512 };
        e.buffers[2].bytes = 1 << 44;
        e.buffers[3].place = mlxc_package::plan::Place::Arena { offset: 0 };
    };
    expect(with(wide, &[]), "MLXC0718", &["needs"]);
    let plan = shaders::plan();
    let native = mlxc_package::TargetCode { kind: mlxc_package::TargetKind::Native, abi: 1, ..target("cpu", &[]) };
    let bytes = shaders::bytes_of(&plan, &[native], shaders::MODULES);
    expect(Package::from_bytes(bytes).unwrap(), "MLXC0701", &["a GPU", "`cpu`"]);
    let e = refused(with(|_| {}, &[]), |o| o.device = Device::Gpu(Some(99)));
    assert_eq!(e.id(), "MLXC0717", "{e}");
    assert!(e.to_string().contains("number 99"), "{e}");
}

#[test]
fn a_large_binding_is_refused_with_the_limit() {
    let limit = gpu::adapters().iter().map(|a| a.limits.binding_bytes).max().unwrap();
    let rows = limit / 32 + 1;
    let change = move |p: &mut Plan| {
        p.states[0].shape[0] = rows;
        p.states[0].bytes = rows * 32;
        let buffer = &mut p.entries[0].buffers[4];
        buffer.bytes = rows * 32;
        buffer.shape[0] = Size::constant(rows as i64);
    };
    let mut plan = shaders::plan();
    change(&mut plan);
    let bytes = shaders::bytes_of(&plan, &[target("test", &[])], shaders::MODULES);
    let e = refused(Package::from_bytes(bytes).unwrap(), |_| {});
    assert!(["MLXC0718", "MLXC0719"].contains(&e.id()), "{e}");
}

#[test]
fn auto_takes_a_gpu_that_is_none_of_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let real = gpu::adapters().iter().any(|a| a.kind != AdapterKind::Cpu);
    let options = LoadOptions { device: Device::Auto, ..options(&folder) };
    match Model::load(package(), &options) {
        Ok(model) => assert!(real && model.adapter().is_some()),
        // The package has no code for CPUs.
        Err(e) => assert!(!real && e.id() == "MLXC0701", "{e}"),
    }
}

#[test]
fn damaged_caches_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(&folder);
    let run = || {
        let mut session = Model::load(package(), &options).unwrap().session().unwrap();
        append(&mut session, &rows(3, 1), 0).unwrap()
    };
    let first = run();
    let files = || std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>();
    for file in files() {
        let mut bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() > 64);
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    assert_eq!(run(), first);
    files().iter().for_each(|f| std::fs::write(f, b"short").unwrap());
    assert_eq!(run(), first);
    assert!(files().iter().all(|f| f.extension().is_none()), "no partial file stays");
}

#[test]
fn adapters_are_described() {
    let adapters = gpu::adapters();
    for (i, a) in adapters.iter().enumerate() {
        assert_eq!(a.number as usize, i);
        assert!(!a.name.is_empty() && ["vulkan", "metal", "dx12"].contains(&a.backend.as_str()));
        assert!(a.limits.group_lanes >= 64 && a.limits.group_bytes >= 16 << 10 && a.limits.buffers >= 4);
        assert_eq!(a.limits.subgroup_lanes.0 > 0, a.features.contains(&"subgroups"));
        assert_eq!(a.missing(&["telepathy"]), ["telepathy"]);
    }
}

#[test]
fn devices_have_names() {
    for (text, device) in [
        ("auto", Device::Auto),
        ("cpu", Device::Cpu),
        ("gpu", Device::Gpu(None)),
        ("gpu:0", Device::Gpu(Some(0))),
        ("gpu:12", Device::Gpu(Some(12))),
    ] {
        assert_eq!(text.parse::<Device>().unwrap(), device);
        assert_eq!(device.to_string(), text);
    }
    for text in ["", "GPU", "gpu:", "gpu:-1", "gpu:+1", "gpu: 1", "gpu:4294967296", "cuda", "null"] {
        let e = text.parse::<Device>().unwrap_err();
        assert_eq!(e.id(), "MLXC0716", "{text}");
        assert!(e.to_string().contains("`gpu:N`"));
    }
}
