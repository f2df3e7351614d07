//! Tensors of the interpreter: plain arrays with conversions to and from bytes.

use half::{bf16, f16};
use mlxc_package::DType;

/// Elements, by kind. Unsigned 64-bit values are kept by their bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Elements of float tensors.
    Float(Vec<f64>),
    /// Elements of integer and bool tensors.
    Int(Vec<i64>),
}

/// A tensor value.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub data: Data,
}

/// Number of elements of a shape.
pub fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// Calls `f` with every index of a shape, in row-major order.
pub fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut at = vec![0; shape.len()];
    for _ in 0..count(shape) {
        f(&at);
        for i in (0..shape.len()).rev() {
            at[i] += 1;
            if at[i] < shape[i] {
                break;
            }
            at[i] = 0;
        }
    }
}

/// Rounds a value to a float dtype.
pub fn round_float(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(x).to_f64(),
        DType::BF16 => bf16::from_f64(x).to_f64(),
        DType::F32 => f64::from(x as f32),
        _ => x,
    }
}

/// Wraps a value to an integer dtype; bool keeps 0 or 1.
pub fn wrap_int(dtype: DType, x: i64) -> i64 {
    match dtype {
        DType::Bool => i64::from(x != 0),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        _ => x,
    }
}

impl Tensor {
    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let n = count(shape);
        let data = if dtype.is_float() { Data::Float(vec![0.0; n]) } else { Data::Int(vec![0; n]) };
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// A float tensor, its elements rounded to the dtype.
    pub fn floats(dtype: DType, shape: &[usize], values: &[f64]) -> Self {
        assert_eq!(count(shape), values.len(), "values fill the shape");
        let data = Data::Float(values.iter().map(|x| round_float(dtype, *x)).collect());
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// An integer or bool tensor, its elements wrapped to the dtype.
    pub fn ints(dtype: DType, shape: &[usize], values: &[i64]) -> Self {
        assert_eq!(count(shape), values.len(), "values fill the shape");
        let data = Data::Int(values.iter().map(|x| wrap_int(dtype, *x)).collect());
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// Reads little-endian elements; `None` where there are too few bytes.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Option<Self> {
        let size = dtype.bytes() as usize;
        let bytes = bytes.get(..count(shape).checked_mul(size)?)?;
        let word = |c: &[u8]| {
            let mut w = [0; 8];
            w[..c.len()].copy_from_slice(c);
            u64::from_le_bytes(w)
        };
        let words = bytes.chunks_exact(size).map(word);
        let data = match dtype {
            DType::F16 => Data::Float(words.map(|w| f16::from_bits(w as u16).to_f64()).collect()),
            DType::BF16 => Data::Float(words.map(|w| bf16::from_bits(w as u16).to_f64()).collect()),
            DType::F32 => Data::Float(words.map(|w| f64::from(f32::from_bits(w as u32))).collect()),
            DType::F64 => Data::Float(words.map(f64::from_bits).collect()),
            d => Data::Int(words.map(|w| wrap_int(d, w as i64)).collect()),
        };
        Some(Tensor { dtype, shape: shape.to_vec(), data })
    }

    /// Little-endian elements, floats rounded to the dtype.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(count(&self.shape) * self.dtype.bytes() as usize);
        match &self.data {
            Data::Float(v) => v.iter().for_each(|x| match self.dtype {
                DType::F16 => out.extend(f16::from_f64(*x).to_bits().to_le_bytes()),
                DType::BF16 => out.extend(bf16::from_f64(*x).to_bits().to_le_bytes()),
                DType::F32 => out.extend((*x as f32).to_le_bytes()),
                _ => out.extend(x.to_le_bytes()),
            }),
            Data::Int(v) => {
                let size = self.dtype.bytes() as usize;
                v.iter().for_each(|x| out.extend(&x.to_le_bytes()[..size]));
            }
        }
        out
    }

    /// The elements' bits as another dtype of the same width.
    pub fn bitcast(&self, to: DType) -> Self {
        Tensor::from_bytes(to, &self.shape, &self.to_bytes()).expect("dtypes of one width hold as many elements")
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        count(&self.shape)
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as f64.
    pub fn float(&self, i: usize) -> f64 {
        match &self.data {
            Data::Float(v) => v[i],
            Data::Int(v) if self.dtype == DType::U64 => v[i] as u64 as f64,
            Data::Int(v) => v[i] as f64,
        }
    }

    /// Element `i` as i64; floats truncate and saturate.
    pub fn int(&self, i: usize) -> i64 {
        match &self.data {
            Data::Float(v) => v[i] as i64,
            Data::Int(v) => v[i],
        }
    }

    /// Every element as f64.
    pub fn to_floats(&self) -> Vec<f64> {
        (0..self.len()).map(|i| self.float(i)).collect()
    }

    /// The elements at given positions, in a new shape.
    pub fn pick(&self, shape: Vec<usize>, positions: impl Iterator<Item = usize>) -> Self {
        let data = match &self.data {
            Data::Float(v) => Data::Float(positions.map(|i| v[i]).collect()),
            Data::Int(v) => Data::Int(positions.map(|i| v[i]).collect()),
        };
        Tensor { dtype: self.dtype, shape, data }
    }
}
