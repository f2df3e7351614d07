//! Tuning: what a search does with its measurements, which files are refused, and that tuned kernels compute the same.

#![allow(clippy::unwrap_used)]

use mlxc::source::Build;
use mlxc::trace::{Context, Scoring, trace};
use mlxc::tune::search::{Compare, SHARE, Step, search};
use mlxc::tune::{Tuning, tune};
use mlxc::verify::verify;
use mlxc::weights::RandomWeights;
use mlxc::{DType, Errors, Options};
use mlxc_ir::Location;
use mlxc_ir::graph::Module;
use mlxc_passes::choices::{Choices, KNOBS};
use mlxc_passes::schedule::{Scheduled, body};
use mlxc_runtime::LoadOptions;
use std::collections::BTreeSet;
use std::path::Path;

/// A product with a weight, one of two computed factors and an attention, with rows of a symbol.
fn model() -> Module {
    let build = |cx: &Context| {
        let n = cx.dim("S", 1..=200);
        let x = cx.input("x", DType::F32, [n.clone(), 64.into()]);
        let h = x.matmul(&cx.weight("w", DType::F32, [512, 64]).t()).silu();
        cx.output("h", &h);
        let [a, b] = ["a", "b"].map(|name| cx.input(name, DType::F32, [200, 200]));
        cx.output("ab", &(a.exp().matmul(&b) + 1.0));
        let [q, k, v] = [("q", 4), ("k", 2), ("v", 2)]
            .map(|(name, heads)| cx.input(name, DType::F32, [1.into(), heads.into(), n.clone(), 32.into()]));
        let how = Scoring { scale: 0.25, causal: true, ..Default::default() };
        cx.output("y", &q.scaled_dot_product_attention(&k, &v, &how));
    };
    trace("main", build).unwrap()
}

/// Measurements that are made up: a number of the two kernels' texts.
struct Made {
    keep_all: bool,
}

impl Compare for Made {
    type Ready = u64;

    fn ready(&mut self, kernel: &Scheduled) -> Result<u64, Errors> {
        Ok(body(&kernel.kernels[0]).bytes().fold(7, |h: u64, b| h.wrapping_mul(31).wrapping_add(b.into())))
    }

    fn ratio(&mut self, best: &mut u64, other: &mut u64) -> Result<f64, Errors> {
        Ok(if self.keep_all { 0.5 } else { (*other >> 9) as f64 / (*best >> 9) as f64 })
    }
}

fn searched(steps: usize, keep_all: bool) -> (Choices, Vec<Step>) {
    search(&model(), &Options::for_host().unwrap(), steps, &mut Made { keep_all }, &mut |_| {}).unwrap()
}

fn tuning(choices: &Choices) -> Tuning {
    Tuning::new(&Options::for_host().unwrap().profile.name, choices)
}

#[test]
fn a_search_keeps_to_its_steps_and_to_its_measurements() {
    let (choices, all) = searched(usize::MAX, false);
    assert!(all.len() > 5, "{all:?}");
    for s in &all {
        assert_eq!(s.kept, s.ratio < SHARE);
    }
    assert_eq!(searched(usize::MAX, false), (choices.clone(), all.clone()));
    for steps in [0, 1, 5] {
        assert_eq!(searched(steps, false).1, all[..steps]);
    }
    assert!(searched(0, false).0.is_empty());
    // What is kept is the last value of each knob that was.
    for s in all.iter().filter(|s| s.kept) {
        let last = all.iter().rfind(|o| o.kept && o.kernel == s.kernel && o.knob == s.knob).unwrap();
        assert_eq!(choices.kernels()[&s.kernel][s.knob], last.value);
    }
    // Every template with knobs was met.
    let met = |template: &str| all.iter().any(|s| s.kernel.starts_with(template));
    assert!(KNOBS.iter().all(|k| met(k.template)), "{all:?}");
}

#[test]
fn a_file_reads_back_and_decides_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let (choices, _) = searched(usize::MAX, true);
    let written = tuning(&choices);
    let read = Tuning::parse(&written.text(), &Location::new("t.json", 0, 0)).unwrap();
    assert_eq!((read.text(), &read), (written.text(), &written));
    let compiled = |tuned: Option<&Tuning>| -> Vec<u8> {
        let mut options = [Options::for_host().unwrap()];
        if let Some(t) = tuned {
            t.apply(&mut options, Path::new("t.json")).unwrap();
        }
        let c = mlxc::compile(&model(), &options[0]).unwrap();
        c.package_bytes(&RandomWeights { seed: 1 }, &Vec::new()).unwrap()
    };
    assert_eq!(compiled(Some(&read)), compiled(Some(&written)));
    assert_ne!(compiled(Some(&read)), compiled(None));
    // A file that chooses nothing changes nothing.
    assert_eq!(compiled(Some(&tuning(&Choices::default()))), compiled(None));
    // By way of a build, as the command has it.
    let graph = folder.path().join("m.graph");
    let file = folder.path().join("t.json");
    std::fs::write(&graph, mlxc_ir::graph::text::print(&model())).unwrap();
    std::fs::write(&file, written.text()).unwrap();
    let mut build = Build::new(graph);
    build.tuning = Some(file);
    assert_eq!(build.options().unwrap()[0].choices, choices);
    build.targets = vec![if written.target == "x86-64-v2" { "x86-64-v3" } else { "x86-64-v2" }.into()];
    assert_eq!(build.options().unwrap_err().0[0].id, 977);
    build.tuning = Some(folder.path().join("none.json"));
    assert_eq!(build.options().unwrap_err().0[0].id, 974);
}

#[test]
fn what_no_tuning_writes_is_refused() {
    let (choices, _) = searched(usize::MAX, true);
    let text = tuning(&choices).text();
    for (from, to, id) in [
        ("{", "[", 975),
        ("\"format\": 1", "\"format\": 2", 975),
        ("\"target\"", "\"machine\"", 975),
        ("\"format\": 1,", "\"format\": 1, \"more\": 2,", 975),
        ("\"rows\": ", "\"rows\": \"many\", \"no\": ", 975),
        ("\"rows\": ", "\"rows\": 1000", 976),
        ("\"rows\": ", "\"columns\": ", 976),
        ("\"rows\": ", "\"tiles\": ", 976),
        ("\"attention ", "\"attending ", 976),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let e = Tuning::parse(&text.replacen(from, to, 1), &Location::new("t.json", 0, 0)).unwrap_err();
        assert_eq!(e.id, id, "{to}: {e}");
        assert!(e.at.is_some() && e.expected.is_some() && e.found.is_some(), "{e}");
    }
}

#[test]
fn every_value_of_every_knob_gives_the_interpreters_results() {
    let folder = tempfile::tempdir().unwrap();
    let (graph, file) = (folder.path().join("m.graph"), folder.path().join("t.json"));
    std::fs::write(&graph, mlxc_ir::graph::text::print(&model())).unwrap();
    let mut build = Build::new(graph);
    build.random_weights = Some(1);
    build.tuning = Some(file.clone());
    let kernels: BTreeSet<String> = searched(usize::MAX, true).1.into_iter().map(|s| s.kernel).collect();
    for (kernel, knob) in kernels.iter().flat_map(|k| KNOBS.iter().map(move |knob| (k, knob))) {
        for value in knob.values.iter().filter(|_| kernel.starts_with(knob.template)) {
            let mut choices = Choices::default();
            choices.set(kernel, knob, *value);
            std::fs::write(&file, tuning(&choices).text()).unwrap();
            for size in [1, 77, 200] {
                for c in verify(&build, size, 3, &LoadOptions::default(), &mut |_| {}).unwrap() {
                    assert!(c.passed, "{kernel} with {} {value} at {size}: {c:?}", knob.name);
                }
            }
        }
    }
}

#[test]
fn kernels_are_measured_on_this_machine() {
    let options = Options::for_host().unwrap();
    let mut began = Vec::new();
    let (tuned, steps) = tune(&model(), &options, 2, &mut |s| began.push(s.to_string())).unwrap();
    assert_eq!((steps.len(), began.len()), (2, 2), "{steps:?}");
    assert!(steps.iter().all(|s| s.ratio.is_finite() && s.ratio > 0.0), "{steps:?}");
    assert_eq!(tuned.target, options.profile.name);
    let gpu = Options::for_target("vulkan").unwrap();
    assert_eq!(tune(&model(), &gpu, 2, &mut |_| {}).unwrap_err().0[0].id, 978);
}
