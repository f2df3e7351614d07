//! Buffers and their offsets as CSV, in the form of MiniMalloc: `id,lower,upper,size`, and `offset` once they are placed.
//!
//! A buffer lives from time `lower` to just before time `upper`. Reading checks everything that placing relies on: lifetimes
//! are not empty, ids differ, and the sum of all sizes is a number.

use crate::{Diagnostic, Location};
use csv::StringRecord;
use mlxc_passes::memory::Interval;
use std::collections::BTreeMap;

/// The columns of a problem.
const COLUMNS: [&str; 4] = ["id", "lower", "upper", "size"];

/// Buffers in the order of their file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Any text, no two alike.
    pub ids: Vec<String>,
    /// Lifetimes and sizes.
    pub intervals: Vec<Interval>,
}

/// Reads buffers; `file` names where the bytes are from. Columns may stand in any order, and others than the four are ignored.
///
/// # Errors
/// The first line that is not understood.
pub fn read(bytes: &[u8], file: &str) -> Result<Buffers, Diagnostic> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(|e| unreadable(&e, file))?;
    let columns = columns(header, file)?;
    let mut out = Buffers { ids: Vec::new(), intervals: Vec::new() };
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    let mut sum = 0u64;
    for row in reader.records() {
        let row = row.map_err(|e| unreadable(&e, file))?;
        let line = row.position().map_or(0, csv::Position::line) as u32;
        let at = Location::new(file, line, 0);
        let number = |column: usize| {
            let text = row[columns[column]].trim();
            text.parse::<u64>().map_err(|_| {
                Diagnostic::new(422, format!("`{}` is no number of this form", COLUMNS[column]))
                    .at(at.clone())
                    .expected("a whole number from 0 to 18446744073709551615")
                    .found(format!("`{text}`"))
            })
        };
        let (lower, upper, size) = (number(1)?, number(2)?, number(3)?);
        let id = row[columns[0]].to_string();
        if lower >= upper {
            return Err(Diagnostic::new(423, format!("buffer `{id}` never lives"))
                .at(at)
                .expected("a lower time below the upper one")
                .found(format!("{lower} and {upper}")));
        }
        sum = sum.checked_add(size).ok_or_else(|| {
            Diagnostic::new(425, "the sizes up to this buffer have a sum that is no 64-bit number").at(at.clone())
        })?;
        if let Some(first) = lines.insert(id.clone(), line) {
            return Err(Diagnostic::new(424, format!("two buffers have the id `{id}`"))
                .at(at)
                .note(format!("the first is in line {first}")));
        }
        out.ids.push(id);
        out.intervals.push(Interval { first: lower, last: upper - 1, bytes: size });
    }
    Ok(out)
}

/// Where the four columns are.
fn columns(header: &StringRecord, file: &str) -> Result<[usize; 4], Diagnostic> {
    let mut out = [0; 4];
    for (place, name) in out.iter_mut().zip(COLUMNS) {
        let mut found = header.iter().enumerate().filter(|(_, column)| column.trim() == name);
        *place = match (found.next(), found.next()) {
            (Some((i, _)), None) => i,
            _ => {
                return Err(Diagnostic::new(420, format!("there is not one column `{name}`"))
                    .at(Location::new(file, 1, 0))
                    .expected(COLUMNS.join(","))
                    .found(header.iter().collect::<Vec<_>>().join(",")));
            }
        };
    }
    Ok(out)
}

fn unreadable(e: &csv::Error, file: &str) -> Diagnostic {
    let line = e.position().map_or(0, csv::Position::line) as u32;
    let found = match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("{len} fields instead of {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "bytes that are no UTF-8".into(),
        _ => e.to_string(),
    };
    Diagnostic::new(421, "a line is not read as CSV").at(Location::new(file, line, 0)).found(found)
}

/// Writes buffers with their offsets.
pub fn write(buffers: &Buffers, offsets: &[u64]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = COLUMNS.iter().copied().chain(["offset"]);
    writer.write_record(header).expect("memory takes what is written");
    for ((id, b), offset) in buffers.ids.iter().zip(&buffers.intervals).zip(offsets) {
        let numbers = [b.first, b.last + 1, b.bytes, *offset].map(|n| n.to_string());
        let fields = std::iter::once(id).chain(&numbers);
        writer.write_record(fields).expect("memory takes what is written");
    }
    writer.into_inner().expect("memory takes what is written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> (u16, u32) {
        let e = read(text.as_bytes(), "b.csv").expect_err("an error");
        (e.id, e.at.map_or(0, |at| at.line))
    }

    #[test]
    fn columns_stand_in_any_order_and_others_are_ignored() {
        let b = read(b"size,note,upper, lower ,id\n8,x,3,1,\"a,b\"\n0,,2,0, c\n", "b.csv").expect("buffers");
        assert_eq!(b.ids, ["a,b", " c"]);
        let interval = |first, last, bytes| Interval { first, last, bytes };
        assert_eq!(b.intervals, [interval(1, 2, 8), interval(0, 1, 0)]);
        let text = write(&b, &[0, 8]);
        assert_eq!(String::from_utf8_lossy(&text), "id,lower,upper,size,offset\n\"a,b\",1,3,8,0\n c,0,2,0,8\n");
        assert_eq!(read(&text, "b.csv"), Ok(b));
    }

    #[test]
    fn what_is_wrong_has_an_id_and_a_line() {
        assert_eq!(fails(""), (420, 1));
        assert_eq!(fails("id,lower,upper\n"), (420, 1));
        assert_eq!(fails("id,lower,upper,size,id\n"), (420, 1));
        assert_eq!(fails("id,lower,upper,size\na,0,1,2\nb,0,1\n"), (421, 3));
        assert_eq!(fails("id,lower,upper,size\na,0,1,2\nb,0,-1,2\n"), (422, 3));
        assert_eq!(fails("id,lower,upper,size\na,0,1,2.5\n"), (422, 2));
        assert_eq!(fails("id,lower,upper,size\na,0,1,18446744073709551616\n"), (422, 2));
        assert_eq!(fails("id,lower,upper,size\na,5,5,1\n"), (423, 2));
        assert_eq!(fails("id,lower,upper,size\n\na,0,1,1\na,1,2,1\n"), (424, 4));
        assert_eq!(fails("id,lower,upper,size\na,0,1,18446744073709551615\nb,1,2,1\n"), (425, 3));
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let e = read(b"id,lower,upper,size\n\xff,0,1,1\n", "b.csv").expect_err("an error");
        assert_eq!(e.id, 421);
    }
}
