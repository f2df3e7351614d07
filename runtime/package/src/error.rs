//! What can be wrong with a package.

use std::io;

/// Why a package could not be written, opened or trusted. Every message names the file, or `<memory>`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The system refused to read or write.
    #[error("{path}: {doing} failed: {source}")]
    Io {
        /// The file.
        path: String,
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The bytes are no archive of the expected kind, or they end too early.
    #[error("{path}: not a whole mlxc package: expected {expected}, found {found}")]
    Truncated {
        /// The file.
        path: String,
        /// What a package has there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// Bytes are not what the archive's own records say.
    #[error("{path}: `{member}` is damaged: expected {expected}, found {found}")]
    Corrupted {
        /// The file.
        path: String,
        /// The archive member, or a part of the archive itself.
        member: String,
        /// What the records say.
        expected: String,
        /// What was there.
        found: String,
    },
    /// An earlier or later mlxc wrote the package.
    #[error(
        "{path}: written by {writer} in package format {found}; this reader knows format {supported}: build the package \
         again, or use {writer}"
    )]
    UnknownFormat {
        /// The file.
        path: String,
        /// The mlxc version that wrote it.
        writer: String,
        /// Its format.
        found: u32,
        /// The format this reader knows.
        supported: u32,
    },
    /// A member that something refers to is not there.
    #[error("{path}: expected a member `{member}`, found none")]
    Missing {
        /// The file.
        path: String,
        /// The member.
        member: String,
    },
    /// The plan would read or write outside its memory, or contradicts itself.
    #[error("{path}: the plan is unsound at {at}: expected {expected}, found {found}")]
    Plan {
        /// The file.
        path: String,
        /// The place in the plan.
        at: String,
        /// What a sound plan has there.
        expected: String,
        /// What was there.
        found: String,
    },
    /// A member name the archive cannot hold.
    #[error("{path}: cannot add `{member}`: expected {expected}, found {found}")]
    Member {
        /// The file.
        path: String,
        /// The member.
        member: String,
        /// What a name must be.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// Native code was asked of a package opened as untrusted.
    #[error(
        "{path}: expected shader text, found native code for target `{target}`, which runs with all rights of the \
         process: open the package as trusted if you trust who wrote it"
    )]
    Untrusted {
        /// The file.
        path: String,
        /// The target.
        target: String,
    },
}

impl PackageError {
    /// The stable id, as in `MLXC0603`.
    pub fn id(&self) -> &'static str {
        match self {
            PackageError::Io { .. } => "MLXC0601",
            PackageError::Truncated { .. } => "MLXC0602",
            PackageError::Corrupted { .. } => "MLXC0603",
            PackageError::UnknownFormat { .. } => "MLXC0604",
            PackageError::Missing { .. } => "MLXC0605",
            PackageError::Plan { .. } => "MLXC0606",
            PackageError::Member { .. } => "MLXC0607",
            PackageError::Untrusted { .. } => "MLXC0608",
        }
    }
}
