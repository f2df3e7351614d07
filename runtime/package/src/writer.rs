//! Writing a package: members in the order they are added, the manifest last.

use crate::PackageError;
use crate::archive::ArchiveWriter;
use crate::check::{check_plan, unsound};
use crate::directory::is_member_name;
use crate::manifest::{FORMAT, Manifest, Target, TargetKind, WRITER, sha256};
use crate::package::{MANIFEST, MEMORY, PLAN};
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Cursor, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Bytes gathered before they go to the file.
const BUFFER_BYTES: usize = 1 << 20;

enum Sink {
    File(BufWriter<NamedTempFile>),
    Memory(Cursor<Vec<u8>>),
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(f) => f.write(data),
            Sink::Memory(m) => m.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::File(f) => f.flush(),
            Sink::Memory(_) => Ok(()),
        }
    }
}

impl Seek for Sink {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Sink::File(f) => f.seek(to),
            Sink::Memory(m) => m.seek(to),
        }
    }
}

/// Code of one target, to be added to a package.
#[derive(Clone, Copy, Debug)]
pub struct TargetCode<'a> {
    /// Name of the target profile.
    pub name: &'a str,
    /// What the code is.
    pub kind: TargetKind,
    /// Member of the plan it was made for, see [`PackageWriter::add_plan`].
    pub plan: &'a str,
    /// Instruction set, as `std::env::consts::ARCH` names it; empty for shaders.
    pub arch: &'a str,
    /// Features a loader must find first, see [`Target::features`].
    pub features: &'a [&'a str],
    /// Calling convention; [`crate::NATIVE_ABI`] for native code.
    pub abi: u32,
    /// Alignment in bytes of the mapped code, a power of two.
    pub align: u64,
    /// The code.
    pub code: &'a [u8],
    /// Exported names and their byte offsets in the code.
    pub symbols: &'a [(String, u64)],
}

/// Writes a package. The file appears under its name when [`PackageWriter::finish`] has succeeded, whole; an error
/// or a drop before that leaves nothing behind.
///
/// The bytes depend on what is added and in which order, and on nothing else.
pub struct PackageWriter {
    archive: ArchiveWriter<Sink>,
    target: Option<PathBuf>,
    path: String,
    plans: BTreeMap<String, String>,
    /// Bytes of every weight's member, and the plan that said so first.
    weights: BTreeMap<String, (u64, String)>,
    targets: Vec<Target>,
    /// A member was not written whole.
    broken: bool,
}

impl PackageWriter {
    /// Starts a package that will be at `path`, in a temporary file beside it.
    ///
    /// # Errors
    /// 0601 if the folder cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, PackageError> {
        let path = path.as_ref();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".mlxc-").suffix(".partial");
        #[cfg(unix)]
        {
            // As any new file; the umask takes away what the user does not give.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).map_err(|source| PackageError::Io {
            path: path.display().to_string(),
            doing: "creating a file beside it",
            source,
        })?;
        Ok(Self::on(Sink::File(BufWriter::with_capacity(BUFFER_BYTES, file)), Some(path.to_path_buf())))
    }

    /// Starts a package in memory; finish it with [`PackageWriter::finish_bytes`].
    pub fn in_memory() -> Self {
        Self::on(Sink::Memory(Cursor::new(Vec::new())), None)
    }

    fn on(sink: Sink, target: Option<PathBuf>) -> Self {
        let path = target.as_ref().map_or(MEMORY.into(), |p| p.display().to_string());
        PackageWriter {
            archive: ArchiveWriter::new(sink),
            target,
            path,
            plans: BTreeMap::new(),
            weights: BTreeMap::new(),
            targets: Vec::new(),
            broken: false,
        }
    }

    /// Adds a member.
    ///
    /// # Errors
    /// 0607 if the name is taken or no relative path, 0601 if writing fails.
    pub fn add(&mut self, name: &str, data: &[u8]) -> Result<(), PackageError> {
        self.add_with(name, data.len() as u64, |w| w.write_all(data))
    }

    /// Adds a member of `bytes` bytes that `fill` writes, so that no more than a part of it is ever in memory.
    ///
    /// # Errors
    /// 0607 if the name is taken or no relative path, or if `fill` wrote another number of bytes; 0601 if writing
    /// fails. After an error the package cannot be finished.
    pub fn add_with(
        &mut self,
        name: &str,
        bytes: u64,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), PackageError> {
        if !is_member_name(name) {
            return Err(self.refuse(name, "a relative path", "another name".into()));
        }
        if self.archive.has(name) {
            return Err(self.refuse(name, "a new name", "a member of this name".into()));
        }
        let broken = std::mem::replace(&mut self.broken, true);
        let written = self.archive.add(name, fill).map_err(|source| self.io("writing a member", source))?;
        self.broken = broken || written != bytes;
        if written != bytes {
            return Err(self.refuse(name, "as many bytes as announced", format!("{written} instead of {bytes}")));
        }
        Ok(())
    }

    /// Checks and adds a plan as a member. Plans may share weights: those whose members have one name.
    ///
    /// # Errors
    /// 0606 if the plan is unsound or a member that it shares has other bytes in another plan, else as
    /// [`PackageWriter::add`].
    pub fn add_plan(&mut self, member: &str, plan: &Plan) -> Result<(), PackageError> {
        check_plan(plan).map_err(|e| e.at_path(&self.path))?;
        for weight in &plan.weights {
            let (bytes, other) =
                self.weights.entry(weight.member.clone()).or_insert_with(|| (weight.bytes, member.into()));
            if *bytes != weight.bytes {
                let expected = format!("the {bytes} bytes of `{}` in plan `{other}`", weight.member);
                let refused = unsound(format!("weight `{}`", weight.name), expected, weight.bytes.to_string());
                return Err(refused.at_path(&self.path));
            }
        }
        let bytes = serde_json::to_vec(plan).expect("invariant: a plan has string keys only");
        self.add(member, &bytes)?;
        self.plans.insert(member.into(), sha256(&bytes));
        Ok(())
    }

    /// Adds a target's code and symbols. Targets of one architecture are added best first.
    ///
    /// # Errors
    /// As [`PackageWriter::add`].
    pub fn add_target(&mut self, target: &TargetCode<'_>) -> Result<(), PackageError> {
        let code = format!("kernels/{}/code", target.name);
        let symbols = format!("kernels/{}/symbols.json", target.name);
        let map: serde_json::Map<String, serde_json::Value> =
            target.symbols.iter().map(|(name, offset)| (name.clone(), (*offset).into())).collect();
        self.add(&code, target.code)?;
        self.add(&symbols, serde_json::Value::Object(map).to_string().as_bytes())?;
        self.targets.push(Target {
            name: target.name.into(),
            kind: target.kind,
            plan: target.plan.into(),
            arch: target.arch.into(),
            features: target.features.iter().map(|f| f.to_string()).collect(),
            abi: target.abi,
            align: target.align,
            code,
            symbols,
            bytes: target.code.len() as u64,
            sha256: sha256(target.code),
        });
        Ok(())
    }

    /// Writes the manifest and puts the file in its place. `options` is a hash of what the compiler was given.
    ///
    /// # Errors
    /// 0605 if no plan was added or a target's is missing, 0601 if writing fails.
    pub fn finish(self, options: &str) -> Result<(), PackageError> {
        let path = self.path.clone();
        let io = |doing| move |source| PackageError::Io { path, doing, source };
        let target = self.target.clone();
        match (self.close(options)?, target) {
            (Sink::File(file), Some(target)) => {
                let file = file.into_inner().map_err(|e| e.into_error()).and_then(|f| {
                    f.as_file().sync_all()?;
                    f.persist(target).map_err(|e| e.error)
                });
                file.map(|_| ()).map_err(io("putting the file in its place"))
            }
            _ => Ok(()),
        }
    }

    /// Writes the manifest and gives the bytes of a package in memory; empty for one that was created as a file.
    ///
    /// # Errors
    /// 0605 if no plan was added or a target's is missing.
    pub fn finish_bytes(self, options: &str) -> Result<Vec<u8>, PackageError> {
        match self.close(options)? {
            Sink::Memory(bytes) => Ok(bytes.into_inner()),
            Sink::File(_) => Ok(Vec::new()),
        }
    }

    fn close(mut self, options: &str) -> Result<Sink, PackageError> {
        if self.broken {
            return Err(self.refuse(MANIFEST, "every member written whole", "one that failed".into()));
        }
        let plan_sha256 = std::mem::take(&mut self.plans);
        let targets = std::mem::take(&mut self.targets);
        let missing = targets.iter().find(|t| !plan_sha256.contains_key(&t.plan)).map(|t| t.plan.clone());
        let missing = missing.or_else(|| plan_sha256.is_empty().then(|| PLAN.into()));
        if let Some(member) = missing {
            return Err(PackageError::Missing { path: self.path, member });
        }
        let manifest =
            Manifest { format: FORMAT, writer: WRITER.into(), options: options.into(), plan_sha256, targets };
        let text = serde_json::to_vec_pretty(&manifest).expect("invariant: a manifest has string keys only");
        self.add(MANIFEST, &text)?;
        let path = self.path;
        self.archive.finish().map_err(|source| PackageError::Io { path, doing: "writing the directory", source })
    }

    fn io(&self, doing: &'static str, source: io::Error) -> PackageError {
        PackageError::Io { path: self.path.clone(), doing, source }
    }

    fn refuse(&self, member: &str, expected: &'static str, found: String) -> PackageError {
        PackageError::Member { path: self.path.clone(), member: member.into(), expected, found }
    }
}
