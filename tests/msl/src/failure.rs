//! What the gate says of a kernel.

use std::fmt;

/// Why a kernel does not pass, or could not be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The machine lacks a tool.
    Tool(String),
    /// The text breaks a rule of MSL that clang does not know.
    Rule {
        /// The kernel's name.
        kernel: String,
        /// Line of its text, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// clang refuses it; with its messages.
    Compile(String),
    /// A launch is not what the kernel takes.
    Launch(String),
    /// It went wrong while it ran.
    Run {
        /// The kernel's name.
        kernel: String,
        /// What happened, with the line of its text.
        what: String,
    },
    /// The result depends on the order of threads.
    Order {
        /// The kernel's name.
        kernel: String,
        /// The buffer.
        buffer: usize,
        /// The first byte that differs.
        byte: usize,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Tool(what) | Failure::Launch(what) => f.write_str(what),
            Failure::Rule { kernel, line, what } => write!(f, "{kernel}:{line}: {what}"),
            Failure::Compile(text) => write!(f, "clang refuses it:\n{text}"),
            Failure::Run { kernel, what } => write!(f, "{kernel}: {what}"),
            Failure::Order { kernel, buffer, byte } => {
                write!(
                    f,
                    "{kernel}: the result depends on the order of threads: byte {byte} of buffer {buffer} differs"
                )
            }
        }
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Failure::Tool(e.to_string())
    }
}
