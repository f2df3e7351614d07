//! Opening a package and handing out its members.
//!
//! # Trust
//!
//! Nothing in a file can make this crate panic or read outside it, and a plan that was opened has passed
//! [`crate::check_plan`]. Native code is another matter: it runs with all rights of the process, and no check of
//! a plan constrains what it does with the addresses it is given. Opening a package that holds native code
//! therefore means trusting its author as one trusts a program; [`OpenOptions::untrusted`] refuses to hand such
//! code out, and shaders, which the device's compiler checks, still work.
//!
//! An open package is mapped, not copied: whoever changes or truncates the file meanwhile changes what the process
//! reads, or ends it (SIGBUS). Replace packages by renaming, as [`crate::PackageWriter`] does.

use crate::PackageError;
use crate::check::{check_dispatch, check_plan};
use crate::directory::{self, Directory};
use crate::manifest::{FORMAT, Manifest, Origin, Target, TargetKind, sha256};
use crate::plan::Plan;
use memmap2::{Mmap, MmapMut};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

pub(crate) const MANIFEST: &str = "manifest.json";
/// Name of the only plan, where there is one.
pub const PLAN: &str = "plan";
pub(crate) const MEMORY: &str = "<memory>";

/// Weights are too large to be read on every start: [`Package::verify`] checks their checksums.
const WEIGHTS: &str = "weights/";

/// How to open a package.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Refuse native code.
    pub untrusted: bool,
}

/// An open package.
#[derive(Debug)]
pub struct Package {
    path: String,
    bytes: Mmap,
    directory: Directory,
    manifest: Manifest,
    /// Plans by member; at least one.
    plans: BTreeMap<String, Plan>,
    untrusted: bool,
}

impl Package {
    /// Maps a file and checks everything but the weights' checksums.
    ///
    /// # Errors
    /// 0601 if the file cannot be read, 0602 to 0606 if it is no sound package of a known format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PackageError> {
        Self::open_with(path, OpenOptions::default())
    }

    /// As [`Package::open`], with options.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn open_with(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self, PackageError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let io = |doing| {
            let path = name.clone();
            move |source| PackageError::Io { path, doing, source }
        };
        let file = File::open(path).map_err(io("opening"))?;
        let bytes = file.metadata().map_err(io("reading its size"))?.len();
        if bytes == 0 {
            let (expected, found) = ("a ZIP archive".into(), "an empty file".into());
            return Err(PackageError::Truncated { path: name, expected, found });
        }
        // SAFETY: the mapping is private and read-only; that nobody changes the file is the contract stated above.
        let map = unsafe { Mmap::map(&file) }.map_err(io("mapping"))?;
        Self::of(name, map, options)
    }

    /// A package in memory; copied once, so that members are aligned as in a mapped file.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PackageError> {
        Self::from_bytes_with(bytes, OpenOptions::default())
    }

    /// As [`Package::from_bytes`], with options.
    ///
    /// # Errors
    /// As [`Package::open`].
    pub fn from_bytes_with(bytes: Vec<u8>, options: OpenOptions) -> Result<Self, PackageError> {
        let io = |source| PackageError::Io { path: MEMORY.into(), doing: "allocating memory", source };
        let mut map = MmapMut::map_anon(bytes.len().max(1)).map_err(io)?;
        map[..bytes.len()].copy_from_slice(&bytes);
        Self::of(MEMORY.into(), map.make_read_only().map_err(io)?, options)
    }

    fn of(path: String, bytes: Mmap, options: OpenOptions) -> Result<Self, PackageError> {
        let directory = directory::read(&path, &bytes)?;
        let mut package = Package {
            path,
            bytes,
            directory,
            manifest: Manifest {
                format: 0,
                writer: String::new(),
                options: String::new(),
                plan_sha256: BTreeMap::new(),
                targets: Vec::new(),
            },
            plans: BTreeMap::new(),
            untrusted: options.untrusted,
        };
        package.manifest = package.read_manifest()?;
        for name in package.directory.keys().filter(|n| !n.starts_with(WEIGHTS)) {
            package.check_sum(name)?;
        }
        package.plans = package
            .manifest
            .plan_sha256
            .iter()
            .map(|(member, sha)| Ok((member.clone(), package.read_plan(member, sha)?)))
            .collect::<Result<_, PackageError>>()?;
        if package.plans.is_empty() {
            return Err(package.damaged(MANIFEST, "at least one plan".into(), "none".into()));
        }
        if package.plans.len() > 1 && package.manifest.targets.is_empty() {
            return Err(package.damaged(MANIFEST, "a target for one of the plans".into(), "none".into()));
        }
        for target in &package.manifest.targets {
            package.check_target(target)?;
        }
        Ok(package)
    }

    fn read_manifest(&self) -> Result<Manifest, PackageError> {
        let text = self.member(MANIFEST)?;
        self.check_sum(MANIFEST)?;
        let json = |e: serde_json::Error| self.damaged(MANIFEST, "a manifest as JSON".into(), e.to_string());
        let origin: Origin = serde_json::from_slice(text).map_err(json)?;
        if origin.format != FORMAT {
            return Err(PackageError::UnknownFormat {
                path: self.path.clone(),
                writer: origin.writer,
                found: origin.format,
                supported: FORMAT,
            });
        }
        serde_json::from_slice(text).map_err(json)
    }

    /// Reads and checks a plan, and that its weights are there.
    fn read_plan(&self, member: &str, sha: &str) -> Result<Plan, PackageError> {
        let bytes = self.member(member)?;
        let found = sha256(bytes);
        if found != sha {
            return Err(self.damaged(member, format!("SHA-256 {sha}"), found));
        }
        let plan = serde_json::from_slice::<Plan>(bytes)
            .map_err(|e| self.damaged(member, "a plan as JSON".into(), e.to_string()))?;
        check_plan(&plan).map_err(|e| e.at_path(&self.path))?;
        for weight in &plan.weights {
            let stored = self.member(&weight.member)?.len() as u64;
            if stored != weight.bytes {
                return Err(self.damaged(
                    &weight.member,
                    format!("the {} bytes of weight `{}`", weight.bytes, weight.name),
                    format!("{stored} bytes"),
                ));
            }
        }
        Ok(plan)
    }

    fn check_target(&self, target: &Target) -> Result<(), PackageError> {
        let Some(plan) = self.plans.get(&target.plan) else {
            return Err(self.damaged(
                MANIFEST,
                format!("a plan for target `{}`", target.name),
                format!("`{}`, which is none", target.plan),
            ));
        };
        if target.kind == TargetKind::Shader {
            check_dispatch(plan).map_err(|e| e.at_path(&self.path))?;
        }
        let code = self.member(&target.code)?;
        if code.len() as u64 != target.bytes || !target.align.is_power_of_two() {
            return Err(self.damaged(
                &target.code,
                format!("{} bytes at a power of two", target.bytes),
                format!("{} bytes at {}", code.len(), target.align),
            ));
        }
        for (name, offset) in self.symbols(target)? {
            if offset >= target.bytes {
                return Err(self.damaged(
                    &target.symbols,
                    format!("`{name}` within {} bytes of code", target.bytes),
                    format!("offset {offset}"),
                ));
            }
        }
        Ok(())
    }

    /// The file, or `<memory>`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// True if it was opened with [`OpenOptions::untrusted`].
    pub fn is_untrusted(&self) -> bool {
        self.untrusted
    }

    /// What the package is and who wrote it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the first target runs; checked.
    pub fn plan(&self) -> &Plan {
        let first = self.manifest.targets.first().and_then(|t| self.plans.get(&t.plan));
        first.or_else(|| self.plans.values().next()).expect("invariant: an open package has a plan")
    }

    /// What a target of the manifest runs; checked. The first target's for a target of another package.
    pub fn plan_of(&self, target: &Target) -> &Plan {
        self.plans.get(&target.plan).unwrap_or_else(|| self.plan())
    }

    /// All plans with the members that hold them, by name.
    pub fn plans(&self) -> impl Iterator<Item = (&str, &Plan)> {
        self.plans.iter().map(|(member, plan)| (member.as_str(), plan))
    }

    /// Names and sizes in bytes of all members, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, u64)> {
        self.directory.iter().map(|(name, m)| (name.as_str(), m.data.len() as u64))
    }

    /// True if there is a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.directory.contains_key(name)
    }

    /// A member's bytes, aligned to at least 4096 bytes.
    ///
    /// # Errors
    /// 0605 if there is none of this name.
    pub fn member(&self, name: &str) -> Result<&[u8], PackageError> {
        match self.directory.get(name) {
            Some(m) => Ok(&self.bytes[m.data.clone()]),
            None => Err(PackageError::Missing { path: self.path.clone(), member: name.into() }),
        }
    }

    /// A hash of the plans and of the weights' checksums, in hexadecimal: equal packages compute the same.
    pub fn fingerprint(&self) -> String {
        let weights = self.directory.iter().filter(|(name, _)| name.starts_with("weights/"));
        let weights = weights.map(|(name, m)| format!("{name} {:08x}\n", m.crc));
        let plans = self.manifest.plan_sha256.iter().map(|(name, sha)| format!("{name} {sha}\n"));
        sha256(plans.chain(weights).collect::<String>().as_bytes())
    }

    /// The code of a target in the manifest, its checksum verified.
    ///
    /// # Errors
    /// 0608 for native code of an untrusted package, 0603 if it is damaged, 0605 if it is not there.
    pub fn code(&self, target: &Target) -> Result<&[u8], PackageError> {
        if self.untrusted && target.kind == TargetKind::Native {
            return Err(PackageError::Untrusted { path: self.path.clone(), target: target.name.clone() });
        }
        let code = self.member(&target.code)?;
        let found = sha256(code);
        if found != target.sha256 {
            return Err(self.damaged(&target.code, format!("SHA-256 {}", target.sha256), found));
        }
        Ok(code)
    }

    /// Names a target's code exports and their byte offsets, which lie within the code.
    ///
    /// # Errors
    /// 0603 if the member is damaged, 0605 if it is not there.
    pub fn symbols(&self, target: &Target) -> Result<Vec<(String, u64)>, PackageError> {
        let json = |e: serde_json::Error| self.damaged(&target.symbols, "offsets as JSON".into(), e.to_string());
        let map: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(self.member(&target.symbols)?).map_err(json)?;
        map.into_iter()
            .map(|(name, offset)| match offset.as_u64() {
                Some(offset) => Ok((name, offset)),
                None => Err(self.damaged(&target.symbols, format!("an offset for `{name}`"), offset.to_string())),
            })
            .collect()
    }

    /// The modules of a shader target, by symbol: the text from each symbol's offset to the next one.
    ///
    /// # Errors
    /// As [`Package::code`] and [`Package::symbols`]; 0603 if the code is not UTF-8 where a module begins and ends.
    pub fn modules(&self, target: &Target) -> Result<BTreeMap<String, &str>, PackageError> {
        let code = self.code(target)?;
        let symbols = self.symbols(target)?;
        let mut starts: Vec<usize> = symbols.iter().map(|(_, offset)| *offset as usize).collect();
        starts.sort_unstable();
        let module = |(name, offset): (String, u64)| {
            let start = offset as usize;
            let end = starts.get(starts.partition_point(|s| *s <= start)).copied().unwrap_or(code.len());
            match std::str::from_utf8(&code[start..end]) {
                Ok(text) => Ok((name, text)),
                Err(e) => Err(self.damaged(&target.code, format!("`{name}` as UTF-8"), e.to_string())),
            }
        };
        symbols.into_iter().map(module).collect()
    }

    /// Reads every member, weights too, and compares it with its checksum.
    ///
    /// # Errors
    /// 0603 for the first one that differs.
    pub fn verify(&self) -> Result<(), PackageError> {
        self.directory.keys().try_for_each(|name| self.check_sum(name))?;
        self.manifest.targets.iter().try_for_each(|target| {
            let found = sha256(self.member(&target.code)?);
            if found == target.sha256 {
                return Ok(());
            }
            Err(self.damaged(&target.code, format!("SHA-256 {}", target.sha256), found))
        })
    }

    fn check_sum(&self, name: &str) -> Result<(), PackageError> {
        let Some(member) = self.directory.get(name) else { return Ok(()) };
        let found = crc32fast::hash(&self.bytes[member.data.clone()]);
        if found == member.crc {
            return Ok(());
        }
        Err(self.damaged(name, format!("CRC-32 {:08x}", member.crc), format!("{found:08x}")))
    }

    fn damaged(&self, member: &str, expected: String, found: String) -> PackageError {
        PackageError::Corrupted { path: self.path.clone(), member: member.into(), expected, found }
    }
}
