//! NumPy's `.npy` files, versions 1 to 3: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! bf16 is written as `<V2`, as `ml_dtypes` writes it, and any two-byte void is read as bf16. Little-endian
//! and C order only.

use crate::{RuntimeError, Tensor, TensorView};
use mlxc_package::DType;
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a file.
///
/// # Errors
/// 0715 if it cannot be read, else as [`from_bytes`].
pub fn load(path: impl AsRef<Path>) -> Result<Tensor, RuntimeError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| RuntimeError::Io { path: name.clone(), source })?;
    read(&name, &bytes)
}

/// Writes a file.
///
/// # Errors
/// 0715 if it cannot be written.
pub fn save(path: impl AsRef<Path>, tensor: TensorView<'_>) -> Result<(), RuntimeError> {
    let path = path.as_ref();
    std::fs::write(path, to_bytes(tensor))
        .map_err(|source| RuntimeError::Io { path: path.display().to_string(), source })
}

/// Reads the bytes of a file.
///
/// # Errors
/// 0714 if they are malformed, big-endian, in Fortran order or of a type without a dtype.
pub fn from_bytes(bytes: &[u8]) -> Result<Tensor, RuntimeError> {
    read("<npy>", bytes)
}

/// The bytes of a file.
pub fn to_bytes(tensor: TensorView<'_>) -> Vec<u8> {
    let extents: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let extents = if tensor.shape().len() == 1 { extents.trim_end() } else { extents.trim_end_matches(", ") };
    let descr = descr(tensor.dtype());
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    // Version 2 where the header is too long for version 1; the data begins at a multiple of 64.
    let wide = header.len() + 64 > usize::from(u16::MAX);
    let fixed = MAGIC.len() + 2 + if wide { 4 } else { 2 };
    while !(fixed + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([if wide { 2 } else { 1 }, 0]);
    match wide {
        true => out.extend((header.len() as u32).to_le_bytes()),
        false => out.extend((header.len() as u16).to_le_bytes()),
    }
    out.extend(header.as_bytes());
    out.extend(tensor.bytes());
    out
}

fn descr(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::BF16 => "<V2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
    }
}

fn read(at: &str, bytes: &[u8]) -> Result<Tensor, RuntimeError> {
    let refuse = |expected: &str, found: String| RuntimeError::Npy { at: at.into(), expected: expected.into(), found };
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(refuse("a .npy file", "other bytes".into()));
    };
    let short = || refuse("a whole .npy header", format!("{} bytes", bytes.len()));
    let (version, rest) = rest.split_at_checked(2).ok_or_else(short)?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, r)| (usize::from(u16::from_le_bytes(*n)), r)),
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)),
        v => return Err(refuse("version 1, 2 or 3", format!("{v}"))),
    }
    .ok_or_else(short)?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| refuse("a header of text", "other bytes".into()))?;
    let field = |name: &str| {
        let key = format!("'{name}':");
        header
            .find(&key)
            .map(|i| header[i + key.len()..].trim_start())
            .ok_or_else(|| refuse(&format!("a header with `{name}`"), header.trim().into()))
    };
    let kind = field("descr")?.strip_prefix('\'').and_then(|t| t.split('\'').next()).unwrap_or("a structured type");
    let dtype = DType::ALL
        .into_iter()
        .find(|d| descr(*d)[1..] == *kind.get(1..).unwrap_or("") && kind.starts_with(['<', '|', '=']))
        .ok_or_else(|| refuse("a little-endian number, bool or bf16 (V2)", format!("`{kind}`")))?;
    let text = field("shape")?.strip_prefix('(').and_then(|t| t.split_once(')')).map(|(t, _)| t);
    let shape = text.and_then(|t| {
        t.split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    });
    let shape = shape.ok_or_else(|| refuse("a shape of integers", header.trim().into()))?;
    if !field("fortran_order")?.starts_with("False") && shape.len() > 1 {
        return Err(refuse("C order", "Fortran order".into()));
    }
    if dtype == DType::Bool && data.iter().any(|b| *b > 1) {
        return Err(refuse("bools of 0 and 1", "another byte".into()));
    }
    Tensor::from_bytes(dtype, &shape, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_dtype_comes_back() {
        for dtype in DType::ALL {
            for shape in [&[][..], &[3], &[2, 0], &[2, 3, 4]] {
                let n = shape.iter().product::<u64>() * dtype.bytes();
                let bytes: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
                let t = Tensor::from_bytes(dtype, shape, &bytes).unwrap();
                let file = to_bytes(t.view());
                assert_eq!((file.len() - bytes.len()) % 64, 0);
                assert_eq!(from_bytes(&file).unwrap(), t);
            }
        }
    }

    #[test]
    fn the_header_is_what_numpy_writes() {
        let t = Tensor::from_slice(&[2], &[bf16::ONE, bf16::ZERO]).unwrap();
        let file = to_bytes(t.view());
        let text = "{'descr': '<V2', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(&file[10..10 + text.len()], text.as_bytes());
        assert_eq!(file.len(), 128 + 4);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let file = |header: &str| {
            let mut out = b"\x93NUMPY\x01\x00".to_vec();
            out.extend((header.len() as u16).to_le_bytes());
            out.extend(header.as_bytes());
            out.extend([0; 32]);
            out
        };
        for (header, id) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (8,), }", "MLXC0714"),
            ("{'descr': '<c8', 'fortran_order': False, 'shape': (4,), }", "MLXC0714"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (8,), }", "MLXC0714"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (4, 2), }", "MLXC0714"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-8,), }", "MLXC0714"),
            ("{'descr': '', 'fortran_order': False, 'shape': (8,), }", "MLXC0714"),
            ("{}", "MLXC0714"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }", "MLXC0713"),
        ] {
            assert_eq!(from_bytes(&file(header)).unwrap_err().id(), id, "{header}");
        }
        let whole = file("{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }");
        assert!(from_bytes(&whole).is_ok());
        for n in 0..whole.len() {
            assert!(from_bytes(&whole[..n]).is_err());
        }
    }
}
