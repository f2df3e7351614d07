//! Files that are kept for the next time and may vanish at any moment: where they lie, and how they are read and written.
//!
//! A file holds the SHA-256 of what follows, so that nothing damaged is ever used. It is written beside its place and
//! renamed, so that no reader sees half of one. Who keeps what, and what goes first, is not decided here.

use mlxc_package::sha256;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Hexadecimal digits of a SHA-256.
pub const DIGITS: usize = 64;

/// End of the name of a file that is being written.
pub const PARTIAL: &str = "partial";

/// The folder of files of a kind: in the folder that `MLXC_CACHE` names, else in `mlxc` among the user's caches. `None`
/// if `MLXC_CACHE` is `off`, or if the system has no place for caches.
pub fn folder(kind: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("MLXC_CACHE").filter(|v| !v.is_empty()) {
        Some(v) if v == "off" => None,
        Some(v) => Some(PathBuf::from(v)),
        None => user_caches().map(|c| c.join("mlxc")),
    };
    root.map(|r| r.join(kind))
}

/// The folder that the system sets aside for a user's caches.
fn user_caches() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_vendor = "apple") {
        variable("HOME").map(|h| h.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|h| h.join(".cache")))
    }
}

/// What [`write`] left at `path`; `None` if there is nothing, or not all of it.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    let mut stored = std::fs::read(path).ok()?;
    if stored.len() < DIGITS || sha256(&stored[DIGITS..]).as_bytes() != &stored[..DIGITS] {
        return None;
    }
    stored.drain(..DIGITS);
    Some(stored)
}

/// Puts data at `path`, whole or not at all; makes the folder.
///
/// # Errors
/// What the file system says; then nothing is left behind.
pub fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{next}.{PARTIAL}", std::process::id()));
    let written = make_folder(path.parent().unwrap_or(Path::new(".")))
        .and_then(|()| std::fs::write(&partial, [sha256(data).as_bytes(), data].concat()))
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Makes a folder and those above it. They are the user's own: what lies in them is run.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/kept");
        assert_eq!(read(&path), None);
        write(&path, b"some bytes").unwrap();
        write(&path, b"other bytes").unwrap();
        assert_eq!(read(&path).as_deref(), Some(&b"other bytes"[..]));
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read(&path), None, "{length} bytes");
        }
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&path), None, "byte {byte}");
        }
    }

    #[test]
    fn a_folder_in_the_way_is_an_error_without_traces() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("kept/inside")).unwrap();
        assert!(write(&folder.path().join("kept"), b"bytes").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
