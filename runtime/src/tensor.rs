//! Tensors in host memory, as callers hand them over and get them back.

use crate::RuntimeError;
use crate::memory::{HUGE_PAGE, Region};
use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};
use mlxc_package::{BUFFER_ALIGNMENT, DType};
use std::io;

/// The unit of allocation: kernels may touch a buffer's last 256 bytes whole.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(256))]
pub(crate) struct Line([u8; BUFFER_ALIGNMENT as usize]);

/// Zeroed bytes, aligned and padded as kernels expect them.
pub(crate) enum Storage {
    Lines(Vec<Line>),
    /// What fills huge pages: streams over small ones miss the TLB in every page.
    Pages(Region),
}

impl Storage {
    pub(crate) fn zeroed(what: &dyn Fn() -> String, bytes: u64) -> Result<Self, RuntimeError> {
        if bytes >= HUGE_PAGE as u64 {
            let whole = bytes.div_ceil(BUFFER_ALIGNMENT).saturating_mul(BUFFER_ALIGNMENT);
            return Region::new(&what(), whole).map(Storage::Pages);
        }
        let lines = usize::try_from(bytes.div_ceil(BUFFER_ALIGNMENT)).ok();
        let lines = lines.and_then(|n| bytemuck::allocation::try_zeroed_vec(n).ok());
        lines.map(Storage::Lines).ok_or_else(|| RuntimeError::Memory {
            what: what(),
            bytes,
            source: io::Error::from(io::ErrorKind::OutOfMemory),
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Storage::Lines(lines) => bytemuck::cast_slice(lines),
            Storage::Pages(pages) => pages.bytes(),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Storage::Lines(lines) => bytemuck::cast_slice_mut(lines),
            Storage::Pages(pages) => pages.bytes_mut(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Storage::Lines(Vec::new())
    }
}

impl Clone for Storage {
    fn clone(&self) -> Self {
        let bytes = self.bytes();
        match Storage::zeroed(&String::new, bytes.len() as u64) {
            Ok(mut copy) => {
                copy.bytes_mut().copy_from_slice(bytes);
                copy
            }
            // Vectors have their own way to say that there is no memory.
            Err(_) => Storage::Lines(bytemuck::cast_slice(bytes).to_vec()),
        }
    }
}

/// A Rust type that is the element of a dtype.
pub trait Element: Pod {
    /// The dtype.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $type {
            const DTYPE: DType = DType::$dtype;
        })*
    };
}

elements!(
    u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    f16 => F16, bf16 => BF16, f32 => F32, f64 => F64,
);

/// Bytes of a shape.
pub(crate) fn shape_bytes(dtype: DType, shape: &[u64], found: u64) -> Result<u64, RuntimeError> {
    let bytes = shape.iter().try_fold(dtype.bytes(), |p, d| p.checked_mul(*d));
    bytes.filter(|b| *b <= isize::MAX as u64).ok_or_else(|| RuntimeError::Bytes {
        dtype,
        shape: shape.to_vec(),
        expected: "too many".into(),
        found,
    })
}

/// A dense row-major array, 256-byte aligned.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<u64>,
    bytes: usize,
    storage: Storage,
}

impl Tensor {
    /// All zeros.
    ///
    /// # Errors
    /// 0713 if the shape has too many bytes, 0704 if there is no memory.
    pub fn zeros(dtype: DType, shape: &[u64]) -> Result<Self, RuntimeError> {
        let bytes = shape_bytes(dtype, shape, 0)?;
        let storage = Storage::zeroed(&|| format!("a tensor of {dtype}{shape:?}"), bytes)?;
        Ok(Tensor { dtype, shape: shape.to_vec(), bytes: bytes as usize, storage })
    }

    /// No elements of a dtype: an output to be filled.
    pub fn empty(dtype: DType) -> Self {
        Tensor { dtype, shape: vec![0], bytes: 0, storage: Storage::default() }
    }

    /// A copy of bytes in the machine's order; bool is a byte, 0 or 1.
    ///
    /// # Errors
    /// 0713 if they do not fill the shape, 0704 if there is no memory.
    pub fn from_bytes(dtype: DType, shape: &[u64], bytes: &[u8]) -> Result<Self, RuntimeError> {
        TensorView::new(dtype, shape, bytes)?.to_tensor()
    }

    /// A copy of elements.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn from_slice<T: Element>(shape: &[u64], values: &[T]) -> Result<Self, RuntimeError> {
        Self::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(values))
    }

    /// A copy of truth values.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn from_bools(shape: &[u64], values: &[bool]) -> Result<Self, RuntimeError> {
        Self::from_bytes(DType::Bool, shape, bytemuck::cast_slice(values))
    }

    /// A tensor without axes.
    ///
    /// # Errors
    /// 0704 if there is no memory.
    pub fn scalar<T: Element>(value: T) -> Result<Self, RuntimeError> {
        Self::from_slice(&[], &[value])
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// The elements' bytes, row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.storage.bytes()[..self.bytes]
    }

    /// The elements' bytes, row-major.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage.bytes_mut()[..self.bytes]
    }

    /// The elements.
    ///
    /// # Errors
    /// 0708 if `T` is the element of another dtype.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], RuntimeError> {
        expect(self.dtype, T::DTYPE)?;
        Ok(bytemuck::cast_slice(self.bytes()))
    }

    /// The elements, to be changed.
    ///
    /// # Errors
    /// 0708 if `T` is the element of another dtype.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], RuntimeError> {
        expect(self.dtype, T::DTYPE)?;
        Ok(bytemuck::cast_slice_mut(self.bytes_mut()))
    }

    /// The elements as f64: exact for all but 64-bit integers beyond 2⁵³; bool is 0 or 1.
    pub fn to_f64s(&self) -> Vec<f64> {
        self.view().to_f64s()
    }

    /// A view of all of it.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, shape: &self.shape, bytes: self.bytes(), padded: true }
    }

    /// Makes it an uninitialised (old or zero) tensor of this type, in the memory it has where that is enough.
    pub(crate) fn become_shape(&mut self, dtype: DType, shape: &[u64]) -> Result<(), RuntimeError> {
        let bytes = shape_bytes(dtype, shape, 0)? as usize;
        if bytes > self.storage.bytes().len() {
            let what = || format!("a tensor of {dtype}{shape:?}");
            self.storage = Storage::default(); // the old one is gone before the new one is there
            self.bytes = 0;
            self.storage = Storage::zeroed(&what, bytes as u64)?;
        }
        self.bytes = bytes;
        self.dtype = dtype;
        if self.shape != shape {
            self.shape.clear();
            self.shape.extend_from_slice(shape);
        }
        Ok(())
    }

    /// Where kernels store.
    pub(crate) fn address(&mut self) -> u64 {
        self.storage.bytes_mut().as_mut_ptr() as u64
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

impl PartialEq for Tensor {
    /// Equal dtype, shape and bits.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

/// A borrowed dense row-major array.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: &'a [u64],
    bytes: &'a [u8],
    /// The bytes up to the next multiple of 256 belong to it.
    padded: bool,
}

impl<'a> TensorView<'a> {
    /// A view of bytes in the machine's order; bool is a byte, 0 or 1. Bytes that are not 256-byte aligned are
    /// copied when a step runs; those of a [`Tensor`] are not.
    ///
    /// # Errors
    /// 0713 if they do not fill the shape.
    pub fn new(dtype: DType, shape: &'a [u64], bytes: &'a [u8]) -> Result<Self, RuntimeError> {
        let found = bytes.len() as u64;
        let expected = shape_bytes(dtype, shape, found)?;
        if expected != found {
            return Err(RuntimeError::Bytes { dtype, shape: shape.to_vec(), expected: expected.to_string(), found });
        }
        Ok(TensorView { dtype, shape, bytes, padded: false })
    }

    /// A view of elements.
    ///
    /// # Errors
    /// 0713 if they do not fill the shape.
    pub fn from_slice<T: Element>(shape: &'a [u64], values: &'a [T]) -> Result<Self, RuntimeError> {
        Self::new(T::DTYPE, shape, bytemuck::cast_slice(values))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &'a [u64] {
        self.shape
    }

    /// The elements' bytes, row-major.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy.
    ///
    /// # Errors
    /// 0704 if there is no memory.
    pub fn to_tensor(&self) -> Result<Tensor, RuntimeError> {
        let mut tensor = Tensor::zeros(self.dtype, self.shape)?;
        tensor.bytes_mut().copy_from_slice(self.bytes);
        Ok(tensor)
    }

    /// The elements as f64: exact for all but 64-bit integers beyond 2⁵³; bool is 0 or 1.
    pub fn to_f64s(&self) -> Vec<f64> {
        fn each<T: Element>(bytes: &[u8], f: impl Fn(T) -> f64) -> Vec<f64> {
            bytes.chunks_exact(size_of::<T>()).map(|b| f(bytemuck::pod_read_unaligned(b))).collect()
        }
        let b = self.bytes;
        match self.dtype {
            DType::Bool | DType::U8 => each::<u8>(b, f64::from),
            DType::U16 => each::<u16>(b, f64::from),
            DType::U32 => each::<u32>(b, f64::from),
            DType::U64 => each::<u64>(b, |v| v as f64),
            DType::I8 => each::<i8>(b, f64::from),
            DType::I16 => each::<i16>(b, f64::from),
            DType::I32 => each::<i32>(b, f64::from),
            DType::I64 => each::<i64>(b, |v| v as f64),
            DType::F16 => each::<f16>(b, f64::from),
            DType::BF16 => each::<bf16>(b, f64::from),
            DType::F32 => each::<f32>(b, f64::from),
            DType::F64 => each::<f64>(b, |v| v),
        }
    }

    /// Where kernels may read it in place; `None` if it has to be copied first.
    pub(crate) fn address(&self) -> Option<u64> {
        let at = self.bytes.as_ptr() as u64;
        let whole = self.padded || (self.bytes.len() as u64).is_multiple_of(BUFFER_ALIGNMENT);
        (at.is_multiple_of(BUFFER_ALIGNMENT) && whole).then_some(at)
    }
}

impl std::fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

impl<'a> From<&'a Tensor> for TensorView<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        tensor.view()
    }
}

fn expect(found: DType, expected: DType) -> Result<(), RuntimeError> {
    if found == expected {
        return Ok(());
    }
    Err(RuntimeError::DType { at: "the tensor's elements".into(), expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fill_the_shape() {
        assert_eq!(TensorView::from_slice(&[2, 2], &[1f32; 3]).unwrap_err().id(), "MLXC0713");
        assert_eq!(Tensor::zeros(DType::F32, &[u64::MAX, 2]).unwrap_err().id(), "MLXC0713");
        assert_eq!(Tensor::zeros(DType::U8, &[1 << 62]).unwrap_err().id(), "MLXC0704");
        let t = Tensor::from_slice(&[2, 2], &[1i32, 2, 3, 4]).unwrap();
        assert_eq!(t.as_slice::<i32>().unwrap(), [1, 2, 3, 4]);
        assert_eq!(t.as_slice::<f32>().unwrap_err().id(), "MLXC0708");
        assert_eq!(t.to_f64s(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(t.bytes().as_ptr() as usize % 256, 0);
    }

    #[test]
    fn an_output_keeps_its_memory() {
        let mut t = Tensor::empty(DType::F32);
        t.become_shape(DType::F32, &[100]).unwrap();
        let at = t.address();
        t.become_shape(DType::BF16, &[3, 7]).unwrap();
        assert_eq!((t.address(), t.bytes().len(), t.shape()), (at, 42, &[3, 7][..]));
    }

    #[test]
    fn views_of_foreign_bytes_are_copied() {
        let values = vec![0u8; 513];
        let whole = Tensor::from_slice(&[513], &values).unwrap();
        assert!(whole.view().address().is_some());
        let foreign = TensorView::from_slice(&[511], &whole.bytes()[1..512]).unwrap();
        assert!(foreign.address().is_none());
        let unpadded = TensorView::from_slice(&[300], &whole.bytes()[..300]).unwrap();
        assert!(unpadded.address().is_none());
    }
}
