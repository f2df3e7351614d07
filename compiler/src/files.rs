//! Files and folders that are made whole or not at all: under a temporary name beside their place, renamed at the end.

use std::fs::Permissions;
use std::io;
use std::path::Path;
use tempfile::{Builder, NamedTempFile, TempDir};

/// A temporary file beside `path`, with the permissions that a new file there would have.
///
/// # Errors
/// What the file system says.
pub fn beside(path: &Path) -> io::Result<NamedTempFile> {
    with(&mut Builder::new(), 0o666).tempfile_in(folder_of(path))
}

/// A temporary folder beside `path`, with the permissions that a new folder there would have.
///
/// # Errors
/// What the file system says.
pub fn folder_beside(path: &Path) -> io::Result<TempDir> {
    with(&mut Builder::new(), 0o777).tempdir_in(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The mode before the process's mask, where the system has modes.
fn with<'a>(builder: &'a mut Builder<'static, 'static>, mode: u32) -> &'a mut Builder<'static, 'static> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder
}
