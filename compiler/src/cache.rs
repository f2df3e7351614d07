//! The kernel cache: machine code of earlier compilations, in a folder that several processes share.
//!
//! An entry is a file named by the hash of everything that decides its code, see [`CodeStore`]; so an entry is never
//! outdated, only unused. When a write takes the folder above its limit, the entries used longest ago go. A damaged entry counts
//! as absent. Whatever goes wrong here costs time, not results: it is said once, as a warning.

use mlxc_codegen::llvm::CodeStore;
use mlxc_ir::{Diagnostic, Location};
use mlxc_runtime::kept;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Bytes that the cache holds at most, unless `MLXC_CACHE_BYTES` says otherwise.
pub const LIMIT_BYTES: u64 = 1 << 30;

/// A folder of compiled kernels.
#[derive(Debug)]
pub struct KernelCache {
    folder: PathBuf,
    limit: u64,
    /// Bytes in the folder as far as this process knows; what others write meanwhile is seen when it is listed anew.
    known: Mutex<Option<u64>>,
    /// Set by the first failure to write; there is no second.
    broken: AtomicBool,
}

/// What is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Kernels.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// Left behind by a process that ended while it wrote, or written right now.
    partial: bool,
}

impl KernelCache {
    /// A cache in a folder, which need not exist, of at most `limit` bytes.
    pub fn new(folder: impl Into<PathBuf>, limit: u64) -> Self {
        KernelCache { folder: folder.into(), limit, known: Mutex::new(None), broken: AtomicBool::new(false) }
    }

    /// The user's cache: in the folder that `MLXC_CACHE` names, else among the user's caches; none if `MLXC_CACHE` is `off` or
    /// the system has no place for caches.
    ///
    /// # Errors
    /// `MLXC0991` if `MLXC_CACHE_BYTES` is not a number of bytes.
    pub fn of_user() -> Result<Option<Self>, Diagnostic> {
        let limit = match std::env::var("MLXC_CACHE_BYTES") {
            Ok(text) if !text.is_empty() => text.parse().map_err(|_| {
                Diagnostic::new(991, "the limit of the kernel cache is not understood")
                    .expected("a number of bytes in MLXC_CACHE_BYTES")
                    .found(text)
            })?,
            _ => LIMIT_BYTES,
        };
        Ok(kept::folder("kernels").map(|folder| KernelCache::new(folder, limit)))
    }

    /// Where entries lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes it holds at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts what is there.
    ///
    /// # Errors
    /// `MLXC0992` if the folder cannot be read.
    pub fn contents(&self) -> Result<Contents, Diagnostic> {
        let entries = self.list().map_err(|e| self.unreadable(&e))?;
        let kernels = entries.iter().filter(|e| !e.partial).count() as u64;
        Ok(Contents { entries: kernels, bytes: entries.iter().map(|e| e.bytes).sum() })
    }

    /// Removes every entry; gives what was there. Files of others stay.
    ///
    /// # Errors
    /// `MLXC0992` if the folder cannot be read or an entry cannot be removed.
    pub fn clear(&self) -> Result<Contents, Diagnostic> {
        let before = self.contents()?;
        for entry in self.list().map_err(|e| self.unreadable(&e))? {
            remove(&entry.path).map_err(|e| self.unreadable(&e))?;
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(0);
        Ok(before)
    }

    fn unreadable(&self, e: &io::Error) -> Diagnostic {
        self.here(Diagnostic::new(992, "the kernel cache cannot be read or cleared"), e)
    }

    fn here(&self, d: Diagnostic, e: &io::Error) -> Diagnostic {
        d.at(Location::new(self.folder.display().to_string(), 0, 0)).found(e.to_string())
    }

    /// The entries, in no order; none if there is no folder.
    fn list(&self) -> io::Result<Vec<Entry>> {
        let files = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let mut out = Vec::new();
        for file in files {
            let file = file?;
            let Some(partial) = file.file_name().to_str().and_then(is_partial) else { continue };
            // A file that another process removed meanwhile is no entry.
            let Ok(about) = file.metadata() else { continue };
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            out.push(Entry { path: file.path(), bytes: about.len(), used, partial });
        }
        Ok(out)
    }

    fn write(&self, key: &str, code: &[u8]) -> io::Result<()> {
        let bytes = (kept::DIGITS + KEY_DIGITS + code.len()) as u64;
        if bytes > self.limit {
            return Ok(());
        }
        kept::write(&self.folder.join(key), &[key.as_bytes(), code].concat())?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let total = match *known {
            Some(before) => before + bytes,
            None => self.list()?.iter().map(|e| e.bytes).sum(),
        };
        *known = Some(if total > self.limit { self.evict()? } else { total });
        Ok(())
    }

    /// Removes what was used longest ago; gives the bytes that are left. An eighth more than the limit asks for goes, so that
    /// a full folder is not listed at every write.
    fn evict(&self) -> io::Result<u64> {
        let mut entries = self.list()?;
        entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut total: u64 = entries.iter().map(|e| e.bytes).sum();
        if total <= self.limit {
            return Ok(total);
        }
        // The last one is what was just written.
        let last = entries.len().saturating_sub(1);
        for entry in &entries[..last] {
            if total <= self.limit - self.limit / 8 {
                break;
            }
            remove(&entry.path)?;
            total -= entry.bytes;
        }
        Ok(total)
    }
}

/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 64;

/// Whether a file of this name is one that is being written; none for a file that is not the cache's.
fn is_partial(name: &str) -> Option<bool> {
    let (key, rest) = name.split_at_checked(KEY_DIGITS)?;
    let ours = key.bytes().all(|b| b.is_ascii_hexdigit());
    let partial = rest.starts_with('.') && rest.ends_with(kept::PARTIAL);
    (ours && (rest.is_empty() || partial)).then_some(partial)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

impl CodeStore for KernelCache {
    fn find(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(key);
        let mut stored = kept::read(&path)?;
        // An entry under another's name is as bad as a damaged one.
        if stored.get(..KEY_DIGITS)? != key.as_bytes() {
            return None;
        }
        stored.drain(..KEY_DIGITS);
        // When it was used decides what goes first. A folder that is only read keeps its order.
        let _ = File::options().write(true).open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Some(stored)
    }

    fn keep(&self, key: &str, code: &[u8]) {
        if self.broken.load(Ordering::Relaxed) {
            return;
        }
        if let Err(e) = self.write(key, code)
            && !self.broken.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{}", self.here(Diagnostic::new(990, "compiled kernels cannot be kept"), &e));
        }
    }
}
