//! Each check with a case that must be found and look-alikes that must not, through traced models.

use super::{Finding, Severity, build, module};
use crate::pipeline::Level;
use crate::source::Build;
use crate::trace::{Array, Context, trace, trace_module};
use mlxc_ir::DType::{BF16, Bool, F16, F32, I32};
use std::path::{Path, PathBuf};

/// Findings of one id of a traced entry.
fn found(id: u16, level: Level, model: impl FnOnce(&Context)) -> Vec<Finding> {
    let traced = trace("e", model).unwrap_or_else(|e| panic!("{e}"));
    module(&traced, level).into_iter().filter(|f| f.diagnostic.id == id).collect()
}

fn texts(list: &[Finding]) -> String {
    list.iter().map(|f| format!("{}\n", f.diagnostic)).collect()
}

/// One widening of `x bf16[S, 8]`, by what `with` makes of it.
fn widened(with: impl FnOnce(&Context, &Array) -> Array) -> Vec<Finding> {
    found(980, Level::Strict, |cx| {
        let s = cx.dim("S", 1..=64);
        let x = cx.input("x", BF16, (&s, 8));
        cx.output("y", &with(cx, &x));
    })
}

#[test]
fn values_that_meet_wider_arrays_are_found() {
    let constant = widened(|cx, x| (x * cx.constant(&[2.0], &[1])).exp());
    assert_eq!(constant.len(), 1, "{}", texts(&constant));
    let d = &constant[0].diagnostic;
    assert_eq!(constant[0].severity, Severity::Warning);
    assert_eq!(d.message, "input `x` is widened from bf16 to f32 by a constant array");
    assert!(d.notes[0].starts_with("2 ops compute in f32") && d.notes[0].contains("result `y` is f32"), "{d}");
    assert!(d.at.as_ref().is_some_and(|at| at.file.ends_with("tests.rs") && at.line > 0));
    let weight = widened(|cx, x| x.matmul(&cx.weight("w", F32, [8, 8])));
    assert!(texts(&weight).contains("by weight `w`"), "{}", texts(&weight));
    // A mask of two numbers is f32; so is one that was converted from bools.
    let numbers = widened(|cx, x| x + cx.input("m", Bool, [8]).choose(0.0, -1e9).named("mask"));
    assert!(texts(&numbers).contains("by `mask`"), "{}", texts(&numbers));
    let bools = widened(|cx, x| x * cx.input("m", Bool, [8]).astype(F32));
    assert!(texts(&bools).contains("by input `m`"), "{}", texts(&bools));
    // Integers divided are f32.
    assert_eq!(widened(|cx, x| x * (cx.arange(8, I32) / 2)).len(), 1);
    let joined = widened(|cx, x| Array::concatenate(&[x, x, &cx.input("t", F32, [1, 8])], 0));
    assert_eq!(joined.len(), 1, "{}", texts(&joined));
    assert!(texts(&widened(|cx, x| x + cx.input("h", F16, [8]))).contains("by input `h`"));
}

#[test]
fn widening_that_was_asked_for_is_not() {
    assert!(widened(|_, x| x.astype(F32) * 2.0 + 1.0).is_empty());
    assert!(widened(|cx, x| x.astype(F32) * cx.weight("w", F32, [8])).is_empty());
    assert!(widened(|_, x| (x.astype(F32).exp() * x).astype(BF16)).is_empty());
    // Plain numbers take the array's dtype; other arrays of it change nothing.
    assert!(widened(|cx, x| (x * 2.0 + 1) * cx.weight("w", BF16, [8]) + cx.arange(8, I32)).is_empty());
    assert!(widened(|cx, x| x * cx.full([8], 2.0, BF16)).is_empty());
    // The tracer's own wider steps.
    assert!(widened(|_, x| x.softmax()).is_empty());
    assert!(widened(|_, x| x.var(-1, true, 1)).is_empty());
    // Wide by itself, and narrow afterwards.
    assert!(widened(|cx, x| x * cx.constant(&[2.0], &[1]).astype(BF16)).is_empty());
}

#[test]
fn a_line_is_found_once_with_all_that_follows() {
    let f = widened(|cx, x| {
        let w = cx.weight("scale", F32, [8]);
        (0..4).fold(x.clone(), |y, _| (&y * &w).exp().astype(BF16))
    });
    assert_eq!(f.len(), 1, "{}", texts(&f));
    assert!(f[0].diagnostic.notes[0].starts_with("8 ops") && f[0].diagnostic.notes[0].contains("4 uses"));
    // What a widened value meets next is part of the same finding.
    let f = widened(|cx, x| {
        let y = x * cx.weight("scale", F32, [8]);
        y + x
    });
    assert_eq!(f.len(), 1, "{}", texts(&f));
}

#[test]
fn weights_without_an_effect_are_found() {
    let f = found(984, Level::Strict, |cx| {
        let x = cx.input("x", F32, [4, 8]);
        let (used, unused) = (cx.weight("used", F32, [8]), cx.weight("unused", F32, [8]));
        let _ = &x * unused;
        cx.output("y", &(&x * used));
    });
    assert_eq!(f.len(), 1);
    assert!(texts(&f).contains("`unused`") && texts(&f).contains("tests.rs"), "{}", texts(&f));
    // One entry reads it: that is enough, and so is a state.
    let traced = trace_module(|m| {
        m.entry("a", |cx| {
            let _ = cx.weight("w", F32, [1, 8]);
            cx.output("y", &cx.input("x", F32, [8]).exp());
        });
        m.entry("b", |cx| {
            cx.state("s", F32, [4, 8]).update(&cx.weight("w", F32, [1, 8]), &cx.scalar("p", 0..=3), 0);
            cx.output("y", &cx.input("x", F32, [8]).exp());
        });
    });
    let list = module(&traced.unwrap(), Level::Strict);
    assert!(list.iter().all(|f| f.diagnostic.id != 984), "{}", texts(&list));
}

#[test]
fn caches_that_grow_are_found() {
    let grown = found(985, Level::Strict, |cx| {
        let t = cx.dim("T", 1..=512);
        let keys = cx.input("keys", F32, (4, &t, 16));
        let x = cx.input("x", F32, (4, 1, 16));
        cx.output("new_keys", &Array::concatenate(&[&keys, &x.exp()], 1));
    });
    assert_eq!(grown.len(), 1);
    assert!(texts(&grown).contains("`new_keys` is input `keys` grown") && texts(&grown).contains("T + 1"));
    // A window that moves, of many rows.
    let moved = |rows: i64| {
        found(985, Level::Strict, |cx| {
            let state = cx.state("window", F32, (rows, 16));
            let x = cx.input("x", F32, [1, 16]);
            let next = Array::concatenate(&[&state.read().slice(0, 1, rows), &x], 0);
            state.update(&next, &cx.scalar("zero", 0..=0), 0);
            cx.output("y", &x);
        })
    };
    assert!(texts(&moved(256)).contains("`window` is copied whole"), "{}", texts(&moved(256)));
    assert!(moved(4).is_empty(), "a convolution's few rows");
}

#[test]
fn joins_that_are_no_caches_are_not() {
    let cases: [&dyn Fn(&Context); 5] = [
        // Rows written in place.
        &|cx| {
            let state = cx.state("keys", F32, [64, 16]);
            let x = cx.input("x", F32, [1, 16]);
            cx.output("y", &state.update(&x, &cx.scalar("p", 0..=63), 0).sum(0, false));
        },
        // Twice the same rows, padding of zeros, an axis of constant extent, another dtype, not a result.
        &|cx| {
            let x = cx.input("x", F32, (&cx.dim("T", 1..=64), 16));
            cx.output("y", &Array::concatenate(&[&x, &x.exp()], 0));
        },
        &|cx| {
            let x = cx.input("x", F32, (&cx.dim("T", 1..=64), 16));
            cx.output("y", &Array::concatenate(&[&x, &cx.full([1, 16], 0.0, F32)], 0));
        },
        &|cx| {
            let x = cx.input("x", F32, (&cx.dim("T", 1..=64), 16));
            cx.output("y", &Array::concatenate(&[&x, &x.exp()], 1));
        },
        &|cx| {
            let x = cx.input("x", F32, (&cx.dim("T", 1..=64), 16));
            let y = Array::concatenate(&[&x, &cx.input("r", F32, [1, 16])], 0);
            cx.output("y", &y.sum(0, false));
        },
    ];
    for (i, case) in cases.iter().enumerate() {
        let f = found(985, Level::Strict, case);
        assert!(f.is_empty(), "case {i}: {}", texts(&f));
    }
}

#[test]
fn long_sums_in_half_precision_are_found() {
    let long = |level, dtype, n: i64| {
        found(986, level, |cx| {
            let x = cx.input("x", dtype, (&cx.dim("S", 1..=64), n));
            cx.output("y", &x.square().mean(-1, true));
        })
    };
    assert_eq!(long(Level::Strict, BF16, 4096)[0].severity, Severity::Note);
    let exact = long(Level::Exact, F16, 4096);
    assert_eq!(exact[0].severity, Severity::Warning);
    assert!(texts(&exact).contains("65504"), "{}", texts(&exact));
    assert!(long(Level::Exact, F16, 2048).is_empty() && long(Level::Exact, F32, 1 << 20).is_empty());
    // Composites and products compute in f32; a cast says so; the largest of many is exact.
    let f = found(986, Level::Exact, |cx| {
        let x = cx.input("x", F16, (4, 4096));
        cx.output("a", &x.rms_norm(None, 1e-5).softmax());
        cx.output("b", &x.matmul(&cx.weight("w", F16, [4096, 8])));
        cx.output("c", &x.astype(F32).sum(-1, false));
        cx.output("d", &x.max(-1, false));
    });
    assert!(f.is_empty(), "{}", texts(&f));
    // Symbols count with their upper bounds.
    let f = found(986, Level::Exact, |cx| {
        cx.output("y", &cx.input("x", F16, [&cx.dim("S", 1..=4096)]).sum(0, false));
    });
    assert_eq!(f.len(), 1);
}

#[test]
fn counts_and_running_sums_in_half_precision_are_found() {
    let count = |n: i64, to| {
        found(988, Level::Strict, |cx| {
            cx.output("y", &cx.input("m", Bool, [4, n]).astype(to).sum(-1, false));
        })
    };
    assert_eq!(count(512, BF16)[0].severity, Severity::Warning);
    assert!(count(256, BF16).is_empty() && count(2048, F16).is_empty() && count(4096, F32).is_empty());
    assert_eq!(count(2049, F16).len(), 1);
    let running = |level, n: i64, to| {
        found(987, level, |cx| {
            let x = cx.input("x", BF16, [4, n]);
            cx.output("y", &x.astype(to).cumsum(1, false, true));
        })
    };
    assert_eq!(running(Level::Exact, 1024, BF16)[0].severity, Severity::Warning);
    assert_eq!(running(Level::Strict, 1024, BF16)[0].severity, Severity::Note);
    assert!(running(Level::Exact, 1024, F32).is_empty() && running(Level::Exact, 64, BF16).is_empty());
}

#[test]
fn extents_that_nothing_fixes_are_noted() {
    let f = found(989, Level::Strict, |cx| {
        let x = cx.input("x", F32, [3, 128, 64]);
        let y = x.matmul(&cx.weight("w", F32, [64, 32])) * 2.0;
        cx.output("y", &(y.reshape([3, 128, 4, 8]).transpose([0, 2, 1, 3]).softmax() + 1.0));
    });
    assert_eq!(f.len(), 1);
    assert_eq!(f[0].severity, Severity::Note);
    assert!(texts(&f).contains("axis 0 at 3, axis 1 at 128"), "{}", texts(&f));
    // Tokens of a fixed length, looked up in a table.
    let f = found(989, Level::Strict, |cx| {
        let t = cx.input("tokens", I32, [128]);
        cx.output("y", &cx.weight("w", F32, [1000, 64]).take(&t, 0));
    });
    assert!(texts(&f).contains("axis 0 at 128"), "{}", texts(&f));
}

#[test]
fn extents_that_something_fixes_are_not() {
    let cases: [&dyn Fn(&Context); 7] = [
        &|cx| cx.output("y", &(cx.input("x", F32, [1, 64]) + cx.weight("b", F32, [64]))),
        &|cx| {
            cx.output(
                "y",
                &cx.input("x", F32, (&cx.dim("S", 1..=8), 64)).rms_norm(Some(&cx.weight("w", F32, [64])), 1e-5),
            )
        },
        // Split into heads, joined with rows of a weight, positions of a table, a part of the axis.
        &|cx| cx.output("y", &cx.input("x", F32, [64]).reshape([4, 16])),
        &|cx| cx.output("y", &Array::concatenate(&[&cx.input("x", F32, [3, 8]), &cx.weight("w", F32, [2, 8])], 0)),
        &|cx| cx.output("y", &(cx.input("x", F32, [32]) + cx.constant(&[0.5; 32], &[32]))),
        &|cx| cx.output("y", &cx.input("x", F32, [32]).slice(0, 8, 24)),
        &|cx| {
            let x = cx.input("x", F32, [8, 16]);
            cx.output(
                "y",
                &cx.state("s", F32, [8, 64]).update(&x.slice(0, 0, 8), &cx.scalar("p", 0..=4), 1).sum(0, false),
            );
            cx.output("z", &x.matmul(&cx.weight("w", F32, [16, 4])));
        },
    ];
    for (i, case) in cases.iter().enumerate() {
        let f = found(989, Level::Strict, case);
        assert!(f.is_empty(), "case {i}: {}", texts(&f));
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The models that the other tests compile have nothing to warn of, whatever the dtype.
#[test]
fn clean_models_give_no_warnings() {
    let families = std::fs::read_dir(fixtures().join("families")).unwrap().map(|f| f.unwrap().path());
    let mut models: Vec<PathBuf> = families.filter(|p| p.is_dir()).collect();
    models.extend(["kjv-llama", "kjv-llama-4bit", "kjv-llama-8bit"].map(|m| fixtures().join(m)));
    models.sort();
    assert!(models.len() > 10);
    for model in models {
        for (dtype, level) in [(None, Level::Strict), (Some(BF16), Level::Exact), (Some(F16), Level::Exact)] {
            let b = Build { dtype, level, ..Build::new(&model) };
            let list = build(&b).unwrap_or_else(|e| panic!("{}: {e}", model.display()));
            let warnings: Vec<Finding> = list.into_iter().filter(|f| f.severity == Severity::Warning).collect();
            assert!(warnings.is_empty(), "{}: {}", model.display(), texts(&warnings));
        }
    }
}

/// What compiling refuses at its first sight is listed whole.
#[test]
fn a_folder_is_listed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixtures().join("families/llama");
    std::fs::copy(model.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let text = std::fs::read_to_string(model.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = config["num_hidden_layers"].as_i64().unwrap();
    config["num_hidden_layers"] = (layers - 1).into();
    config["logit_scale"] = 0.5.into();
    config["residual_multiplier"] = 0.2.into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let list = build(&Build::new(folder.path())).unwrap();
    let count = |id: u16| list.iter().filter(|f| f.diagnostic.id == id).count();
    assert_eq!(count(981), 2, "{}", texts(&list));
    // A layer has two norms and seven products.
    assert_eq!(count(983), 9, "{}", texts(&list));
    assert!(list.iter().all(|f| f.diagnostic.at.is_some()));
}
