//! Compiling: many kernels in a few translation units, those that were compiled before not again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::source::Source;
use crate::{Binding, Failure, Launch, Machine, Order};

/// Kernels of a translation unit.
const BATCH: usize = 24;

/// What a build looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Address spaces, conversions, threads that do not meet, orders.
    Strict,
    /// Accesses beyond buffers and arrays, vectors that are not aligned. Address spaces are flat.
    Checked,
}

impl Build {
    fn name(self) -> &'static str {
        match self {
            Build::Strict => "strict",
            Build::Checked => "checked",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Build::Strict => &["-O1", "-ftrivial-auto-var-init=pattern"],
            Build::Checked => &[
                "-O1",
                "-gline-tables-only",
                "-DGATE_FLAT",
                "-fsanitize=address,alignment",
                "-fno-sanitize-recover=all",
                "-fsanitize-address-use-after-return=never",
            ],
        }
    }
}

const FLAGS: &[&str] = &[
    "-std=c++17",
    "-x",
    "c++",
    "-fPIC",
    "-ffp-contract=off",
    "-Xclang",
    "-ffloat16-excess-precision=none",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-math-errno",
    "-fno-lax-vector-conversions",
    "-fsigned-char",
    "-nostdinc",
    "-nostdinc++",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wimplicit-float-conversion",
    "-Wimplicit-int-conversion",
    "-Wimplicit-int-float-conversion",
    "-Wshorten-64-to-32",
    "-Wdouble-promotion",
    "-Wno-unknown-pragmas",
    "-Wno-pass-failed",
    "-Wno-unused-parameter",
    "-Wno-unused-variable",
    "-Wno-unused-but-set-variable",
    "-Wno-unused-function",
    "-Wno-unknown-attributes",
    "-Wno-ignored-attributes",
    "-Wno-psabi",
    "-Wno-tautological-compare",
];

const FILES: [(&str, &str); 3] = [
    ("metal_stdlib", include_str!("../shim/metal_stdlib")),
    ("metal_simdgroup_matrix", include_str!("../shim/metal_simdgroup_matrix")),
    ("fibers.cpp", include_str!("../shim/fibers.cpp")),
];

/// Compiles kernels.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What was compiled before, by the hash of text, library and flags.
    folder: PathBuf,
}

impl Gate {
    /// A gate that keeps what it compiles beside the running program, or in the folder `MLXC_MSL_CACHE`.
    ///
    /// # Errors
    /// [`Failure::Tool`] with the command that installs what is missing.
    pub fn new() -> Result<Gate, Failure> {
        for (tool, flag) in [("clang-19", "--version"), ("clang++-19", "--version"), ("ld.lld-19", "--version")] {
            if !Command::new(tool).arg(flag).output().is_ok_and(|o| o.status.success()) {
                let install = "apt-get update && apt-get install -y clang-19 lld-19 libclang-rt-19-dev";
                return Err(Failure::Tool(format!("`{tool}` is missing: run `{install}`")));
            }
        }
        let beside = || std::env::current_exe().ok().and_then(|p| p.parent().map(|p| p.join("msl-gate")));
        let folder = std::env::var_os("MLXC_MSL_CACHE").map(PathBuf::from).or_else(beside);
        let gate = Gate { folder: folder.unwrap_or_else(|| std::env::temp_dir().join("mlxc-msl-gate")) };
        std::fs::create_dir_all(gate.shim())?;
        for (name, text) in FILES {
            write(&gate.shim().join(name), text.as_bytes())?;
        }
        Ok(gate)
    }

    /// Where the library of this version lies.
    fn shim(&self) -> PathBuf {
        let all: String = FILES.iter().map(|(_, text)| *text).collect();
        self.folder.join(hash(&[&all, &FLAGS.join(" ")]))
    }

    /// Compiles kernels, each a name for messages and a module's text.
    ///
    /// # Errors
    /// [`Failure::Rule`] and [`Failure::Compile`] for the first kernel that does not pass.
    pub fn compile(&self, kernels: &[(&str, &str)], build: Build) -> Result<Library, Failure> {
        let folder = self.shim().join(build.name());
        std::fs::create_dir_all(&folder)?;
        let runner = self.runner(build, &folder)?;
        let mut all: BTreeMap<String, Kernel> = BTreeMap::new();
        let mut missing: BTreeMap<String, (&str, Source<'_>)> = BTreeMap::new();
        for (name, text) in kernels {
            let source = Source::new(name, text)?;
            let symbol = format!("gate_{}", hash(&[text, &build.flags().join(" ")]));
            let known = std::fs::read_to_string(folder.join(&symbol)).ok().map(|file| folder.join(file));
            let file = known.filter(|f| f.exists()).unwrap_or_default();
            let compiled = file.as_os_str().is_empty();
            let kernel = Kernel { file, symbol: symbol.clone(), buffers: source.buffers() };
            if let Some(other) = all.insert(source.entry.clone(), kernel)
                && other.symbol != symbol
            {
                return Err(Failure::Launch(format!("two kernels are called `{}`", source.entry)));
            }
            if compiled {
                missing.insert(symbol, (name, source));
            }
        }
        let missing: Vec<_> = missing.iter().collect();
        // No more in one than there are to do for each of two cores.
        let batch = missing.len().div_ceil(2).clamp(1, BATCH);
        let made: Vec<(String, PathBuf)> = missing
            .par_chunks(batch)
            .map(|batch| self.batch(batch, build, &folder))
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        for (symbol, file) in made {
            for kernel in all.values_mut().filter(|k| k.symbol == symbol) {
                kernel.file.clone_from(&file);
            }
        }
        Ok(Library { runner, kernels: Arc::new(all) })
    }

    fn batch(
        &self,
        kernels: &[(&String, &(&str, Source<'_>))],
        build: Build,
        folder: &Path,
    ) -> Result<Vec<(String, PathBuf)>, Failure> {
        let mut text = "#include <metal_stdlib>\n#include <metal_simdgroup_matrix>\n".to_string();
        for (symbol, (name, source)) in kernels {
            text.push_str(&source.translated(&format!("{name}.metal"), symbol, build == Build::Checked));
        }
        let name = format!("{}.so", hash(&[&text]));
        let (input, output) = (fresh(folder, "cpp"), fresh(folder, "so"));
        std::fs::write(&input, &text)?;
        let mut clang = Command::new("clang-19");
        clang.args(FLAGS).args(build.flags()).arg("-I").arg(self.shim()).arg(&input).arg("-o").arg(&output);
        clang.args(["-shared", "--rtlib=compiler-rt", "-fuse-ld=lld", "-lm"]);
        let done = finish(clang);
        std::fs::remove_file(&input)?;
        done?;
        let file = folder.join(name);
        std::fs::rename(&output, &file)?;
        let base = file.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
        for (symbol, _) in kernels {
            write(&folder.join(symbol), &base)?;
        }
        Ok(kernels.iter().map(|(symbol, _)| ((*symbol).clone(), file.clone())).collect())
    }

    /// The program that runs kernels of a build.
    fn runner(&self, build: Build, folder: &Path) -> Result<PathBuf, Failure> {
        let file = folder.join("runner");
        if file.exists() {
            return Ok(file);
        }
        let output = fresh(folder, "runner");
        let mut clang = Command::new("clang++-19");
        clang.args(["-std=c++17", "-O2", "-rdynamic", "--rtlib=compiler-rt", "-fuse-ld=lld", "-ldl", "-lm"]);
        if build == Build::Checked {
            clang.args(build.flags());
        }
        clang.arg(self.shim().join("fibers.cpp")).arg("-o").arg(&output);
        finish(clang)?;
        std::fs::rename(&output, &file)?;
        Ok(file)
    }
}

fn finish(mut clang: Command) -> Result<(), Failure> {
    let done = clang.output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(Failure::Compile(String::from_utf8_lossy(&done.stderr).into_owned()))
    }
}

/// A file that no other process writes.
fn fresh(folder: &Path, extension: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("new-{}-{n}.{extension}", std::process::id()))
}

/// Writes a file whole: another process sees all of it or nothing.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let new = fresh(path.parent().unwrap_or(Path::new(".")), "tmp");
    std::fs::write(&new, bytes)?;
    Ok(std::fs::rename(&new, path)?)
}

fn hash(parts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part.as_bytes());
    }
    sha.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A kernel that was compiled.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) file: PathBuf,
    pub(crate) symbol: String,
    /// The buffers it has, 0 the scalars.
    pub(crate) buffers: Vec<u32>,
}

/// Kernels that were compiled, by entry point.
#[derive(Clone, Debug)]
pub struct Library {
    pub(crate) runner: PathBuf,
    kernels: Arc<BTreeMap<String, Kernel>>,
}

impl Library {
    pub(crate) fn kernel(&self, entry: &str) -> Result<&Kernel, Failure> {
        self.kernels.get(entry).ok_or_else(|| Failure::Launch(format!("no kernel is called `{entry}`")))
    }

    /// A process to run kernels in.
    ///
    /// # Errors
    /// [`Failure::Tool`] if it does not start.
    pub fn machine(&self) -> Result<Machine, Failure> {
        Machine::new(self)
    }

    /// Runs a kernel once: buffer i of the kernel is `buffers[i]`, the scalars are words.
    ///
    /// # Errors
    /// Those of [`Machine::launch`].
    pub fn run(
        &self,
        entry: &str,
        grid: [u32; 3],
        lanes: u32,
        scalars: &[u32],
        buffers: &mut [Vec<u8>],
        order: Order,
    ) -> Result<(), Failure> {
        let mut machine = self.machine()?;
        let words: Vec<u8> = scalars.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut bindings = Vec::new();
        for (index, data) in std::iter::once(&words).chain(buffers.iter()).enumerate() {
            let block = machine.allocate(data.len() as u64)?;
            machine.write(block, 0, data)?;
            bindings.push(Binding { index: index as u32, block, offset: 0, bytes: data.len() as u64 });
        }
        machine.launch(&Launch { entry, grid, lanes, order, bindings: &bindings })?;
        for (data, b) in buffers.iter_mut().zip(&bindings[1..]) {
            *data = machine.read(b.block, 0, b.bytes)?;
        }
        Ok(())
    }

    /// Runs a kernel in every order, which must come to the same.
    ///
    /// # Errors
    /// Those of [`Library::run`], and [`Failure::Order`].
    pub fn run_in_every_order(
        &self,
        entry: &str,
        grid: [u32; 3],
        lanes: u32,
        scalars: &[u32],
        buffers: &mut [Vec<u8>],
    ) -> Result<(), Failure> {
        let mut first: Option<Vec<Vec<u8>>> = None;
        for order in Order::ALL {
            let mut now = buffers.to_vec();
            self.run(entry, grid, lanes, scalars, &mut now, order)?;
            let Some(first) = &first else {
                first = Some(now);
                continue;
            };
            for (buffer, (a, b)) in first.iter().zip(&now).enumerate() {
                if let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) {
                    return Err(Failure::Order { kernel: entry.to_string(), buffer, byte });
                }
            }
        }
        for (to, from) in buffers.iter_mut().zip(first.unwrap_or_default()) {
            *to = from;
        }
        Ok(())
    }
}
