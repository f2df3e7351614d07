//! Answers of compiled models, and of partitions that are written out.

use super::names::Names;
use super::why::{Answer, print, why_not};
use super::{Computed, Reason, Reasons, collect};
use crate::pipeline::{Compiled, Options, compile};
use crate::trace::{Context, trace};
use mlxc_ir::DType::F32;
use mlxc_package::plan::Plan;

fn compiled(model: impl FnOnce(&Context)) -> Compiled {
    let module = trace("e", model).unwrap_or_else(|e| panic!("{e}"));
    compile(&module, &Options::for_target("x86-64-v3").unwrap()).unwrap_or_else(|e| panic!("{e}"))
}

/// The answers for two names, and their text.
fn ask(c: &Compiled, a: &str, b: &str) -> (Vec<Answer>, String) {
    let reasons = collect(c);
    let plan = &c.scheduled.plan;
    let stages = vec![("decompose", &c.decomposed), ("canonical", &c.canonical), ("trace", &c.traced)];
    let answers =
        why_not(&Names { reasons: &reasons, plan, stages, entry: None }, a, b).unwrap_or_else(|e| panic!("{e}"));
    let text = print(&answers, a, b, plan);
    (answers, text)
}

/// Three products in a row, with a norm before them.
fn three(cx: &Context) {
    let x = cx.input("x", F32, [4, 64]);
    let w = |n: &str| cx.weight(n, F32, [64, 64]);
    let normed = x.rms_norm(Some(&cx.weight("scale", F32, [64])), 1e-5).named("normed");
    let first = normed.matmul(&w("a.weight")).named("first");
    let shifted = (&first + 1.0).exp().named("shifted");
    let second = shifted.matmul(&w("b.weight")).named("second");
    let third = second.matmul(&w("c.weight")).named("third");
    cx.output("y", &third);
}

#[test]
fn values_of_one_kernel_are_said_to_be() {
    let c = compiled(three);
    let (answers, text) = ask(&c, "first", "shifted");
    assert!(matches!(&answers[..], [Answer::Together { function, .. }] if function == "e"), "{text}");
    assert!(
        text.contains("one kernel has both: `first`") && text.contains("fused:") && text.contains("matmul"),
        "{text}"
    );
    // By a kernel's name and by a weight's.
    assert!(matches!(ask(&c, "shifted", "a.weight").0[..], [Answer::Together { .. }]));
}

#[test]
fn refused_merges_have_their_reason_and_figures() {
    let c = compiled(three);
    for (a, b) in [("second", "third"), ("third", "second"), ("b.weight", "c.weight"), ("second", "c.weight")] {
        let (answers, text) = ask(&c, a, b);
        let [Answer::Refused { kernels, merges, .. }] = &answers[..] else { panic!("{a}, {b}: {text}") };
        // Their kernels are equal, and listed once: what they are launched for tells them apart.
        let mut outputs: Vec<String> = kernels.iter().flat_map(|k| k.outputs.clone()).collect();
        outputs.sort();
        assert_eq!(outputs, ["second", "third"], "{text}");
        assert!(text.contains("`second` for `third`"), "{text}");
        assert!(text.contains(&format!("[{}]", merges[0].code)) && text.contains("two kernels"), "{text}");
    }
}

#[test]
fn a_chain_has_a_reason_at_each_seam() {
    let (answers, text) = ask(&compiled(three), "first", "third");
    let [Answer::Chain { kernels, seams, .. }] = &answers[..] else { panic!("{text}") };
    let outputs: Vec<&str> = kernels.iter().map(|k| k.outputs[0].as_str()).collect();
    assert!(outputs[1..] == ["second", "third"], "{text}");
    assert!(seams.len() == 2 && seams.iter().all(Option::is_some), "{text}");
    assert!(text.contains("`first` -> `second` for `second`: "), "{text}");
}

#[test]
fn names_of_other_stages_are_found_by_their_place() {
    let c = compiled(three);
    // A composite that is primitives by then, as it is called in the traced graph, and a result.
    let norm = c.traced.functions[0].nodes.iter().position(|n| n.op.name() == "rms_norm").unwrap();
    let f = c.traced.functions[0].clone();
    let mut unnamed = c.traced.clone();
    unnamed.functions[0].nodes[norm].name = None;
    let name = unnamed.functions[0].value_name(mlxc_ir::graph::ValueId::of(norm));
    assert!(f.node(f.results[0].value).name.is_some());
    let reasons = collect(&c);
    let names = Names { reasons: &reasons, plan: &c.scheduled.plan, stages: vec![("trace", &unnamed)], entry: None };
    let found = names.find(&name).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.kernels, names.find("normed").unwrap_or_else(|e| panic!("{e}")).kernels);
    assert!(matches!(ask(&c, "y", "third").0[..], [Answer::Together { .. }]));
}

#[test]
fn values_without_a_kernel_and_unknown_names_are_told_apart() {
    let c = compiled(|cx| {
        let x = cx.input("x", F32, [4, 8]);
        let folded = (cx.full([8], 2.0, F32) * 3.0).named("folded");
        cx.output("y", &(&x * folded).named("scaled"));
    });
    let (answers, text) = ask(&c, "folded", "scaled");
    assert!(matches!(answers[..], [Answer::Absent { .. } | Answer::Together { .. }]), "{text}");
    let reasons = collect(&c);
    let names = Names { reasons: &reasons, plan: &c.scheduled.plan, stages: Vec::new(), entry: None };
    let e = names.find("scald").unwrap_err();
    assert_eq!(e.id, 965);
    assert!(e.expected.is_some_and(|x| x.starts_with("a name such as `scaled`")));
}

fn kernel(function: &str, name: &str, inputs: &[&str], reads: &[u32]) -> Computed {
    Computed {
        function: function.into(),
        kernel: name.into(),
        values: vec![format!("{name}_value")],
        places: vec![String::new()],
        outputs: vec![format!("{name}_value")],
        inputs: inputs.iter().map(ToString::to_string).collect(),
        reads: reads.to_vec(),
        passed: None,
    }
}

fn call(function: &str, block: &str, passed: &[(&str, &str)], reads: &[u32]) -> Computed {
    let passed: Vec<(String, String)> = passed.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    Computed { passed: Some(passed), ..kernel(function, block, &[], reads) }
}

/// Answers of kernels that are written out.
fn of(kernels: Vec<Computed>, merges: Vec<Reason>, entry: Option<&str>, a: &str, b: &str) -> (Vec<Answer>, String) {
    let (reasons, plan) = (Reasons { merges, kernels }, Plan::default());
    let answers = why_not(&Names { reasons: &reasons, plan: &plan, stages: Vec::new(), entry }, a, b).unwrap();
    let text = print(&answers, a, b, &plan);
    (answers, text)
}

#[test]
fn kernels_without_a_way_between_them_are_apart() {
    let two = |inputs: &[&str]| vec![kernel("e", "a", &["x"], &[]), kernel("e", "b", inputs, &[])];
    let (answers, text) = of(two(&["x", "w"]), Vec::new(), None, "a", "b");
    assert!(matches!(&answers[..], [Answer::Apart { both_read, .. }] if both_read == &["x"]), "{text}");
    let (answers, text) = of(two(&["w"]), Vec::new(), None, "a", "b");
    assert!(matches!(&answers[..], [Answer::Apart { both_read, .. }] if both_read.is_empty()), "{text}");
    assert!(text.contains("nothing is read by both"), "{text}");
}

#[test]
fn blocks_and_other_functions_are_named() {
    let all = || {
        vec![
            kernel("e", "a", &["w.0"], &[]),
            call("e", "e.block", &[("w.1", "w")], &[0]),
            call("e", "e.block", &[("w.2", "w")], &[1]),
            kernel("e", "c", &[], &[2]),
            kernel("e.block", "b", &["w"], &[]),
            kernel("f", "d", &["w.0"], &[]),
        ]
    };
    let (answers, text) = of(all(), Vec::new(), None, "a", "b");
    assert!(matches!(&answers[..], [Answer::Block { block, .. }] if block == "e.block"), "{text}");
    // A weight of the second repetition is read by the block's kernel.
    assert_eq!(of(all(), Vec::new(), None, "w.2", "a").0, answers);
    let (answers, text) = of(all(), Vec::new(), None, "a", "d");
    assert!(matches!(answers[..], [Answer::Elsewhere { .. }]), "{text}");
    // Both functions read it; one entry may be asked for.
    let (answers, text) = of(all(), Vec::new(), Some("f"), "w.0", "d");
    assert!(matches!(&answers[..], [Answer::Together { function, .. }] if function == "f"), "{text}");
    let (answers, text) = of(all(), Vec::new(), None, "a", "c");
    let [Answer::Chain { kernels, seams, .. }] = &answers[..] else { panic!("{text}") };
    let way: Vec<&str> = kernels.iter().map(|k| k.kernel.as_str()).collect();
    assert!(way == ["a", "e.block", "e.block", "c"] && seams.iter().all(Option::is_none));
    assert_eq!(text.matches("kernels do not reach into a block").count(), 3, "{text}");
}

#[test]
fn merges_are_told_newest_first_and_matched_by_their_values() {
    let reason = |first: &str, second: &str, text: &str| Reason {
        function: "e".into(),
        first: vec![first.into()],
        second: vec![second.into()],
        code: "cost".into(),
        text: text.into(),
        apart_seconds: 2e-6,
        together_seconds: Some(3e-6),
        peak_bytes: Some([100, 200]),
    };
    let mut kernels = vec![kernel("e", "a", &[], &[]), kernel("e", "b", &[], &[0]), kernel("e", "c", &[], &[1])];
    kernels[0].values.push("more".into());
    let merges = vec![
        reason("a_value", "b_value", "old"),
        reason("more", "b_value", "new"),
        reason("b_value", "c_value", "other"),
    ];
    let (answers, text) = of(kernels.clone(), merges.clone(), None, "a", "b");
    let [Answer::Refused { merges: said, .. }] = &answers[..] else { panic!("{text}") };
    assert_eq!(said.iter().map(|r| r.text.as_str()).collect::<Vec<_>>(), ["new", "old"]);
    assert!(
        text.contains("two kernels 2.00 µs, one 3.00 µs; 100 bytes live at the peak with two, 200 with one"),
        "{text}"
    );
    // A page shows a merge with the kernels around it, and none whose sides came together.
    let reasons = Reasons { merges, kernels };
    let around = |i: usize| reasons.around(&reasons.merges[i]).iter().map(|k| k.kernel.clone()).collect::<Vec<_>>();
    assert_eq!((around(1), around(2)), (vec!["a".to_string(), "b".into()], vec!["b".to_string(), "c".into()]));
    let mut together = reasons.clone();
    together.kernels[0].values.push("b_value".into());
    assert!(together.around(&together.merges[0]).is_empty());
}
