//! Weights one behind the other, cut into files that a browser fetches one at a time.

use super::unwritable;
use mlxc_ir::Diagnostic;
use mlxc_package::BUFFER_ALIGNMENT;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A stream of bytes in files of one size; the last one may be smaller.
pub(super) struct Pieces {
    folder: PathBuf,
    most: u64,
    /// Bytes written so far.
    at: u64,
    /// The file that is being written, and what it holds.
    file: Option<(BufWriter<File>, u64)>,
    /// Names and bytes of the files.
    index: Vec<Value>,
}

impl Pieces {
    pub(super) fn new(folder: &Path, most: u64) -> Self {
        Pieces { folder: folder.into(), most, at: 0, file: None, index: Vec::new() }
    }

    /// Appends bytes, and zeros up to the next multiple of 256, at least 256 in all; gives the offset of the first.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<u64, Diagnostic> {
        let offset = self.at;
        let size = bytes.len() as u64;
        let padding = size.next_multiple_of(BUFFER_ALIGNMENT).max(BUFFER_ALIGNMENT) - size;
        self.append(bytes)?;
        self.append(&vec![0; padding as usize])?;
        Ok(offset)
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Diagnostic> {
        while !bytes.is_empty() {
            let path = self.folder.join(name(self.index.len()));
            let (file, held) = match &mut self.file {
                Some(open) => open,
                none => none.insert((BufWriter::new(File::create(&path).map_err(unwritable(&path))?), 0)),
            };
            let (now, rest) = bytes.split_at(((self.most - *held) as usize).min(bytes.len()));
            file.write_all(now).map_err(unwritable(&path))?;
            *held += now.len() as u64;
            self.at += now.len() as u64;
            bytes = rest;
            if *held == self.most {
                self.close()?;
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        let name = name(self.index.len());
        if let Some((mut file, held)) = self.file.take() {
            file.flush().map_err(unwritable(&self.folder.join(&name)))?;
            self.index.push(json!({"file": name, "bytes": held}));
        }
        Ok(())
    }

    /// Names and bytes of all files.
    pub(super) fn finish(mut self) -> Result<Vec<Value>, Diagnostic> {
        self.close()?;
        Ok(self.index)
    }
}

fn name(number: usize) -> String {
    format!("weights-{number}.bin")
}
