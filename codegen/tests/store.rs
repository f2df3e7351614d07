//! Code that is kept and found again: the same bytes with a store that is empty, full, damaged or absent, and a kernel that is
//! compiled exactly when something that decides its code is new.

#![allow(clippy::unwrap_used)]

mod run;

use mlxc_codegen::legalise::{Legal, legalise};
use mlxc_codegen::llvm::{CodeStore, CpuCode, Options, compile};
use mlxc_codegen::profiles;
use run::kernel;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A store in memory that counts.
#[derive(Debug, Default)]
struct Kept {
    entries: Mutex<BTreeMap<String, Vec<u8>>>,
    written: Mutex<usize>,
}

impl CodeStore for Kept {
    fn find(&self, key: &str) -> Option<Vec<u8>> {
        self.entries.lock().unwrap().get(key).cloned()
    }

    fn keep(&self, key: &str, code: &[u8]) {
        *self.written.lock().unwrap() += 1;
        self.entries.lock().unwrap().insert(key.into(), code.into());
    }
}

impl Kept {
    /// Kernels that were compiled since the last call.
    fn compiled(&self) -> usize {
        std::mem::take(&mut self.written.lock().unwrap())
    }
}

const PROFILES: [&str; 7] =
    ["x86-64-v4-amx", "x86-64-v4-fp16", "x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2", "aarch64-neon"];

/// A kernel of two phases.
fn text(name: &str, factor: &str, width: u32) -> String {
    format!(
        "kernel {name} {{
          sym N in 1..=4096
          buf x: f32[N, {width}] read
          buf y: f32[N, {width}] update
          phase head grid(n: N) {{ y[n, 0 +: {width}] = exp(x[n, 0 +: {width}]) * {factor} }}
          phase tail grid(n: N) {{ y[n, 0 +: {width}] = y[n, 0 +: {width}] + x[n, 0 +: {width}] }}
        }}"
    )
}

fn legal(text: &str, profile: &str) -> Legal {
    legalise(&kernel(text), &profiles::by_name(profile).unwrap()).unwrap()
}

fn code(kernels: &[Legal], profile: &str, threads: usize, store: Option<&dyn CodeStore>) -> CpuCode {
    compile(kernels, &profiles::by_name(profile).unwrap(), &Options { threads, store }).unwrap()
}

#[test]
fn code_is_the_same_cold_warm_and_without_a_store() {
    let store = Kept::default();
    for profile in PROFILES {
        let kernels: Vec<Legal> =
            (0..5).map(|i| legal(&text(&format!("k{i}"), &format!("{i}.5"), 16), profile)).collect();
        let off = code(&kernels, profile, 2, None);
        let cold = code(&kernels, profile, 1, Some(&store));
        assert_eq!(store.compiled(), 5, "{profile}: nothing is shared between targets");
        let warm = code(&kernels, profile, 3, Some(&store));
        assert_eq!(store.compiled(), 0, "{profile}");
        assert!(off == cold && cold == warm, "{profile}");
        assert_eq!(warm.phases.len(), 10);
        assert!(warm.phases.iter().all(|p| warm.blob.offset(&p.symbol).is_some()));
    }
}

#[test]
fn a_kernel_is_compiled_when_it_changes_and_only_then() {
    let store = Kept::default();
    let number = |text: &str, profile: &str| {
        code(&[legal(text, profile)], profile, 1, Some(&store));
        store.compiled()
    };
    let base = text("base", "1.5", 16);
    assert_eq!(number(&base, "x86-64-v3"), 1);
    assert_eq!(number(&base, "x86-64-v3"), 0);
    // Names do not decide code.
    assert_eq!(number(&text("another", "1.5", 16), "x86-64-v3"), 0);
    let renamed = base.replace("head", "one").replace("tail", "two").replace("x[", "input[");
    assert_eq!(number(&renamed.replace("buf x", "buf input"), "x86-64-v3"), 0);
    // These do.
    assert_eq!(number(&text("base", "2.5", 16), "x86-64-v3"), 1);
    assert_eq!(number(&text("base", "1.5", 8), "x86-64-v3"), 1);
    assert_eq!(number(&base.replace("N in 1..=4096", "N in 1..=4095").replace("+ x", "- x"), "x86-64-v3"), 1);
    for profile in ["x86-64-v4-bf16", "x86-64-v4", "x86-64-v2", "aarch64-neon"] {
        assert_eq!(number(&base, profile), 1, "{profile}");
        assert_eq!(number(&base, profile), 0, "{profile}");
    }
}

#[test]
fn a_found_kernel_has_its_own_names() {
    let store = Kept::default();
    let one = code(&[legal(&text("one", "1.5", 16), "x86-64-v3")], "x86-64-v3", 1, Some(&store));
    let other = code(&[legal(&text("other", "1.5", 16), "x86-64-v3")], "x86-64-v3", 1, Some(&store));
    assert_eq!(one.blob.bytes, other.blob.bytes);
    let symbols = |c: &CpuCode| c.blob.symbols.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(symbols(&one), ["one__head", "one__tail"]);
    assert_eq!(symbols(&other), ["other__head", "other__tail"]);
    assert_eq!(other.phases[1].symbol, "other__tail");
}

#[test]
fn an_entry_that_is_no_code_is_replaced() {
    let store = Kept::default();
    let kernels = [legal(&text("k", "1.5", 16), "x86-64-v3")];
    let first = code(&kernels, "x86-64-v3", 1, Some(&store));
    let key = store.entries.lock().unwrap().keys().next().unwrap().clone();
    let whole = store.find(&key).unwrap();
    store.compiled();
    for damaged in [Vec::new(), vec![0; 8], vec![0xFF; whole.len()], whole[..24].to_vec()] {
        store.entries.lock().unwrap().insert(key.clone(), damaged);
        assert!(code(&kernels, "x86-64-v3", 1, Some(&store)) == first);
        assert_eq!(store.compiled(), 1);
        assert!(store.find(&key).unwrap() == whole);
    }
}
