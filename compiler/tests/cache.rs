//! The kernel cache as a folder: what is found, what is replaced, what goes first, and several writers at once.

#![allow(clippy::unwrap_used)]

use mlxc::cache::{Contents, KernelCache, LIMIT_BYTES};
use mlxc_codegen::llvm::CodeStore;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

fn key(n: usize) -> String {
    format!("{n:064x}")
}

fn at(folder: &Path, n: usize) -> PathBuf {
    folder.join(key(n))
}

/// Makes an entry look as if it had been used so many seconds after the first moment.
fn used(folder: &Path, n: usize, second: u64) {
    let file = fs::File::options().write(true).open(at(folder, n)).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
}

#[test]
fn what_was_kept_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("not/yet");
    let cache = KernelCache::new(&inside, LIMIT_BYTES);
    assert_eq!(cache.find(&key(1)), None);
    assert_eq!(cache.contents().unwrap(), Contents::default());
    cache.keep(&key(1), b"one");
    cache.keep(&key(2), b"");
    assert_eq!(cache.find(&key(1)).as_deref(), Some(&b"one"[..]));
    assert_eq!(cache.find(&key(2)).as_deref(), Some(&b""[..]));
    assert_eq!(cache.find(&key(3)), None);
    cache.keep(&key(1), b"anew");
    assert_eq!(cache.find(&key(1)).as_deref(), Some(&b"anew"[..]));
    let contents = KernelCache::new(&inside, LIMIT_BYTES).contents().unwrap();
    assert_eq!(contents, Contents { entries: 2, bytes: 2 * 128 + 4 });
}

#[test]
fn a_damaged_or_misplaced_entry_is_none_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::new(folder.path(), LIMIT_BYTES);
    cache.keep(&key(1), b"some code");
    let whole = fs::read(at(folder.path(), 1)).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..0], &whole[..70], &whole[..whole.len() - 1], &flipped] {
        fs::write(at(folder.path(), 1), damaged).unwrap();
        assert_eq!(cache.find(&key(1)), None);
        cache.keep(&key(1), b"some code");
        assert_eq!(fs::read(at(folder.path(), 1)).unwrap(), whole);
    }
    fs::rename(at(folder.path(), 1), at(folder.path(), 2)).unwrap();
    assert_eq!(cache.find(&key(2)), None, "the code of another kernel");
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let entry = 128 + 1000;
    let cache = KernelCache::new(folder.path(), 8 * entry);
    for n in 0..8 {
        cache.keep(&key(n), &[n as u8; 1000]);
        used(folder.path(), n, 100 + n as u64);
    }
    // A hit makes the oldest the newest.
    assert!(cache.find(&key(0)).is_some());
    cache.keep(&key(8), &[8; 1000]);
    let left: Vec<usize> = (0..9).filter(|n| at(folder.path(), *n).exists()).collect();
    assert_eq!(left, [0, 3, 4, 5, 6, 7, 8]);
    assert!(cache.contents().unwrap().bytes <= cache.limit());
    // What is larger than the whole cache is not kept, and nothing goes for it.
    cache.keep(&key(9), &[9; 9000]);
    assert_eq!(cache.contents().unwrap().entries, 7);
    // A lower limit holds from the next write on; what is written stays.
    let small = KernelCache::new(folder.path(), entry);
    small.keep(&key(10), &[10; 1000]);
    assert_eq!(small.contents().unwrap(), Contents { entries: 1, bytes: entry });
    assert!(small.find(&key(10)).is_some());
}

#[test]
fn leftovers_of_ended_writers_count_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::new(folder.path(), 3000);
    let left = folder.path().join(format!("{}.77-0.partial", key(5)));
    fs::write(&left, [0; 2000]).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    fs::File::options().write(true).open(&left).unwrap().set_modified(old).unwrap();
    assert_eq!(cache.contents().unwrap(), Contents { entries: 0, bytes: 2000 });
    cache.keep(&key(1), &[1; 1500]);
    assert!(!left.exists());
    assert_eq!(cache.contents().unwrap().entries, 1);
}

#[test]
fn clearing_leaves_the_files_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::new(folder.path(), LIMIT_BYTES);
    for n in 0..5 {
        cache.keep(&key(n), b"code");
    }
    for other in ["notes.txt", "0123", &format!("{}.txt", key(1)), &"g".repeat(64)] {
        fs::write(folder.path().join(other), b"mine").unwrap();
    }
    assert_eq!(cache.clear().unwrap(), Contents { entries: 5, bytes: 5 * 132 });
    assert_eq!(cache.contents().unwrap(), Contents::default());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    assert_eq!(KernelCache::new(folder.path().join("none"), 1).clear().unwrap(), Contents::default());
}

#[test]
fn a_folder_that_is_none_is_an_error_to_list_and_no_error_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let cache = KernelCache::new(&file, LIMIT_BYTES);
    cache.keep(&key(1), b"code");
    cache.keep(&key(2), b"code");
    assert_eq!(cache.find(&key(1)), None);
    assert_eq!(cache.contents().map_err(|d| d.id), Err(992));
    assert_eq!(cache.clear().map_err(|d| d.id), Err(992));
}

/// Code of a key: long enough that writing takes a while.
fn code_of(n: usize) -> Vec<u8> {
    (0..40_000 + n).map(|i| (i * (n + 3)) as u8).collect()
}

#[test]
fn threads_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    // So small that entries go while others read them.
    let limit = 5 * 41_000;
    std::thread::scope(|scope| {
        for t in 0..8 {
            let cache = KernelCache::new(folder.path(), limit);
            scope.spawn(move || {
                for i in 0..60 {
                    let n = (i * 7 + t) % 9;
                    match cache.find(&key(n)) {
                        Some(code) => assert!(code == code_of(n)),
                        None => cache.keep(&key(n), &code_of(n)),
                    }
                    if i % 20 == 19 && t == 0 {
                        cache.clear().unwrap();
                    }
                }
            });
        }
    });
    let cache = KernelCache::new(folder.path(), limit);
    cache.keep(&key(9), &code_of(9));
    assert!(cache.contents().unwrap().bytes <= limit);
}

const GRAPH: &str = r#"entry "double" {
  size N in 0..=16
  param "x": f32[N, 3] input
  %0 = param {index: 0} (): f32[N, 3]
  %1 = add (%0, %0): f32[N, 3] "twice"
  %2 = exp (%1): f32[N, 3] "powers"
  %3 = sum {axes: [1], keepdims: false} (%2): f32[N] "total"
  result "y" = %1
  result "z" = %3
}
"#;

/// The program with a cache of its own.
fn mlxc(cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mlxc"));
    command.args(args).env("MLXC_CACHE", cache).env_remove("MLXC_CACHE_BYTES").env_remove("RUST_LOG");
    command
}

fn ok(mut command: Command) -> Output {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out
}

fn entries(cache: &Path) -> u64 {
    let out = ok(mlxc(cache, &["cache", "--json"]));
    let out: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(out["folder"], cache.join("kernels").to_str().unwrap());
    out["entries"].as_u64().unwrap()
}

#[test]
fn packages_are_the_same_bytes_cold_warm_and_without_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let graph = folder.path().join("double.graph");
    fs::write(&graph, GRAPH).unwrap();
    let compile = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let args = [&["compile", graph.to_str().unwrap(), "-o", out.to_str().unwrap(), "--log", "info"], more].concat();
        let log = String::from_utf8(ok(mlxc(&cache, &args)).stderr).unwrap();
        (fs::read(out).unwrap(), log)
    };
    let (off, log) = compile("off.mlxc", &["--no-cache"]);
    assert!(!log.contains("compiled before"), "{log}");
    assert!(!cache.exists());
    let (cold, log) = compile("cold.mlxc", &[]);
    let kernels = entries(&cache);
    assert!(kernels > 0);
    assert!(log.contains(&format!("0 of {kernels} kernels were compiled before")), "{log}");
    let (warm, log) = compile("warm.mlxc", &[]);
    assert!(log.contains(&format!("{kernels} of {kernels} kernels were compiled before")), "{log}");
    assert!(off == cold && cold == warm);
    // Another target's kernels are other kernels.
    compile("v2.mlxc", &["--target", "x86-64-v2"]);
    assert_eq!(entries(&cache), 2 * kernels);
    // Damage to all of them costs time alone.
    for file in fs::read_dir(cache.join("kernels")).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let (damaged, log) = compile("damaged.mlxc", &[]);
    assert!(log.contains(&format!("0 of {kernels} kernels were compiled before")), "{log}");
    assert!(damaged == cold);
    let (mended, log) = compile("mended.mlxc", &[]);
    assert!(log.contains(&format!("{kernels} of {kernels} kernels were compiled before")), "{log}");
    assert!(mended == cold);
    let out = ok(mlxc(&cache, &["cache", "--clear"]));
    let out = String::from_utf8(out.stdout).unwrap();
    assert!(out.starts_with(&format!("removed {} kernels, ", 2 * kernels)), "{out}");
    assert_eq!(entries(&cache), 0);
}

#[test]
fn two_processes_fill_one_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let graph = folder.path().join("double.graph");
    fs::write(&graph, GRAPH).unwrap();
    let start = |name: usize| -> Child {
        let out = folder.path().join(format!("{name}.mlxc"));
        let args = ["compile", graph.to_str().unwrap(), "-o", out.to_str().unwrap()];
        mlxc(&cache, &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = (0..4).map(start).collect();
    for child in running {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let package = |n: usize| fs::read(folder.path().join(format!("{n}.mlxc"))).unwrap();
    assert!((1..4).all(|n| package(n) == package(0)));
    assert!(entries(&cache) > 0);
    let mut names = fs::read_dir(cache.join("kernels")).unwrap().map(|f| f.unwrap().file_name());
    assert!(names.all(|n| n.len() == 64), "nothing half written is left");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("double.graph");
    fs::write(&graph, GRAPH).unwrap();
    // A file where the folder would be: root may write anywhere else.
    let cache = folder.path().join("cache");
    fs::write(&cache, b"").unwrap();
    let out = ok(mlxc(&cache, &["inspect", graph.to_str().unwrap()]));
    let log = String::from_utf8(out.stderr).unwrap();
    assert_eq!(log.matches("MLXC0990").count(), 1, "{log}");
    assert!(!out.stdout.is_empty());
    let out = mlxc(&cache, &["cache"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("MLXC0992"));
}

#[test]
fn the_environment_turns_it_off_and_limits_it() {
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("double.graph");
    fs::write(&graph, GRAPH).unwrap();
    let graph = graph.to_str().unwrap();
    let off = |args: &[&str]| {
        let mut command = mlxc(Path::new("off"), args);
        command.env("XDG_CACHE_HOME", folder.path()).env("HOME", folder.path());
        String::from_utf8(ok(command).stdout).unwrap()
    };
    off(&["inspect", graph]);
    assert_eq!(off(&["cache"]), "the kernel cache is off\n");
    assert_eq!(off(&["cache", "--json"]), "{\n  \"folder\": null\n}\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the graph alone");
    // Without the variable, among the user's caches.
    if cfg!(target_os = "linux") {
        let mut command = mlxc(Path::new(""), &["inspect", graph]);
        command.env_remove("MLXC_CACHE").env("XDG_CACHE_HOME", folder.path().join("caches"));
        ok(command);
        assert!(fs::read_dir(folder.path().join("caches/mlxc/kernels")).unwrap().count() > 0);
    }
    let cache = folder.path().join("cache");
    let mut small = mlxc(&cache, &["inspect", graph]);
    small.env("MLXC_CACHE_BYTES", "10");
    ok(small);
    assert_eq!(entries(&cache), 0);
    for command in [&["cache"][..], &["inspect", graph]] {
        let mut wrong = mlxc(&cache, command);
        let out = wrong.env("MLXC_CACHE_BYTES", "1 GiB").output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains("MLXC0991"));
    }
}
