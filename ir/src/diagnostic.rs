//! Diagnostics are values: an id, a place, what was expected and what was found. Only the command
//! line renders them.

use std::fmt;
use std::sync::Arc;

/// A place in the user's own text: a model source line, a text IR line, or an importer's name for a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// File path, or another name for where the text came from.
    pub file: Arc<str>,
    /// 1-based line; 0 when the source has no lines.
    pub line: u32,
    /// 1-based column; 0 when unknown.
    pub column: u32,
}

impl Location {
    /// A place in a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Location { file: file.into(), line, column }
    }

    /// The place of a `#[track_caller]` caller.
    pub fn of(caller: &std::panic::Location<'_>) -> Self {
        Location::new(caller.file(), caller.line(), caller.column())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// One error or warning with a stable id (`MLXC0123`).
///
/// Ids: 01xx building a graph, 02xx Graph IR text and verification, 03xx passes, 04xx memory planning,
/// 05xx Kernel IR, 06xx packages, 07xx the runtime, 08xx code generation, 09xx models and the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The number in `MLXC0123`.
    pub id: u16,
    /// One sentence, without a full stop.
    pub message: String,
    /// Where in the user's text.
    pub at: Option<Location>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What was there instead.
    pub found: Option<String>,
    /// Further lines of help.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// A diagnostic with nothing but its id and sentence.
    pub fn new(id: u16, message: impl Into<String>) -> Self {
        Diagnostic { id, message: message.into(), at: None, expected: None, found: None, notes: Vec::new() }
    }

    /// Sets the place.
    pub fn at(mut self, at: Location) -> Self {
        self.at = Some(at);
        self
    }

    /// Sets what was expected.
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// Sets what was found.
    pub fn found(mut self, text: impl Into<String>) -> Self {
        self.found = Some(text.into());
        self
    }

    /// Adds a line of help.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MLXC{:04}: {}", self.id, self.message)?;
        if let Some(at) = &self.at {
            write!(f, "\n  at {at}")?;
        }
        if let Some(expected) = &self.expected {
            write!(f, "\n  expected {expected}")?;
        }
        if let Some(found) = &self.found {
            write!(f, "\n  found {found}")?;
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
