//! Saturation of whole functions: fewer products, the same results, states in order.

use mlxc_ir::DType;
use mlxc_ir::graph::interpret::{Mode, Tensor, run};
use mlxc_ir::graph::verify::verify;
use mlxc_ir::graph::{Function, Module, Op};
use mlxc_passes::canonicalise::canonicalise;
use mlxc_passes::eqsat::rule::Group;
use mlxc_passes::eqsat::{Numerics, Options, Report, saturate};
use mlxc_tests::kernels::arguments;
use mlxc_tests::llama::{self, Config, TINY};

/// Canonicalises and saturates one entry of a module; fails where the result is not well formed.
fn optimise(m: &Module, entry: usize, options: &Options) -> (Function, Report) {
    let f = canonicalise(&m.functions[entry]).expect("canonical form");
    let (g, report) = saturate(&f, options).expect("saturation");
    let g = canonicalise(&g).expect("canonical form");
    let out = Module { functions: vec![g.clone()], ..m.clone() };
    verify(&out).unwrap_or_else(|e| panic!("{}", e[0]));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    (g, report)
}

fn count(f: &Function, name: &str) -> usize {
    f.nodes.iter().filter(|n| n.op.name() == name).count()
}

fn results(m: &Module, f: &Function, args: &[Tensor]) -> Vec<Tensor> {
    let out = run(m, f, args, Mode::Reference).expect("the interpreter runs");
    out.results.into_iter().chain(out.updates.into_iter().map(|(_, t)| t)).collect()
}

fn same(m: &Module, a: &Function, b: &Function, symbols: &[i64]) {
    let args = arguments(a, symbols, 11);
    for (x, y) in results(m, a, &args).iter().zip(results(m, b, &args)) {
        let scale = x.to_floats().iter().fold(1e-3f64, |s, v| s.max(v.abs()));
        for i in 0..x.len() {
            assert!((x.float(i) - y.float(i)).abs() <= 1e-6 * scale, "{} is not {}", y.float(i), x.float(i));
        }
    }
}

#[test]
fn sibling_products_become_one() {
    let m = llama::module(&TINY);
    let only =
        Options { without: vec![Group::Detect, Group::MatMul, Group::Layout, Group::Canon], ..Options::default() };
    for (entry, symbols) in [(0, vec![7, 5]), (1, vec![9])] {
        let before = &m.functions[entry];
        let (after, report) = optimise(&m, entry, &only);
        // q, k and v; o; gate and up; down; and the head at the end.
        assert_eq!(count(&after, "matmul"), 4 * TINY.layers + 1);
        assert_eq!(report.count("merge-siblings"), 5 * TINY.layers);
        for node in after.nodes.iter().filter(|n| matches!(n.op, Op::Slice { .. })) {
            assert_eq!(after.node(node.inputs[0]).op.name(), "matmul");
        }
        same(&m, before, &after, &symbols);
    }
}

#[test]
fn merging_reaches_fewer_kernels() {
    let m = llama::module(&Config { layers: 1, ..TINY });
    let (f, _) = optimise(&m, 0, &Options::default());
    let sources = Module { functions: vec![f], ..m };
    let (joined, _) = mlxc_passes::storage::join_weights(&sources).unwrap();
    assert_eq!(count(&joined.functions[0], "concat"), 0);
    let profile = mlxc_codegen::profiles::by_name("x86-64-v4-bf16").unwrap();
    let (_, p, _) = mlxc_tests::kernels::kernels(&joined.functions[0], &profile, true);
    assert!(p.groups.len() <= 10, "{} kernels", p.groups.len());
}

#[test]
fn the_same_function_gives_the_same_result() {
    let m = llama::module(&Config { dtype: DType::BF16, composites: false, ..TINY });
    let (a, r) = optimise(&m, 0, &Options::default());
    let (b, s) = optimise(&m, 0, &Options::default());
    assert_eq!((a, r), (b, s));
}

#[test]
fn a_cap_is_a_warning() {
    let m = llama::module(&TINY);
    let f = canonicalise(&m.functions[0]).unwrap();
    let (g, report) = saturate(&f, &Options { nodes: 20, ..Options::default() }).unwrap();
    assert_eq!(report.warnings.iter().map(|d| d.id).collect::<Vec<_>>(), [331]);
    same(&m, &f, &g, &[3, 2]);
    let (_, report) = saturate(&f, &Options { iterations: 1, ..Options::default() }).unwrap();
    assert_eq!(report.warnings.len(), 1);
}

#[test]
fn a_model_in_primitives_becomes_one_in_composites() {
    for dtype in [DType::F32, DType::BF16] {
        let written = llama::module(&Config { composites: false, dtype, ..TINY });
        let wanted = llama::module(&Config { dtype, ..TINY });
        for (entry, symbols) in [(0, vec![7, 5]), (1, vec![9])] {
            let (f, report) = optimise(&written, entry, &Options::default());
            let (g, _) = optimise(&wanted, entry, &Options::default());
            for name in ["sdpa", "rms_norm", "gated", "rope", "matmul", "softmax", "select", "rsqrt", "cast"] {
                assert_eq!(count(&f, name), count(&g, name), "{name} {dtype} {entry}: {:?}", report.fired);
            }
            assert!(report.cost_after < report.cost_before);
            same(&written, &written.functions[entry], &f, &symbols);
        }
        let exact = Options { numerics: Numerics::Exact, ..Options::default() };
        let (f, _) = optimise(&written, 0, &exact);
        assert_eq!((count(&f, "sdpa"), count(&f, "rms_norm"), count(&f, "gated")), (0, 0, 0));
    }
}

#[test]
fn deep_models_saturate_without_outlining() {
    let m = llama::module(&Config { layers: 32, composites: false, ..TINY });
    let (f, report) = optimise(&m, 0, &Options::default());
    assert!(report.nodes < 4000, "{} nodes", report.nodes);
    assert_eq!((count(&f, "sdpa"), count(&f, "gated"), count(&f, "rms_norm")), (32, 32, 65));
    assert_eq!(count(&f, "matmul"), 4 * 32 + 1);
}

#[test]
fn random_functions_keep_their_meaning() {
    let mut changed = 0;
    for seed in 0..400 {
        let f = mlxc_tests::random::function(seed, 30);
        let (g, report) = saturate(&f, &Options::default()).unwrap_or_else(|e| panic!("{seed}: {e}"));
        changed += usize::from(!report.fired.is_empty());
        let args = arguments(&f, &[], seed);
        let module = Module::default();
        for (x, y) in results(&module, &f, &args).iter().zip(results(&module, &g, &args)) {
            assert_eq!((x.dtype, &x.shape), (y.dtype, &y.shape));
            for i in 0..x.len() {
                let (a, b) = (x.float(i), y.float(i));
                let near = (a - b).abs() <= 1e-9 * a.abs().max(1.0) || a == b || a.is_nan() && b.is_nan();
                assert!(near, "{seed}: {a} is not {b}: {:?}", report.fired);
            }
        }
    }
    assert!(changed > 200, "{changed} functions changed");
}
