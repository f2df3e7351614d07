//! Linear layers and embeddings: the layers whose weights are matrices, dense or quantised.

use super::last;
use crate::trace::{Array, Context, Dim, Quantized};
use mlxc_ir::DType;

/// A weight `[.., rows, inputs]` as the module's quantisation has it.
#[derive(Clone)]
enum Matrix {
    Dense(Array),
    Quantized(Quantized, DType),
}

impl Matrix {
    /// Declares `prefix.weight` and, where the layer is quantised, `prefix.scales` and `prefix.biases`.
    #[track_caller]
    fn new(cx: &Context, prefix: &str, shape: &[i64], dtype: DType) -> Self {
        let (inputs, lead) = shape.split_last().expect("a matrix has rows");
        let weight = format!("{prefix}.weight");
        let Some((scheme, scales)) = cx.quantized(prefix, *inputs) else {
            return Matrix::Dense(cx.weight(&weight, dtype, shape.to_vec()));
        };
        let with = |n: Option<i64>| [lead, &[n.unwrap_or(0)]].concat();
        let float = scheme.scale_dtype(scales.unwrap_or(dtype));
        let groups = with(scheme.groups(*inputs));
        let quantized = Quantized {
            words: cx.weight(&weight, DType::U32, with(scheme.words(*inputs))),
            scales: cx.weight(&format!("{prefix}.scales"), float, groups.clone()),
            biases: scheme.has_biases().then(|| cx.weight(&format!("{prefix}.biases"), float, groups)),
            scheme,
        };
        Matrix::Quantized(quantized, dtype)
    }

    /// The values.
    #[track_caller]
    fn values(&self) -> Array {
        match self {
            Matrix::Dense(w) => w.clone(),
            Matrix::Quantized(w, dtype) => w.dequantize(*dtype),
        }
    }

    /// `x @ values.T`.
    #[track_caller]
    fn product(&self, x: &Array) -> Array {
        x.matmul(&self.values().swapaxes(-1, -2))
    }
}

/// `x @ weight.T + bias`; weight is `[outputs, inputs]`.
#[derive(Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Array>,
    name: String,
}

impl Linear {
    /// Declares `prefix.weight` (with scales and biases where the module quantises the layer) and, if wanted, `prefix.bias`.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, inputs: i64, outputs: i64, bias: bool, dtype: DType) -> Self {
        let weight = Matrix::new(cx, prefix, &[outputs, inputs], dtype);
        let bias = bias.then(|| cx.weight(&format!("{prefix}.bias"), dtype, [outputs]));
        Linear { weight, bias, name: last(prefix) }
    }

    /// `[.., inputs]` to `[.., outputs]`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let y = self.weight.product(x).named(&self.name);
        match &self.bias {
            Some(b) => y + b,
            None => y,
        }
    }
}

/// Rows of a table by token id.
#[derive(Clone)]
pub struct Embedding {
    weight: Matrix,
}

impl Embedding {
    /// Declares `prefix.weight`, with scales and biases where the module quantises the layer.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, vocabulary: i64, width: i64, dtype: DType) -> Self {
        Embedding { weight: Matrix::new(cx, prefix, &[vocabulary, width], dtype) }
    }

    /// Integer ids `[..]` to `[.., width]`.
    #[track_caller]
    pub fn forward(&self, ids: &Array) -> Array {
        self.weight.values().take(ids, 0).named("embedding")
    }

    /// The first `n` rows, `[n, width]`.
    #[track_caller]
    pub fn rows(&self, n: &Dim) -> Array {
        self.weight.values().slice(0, 0, n).named("embedding")
    }

    /// `[.., width]` to `[.., vocabulary]`: the tied output head.
    #[track_caller]
    pub fn as_linear(&self, x: &Array) -> Array {
        self.weight.product(x).named("head")
    }
}

/// Linear layers of several experts; each row of the input goes through one of them.
#[derive(Clone)]
pub struct SwitchLinear {
    weight: Matrix,
    name: String,
}

impl SwitchLinear {
    /// Declares `prefix.weight [experts, outputs, inputs]`, with scales and biases where the module quantises the layer.
    #[track_caller]
    pub fn new(cx: &Context, prefix: &str, experts: i64, inputs: i64, outputs: i64, dtype: DType) -> Self {
        SwitchLinear { weight: Matrix::new(cx, prefix, &[experts, outputs, inputs], dtype), name: last(prefix) }
    }

    /// Rows `[P, inputs]`, row `p` through expert `experts[p]` (integers `[P]`), to `[P, outputs]`.
    #[track_caller]
    pub fn forward(&self, x: &Array, experts: &Array) -> Array {
        x.gather_mm(&self.weight.values().swapaxes(-1, -2), experts).named(&self.name)
    }
}
