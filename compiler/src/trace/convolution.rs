//! Convolutions and pooling, as sliding windows and products.
//!
//! Arrays are `[N, spatial.., C]`, weights `[O, spatial.., C / groups]`, as in MLX. A convolution pads, views the
//! windows as rows of a matrix and multiplies by the weight as a matrix: an implicit GEMM, since the product packs its left
//! factor through the view and no matrix of windows is stored. With one input channel a group it is a sum of
//! products instead, over vectors of channels.

use super::array::{Array, Operand, literal};
use super::here;
use mlxc_ir::graph::{BinaryOp, Op, ReduceOp};
use mlxc_ir::{DType, Diagnostic, Location, Size};

/// Attributes of a convolution; a list of one number counts for every spatial axis. The default is MLX's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Distance between windows.
    pub stride: Vec<i64>,
    /// Zeros before and after, per axis; negative ones cut elements off.
    pub padding: Vec<(i64, i64)>,
    /// Distance between elements of a window.
    pub kernel_dilation: Vec<i64>,
    /// Distance that elements of the input are moved apart to, zeros between.
    pub input_dilation: Vec<i64>,
    /// Groups of channels with weights of their own.
    pub groups: i64,
    /// The weight is taken back to front along its spatial axes.
    pub flip: bool,
}

impl Default for Convolution {
    fn default() -> Self {
        Convolution {
            stride: vec![1],
            padding: vec![(0, 0)],
            kernel_dilation: vec![1],
            input_dilation: vec![1],
            groups: 1,
            flip: false,
        }
    }
}

/// A list for `n` axes from one of 1 or `n`.
fn per_axis<T: Clone>(list: &[T], n: usize) -> Option<Vec<T>> {
    match list {
        [one] => Some(vec![one.clone(); n]),
        _ if list.len() == n => Some(list.to_vec()),
        _ => None,
    }
}

/// A weight's extents: O, the spatial ones and C of a group.
struct Weight {
    out: i64,
    spatial: Vec<i64>,
    channels: i64,
}

impl Array {
    /// Convolution of 1 to 3 spatial axes: MLX's `conv_general`.
    ///
    /// # Errors
    /// `MLXC0146` where shapes, groups or attributes do not fit; `MLXC0112` where a window is larger than the padded
    /// input.
    #[track_caller]
    pub fn conv_general(&self, weight: &Array, attributes: &Convolution) -> Array {
        let at = here();
        self.convolve(weight, attributes, &at)
    }

    /// Convolution of `[N, L, C]`: MLX's `conv1d`.
    ///
    /// # Errors
    /// As [`Array::conv_general`].
    #[track_caller]
    pub fn conv1d(&self, weight: &Array, stride: i64, padding: i64, dilation: i64, groups: i64) -> Array {
        let at = here();
        self.plain(weight, &[stride], &[padding], &[dilation], groups, &at)
    }

    /// Convolution of `[N, H, W, C]`: MLX's `conv2d`.
    ///
    /// # Errors
    /// As [`Array::conv_general`].
    #[track_caller]
    pub fn conv2d(
        &self,
        weight: &Array,
        stride: [i64; 2],
        padding: [i64; 2],
        dilation: [i64; 2],
        groups: i64,
    ) -> Array {
        let at = here();
        self.plain(weight, &stride, &padding, &dilation, groups, &at)
    }

    /// Convolution of `[N, D, H, W, C]`: MLX's `conv3d`.
    ///
    /// # Errors
    /// As [`Array::conv_general`].
    #[track_caller]
    pub fn conv3d(
        &self,
        weight: &Array,
        stride: [i64; 3],
        padding: [i64; 3],
        dilation: [i64; 3],
        groups: i64,
    ) -> Array {
        let at = here();
        self.plain(weight, &stride, &padding, &dilation, groups, &at)
    }

    fn plain(
        &self,
        weight: &Array,
        stride: &[i64],
        padding: &[i64],
        dilation: &[i64],
        groups: i64,
        at: &Location,
    ) -> Array {
        let attributes = Convolution {
            stride: stride.to_vec(),
            padding: padding.iter().map(|p| (*p, *p)).collect(),
            kernel_dilation: dilation.to_vec(),
            groups,
            ..Convolution::default()
        };
        self.convolve(weight, &attributes, at)
    }

    /// Transposed convolution of `[N, L, C]`: MLX's `conv_transpose1d`.
    ///
    /// # Errors
    /// As [`Array::conv_general`].
    #[track_caller]
    pub fn conv_transpose1d(
        &self,
        weight: &Array,
        stride: i64,
        padding: i64,
        dilation: i64,
        output_padding: i64,
        groups: i64,
    ) -> Array {
        let at = here();
        self.transposed(weight, [&[stride], &[padding], &[dilation], &[output_padding]], groups, &at)
    }

    /// Transposed convolution of `[N, H, W, C]`: MLX's `conv_transpose2d`.
    ///
    /// # Errors
    /// As [`Array::conv_general`].
    #[track_caller]
    pub fn conv_transpose2d(
        &self,
        weight: &Array,
        stride: [i64; 2],
        padding: [i64; 2],
        dilation: [i64; 2],
        output_padding: [i64; 2],
        groups: i64,
    ) -> Array {
        let at = here();
        self.transposed(weight, [&stride, &padding, &dilation, &output_padding], groups, &at)
    }

    /// Transposed convolution of `[N, D, H, W, C]`: MLX's `conv_transpose3d`.
    ///
    /// # Errors
    /// As [`Array::conv_general`].
    #[track_caller]
    pub fn conv_transpose3d(
        &self,
        weight: &Array,
        stride: [i64; 3],
        padding: [i64; 3],
        dilation: [i64; 3],
        output_padding: [i64; 3],
        groups: i64,
    ) -> Array {
        let at = here();
        self.transposed(weight, [&stride, &padding, &dilation, &output_padding], groups, &at)
    }

    /// A convolution of the input spread by the stride, with the weight back to front.
    fn transposed(
        &self,
        weight: &Array,
        [stride, padding, dilation, extra]: [&[i64]; 4],
        groups: i64,
        at: &Location,
    ) -> Array {
        let shape = weight.sizes();
        let span = |i: usize| {
            let k = shape.get(i + 1).and_then(Size::as_const).unwrap_or(1);
            dilation[i] * (k - 1)
        };
        let widths = (0..stride.len()).map(|i| (span(i) - padding[i], span(i) - padding[i] + extra[i])).collect();
        let attributes = Convolution {
            stride: vec![1],
            padding: widths,
            kernel_dilation: dilation.to_vec(),
            input_dilation: stride.to_vec(),
            groups,
            flip: true,
        };
        self.convolve(weight, &attributes, at)
    }

    fn convolve(&self, weight: &Array, a: &Convolution, at: &Location) -> Array {
        if self.value.is_none() || weight.value.is_none() {
            return Array::new(&self.inner, None);
        }
        let n = self.ndim().saturating_sub(2);
        let wrong = |expected: String, found: String| {
            self.fail(Diagnostic::new(146, "operands of a convolution do not fit").expected(expected).found(found), at)
        };
        let (x_shape, w_shape) = (self.sizes(), weight.sizes());
        let constant: Option<Vec<i64>> = w_shape.iter().map(Size::as_const).collect();
        let Some(w) = constant.filter(|w| w.len() == n + 2 && (1..=3).contains(&n)) else {
            return wrong(
                "an input [N, spatial.., C] and a constant weight [O, spatial.., C / groups]".into(),
                format!("{x_shape:?} and {w_shape:?}"),
            );
        };
        let w = Weight { out: w[0], spatial: w[1..=n].to_vec(), channels: w[n + 1] };
        let lists = (|| {
            Some((
                per_axis(&a.stride, n)?,
                per_axis(&a.padding, n)?,
                per_axis(&a.kernel_dilation, n)?,
                per_axis(&a.input_dilation, n)?,
            ))
        })();
        let Some((stride, padding, kernel, input)) = lists else {
            return wrong(format!("one attribute or {n} for the spatial axes"), format!("{a:?}"));
        };
        if stride.iter().chain(&kernel).chain(&input).any(|s| *s < 1) || a.groups < 1 {
            return wrong("strides, dilations and groups of at least 1".into(), format!("{a:?}"));
        }
        if x_shape[n + 1] != Size::constant(a.groups * w.channels) || w.out % a.groups != 0 {
            let found = format!("{x_shape:?} and {w_shape:?} in {} groups", a.groups);
            return wrong("groups that divide O, and C / groups channels of the weight".into(), found);
        }
        let dtype = self.product_dtype(weight);
        let mut x = self.promoted(dtype, at);
        let mut k = weight.promoted(dtype, at);
        if a.flip {
            k = k.make(Op::Reverse { axes: (1..=n as u32).collect() }, &[&k], at);
        }
        for (i, by) in input.iter().enumerate() {
            x = x.dilate(i + 1, *by, at);
        }
        let x = x.widened(&padding, 0.0, at);
        let axes: Vec<u32> = (1..=n as u32).collect();
        let op = Op::Windows { axes, sizes: w.spatial.clone(), strides: stride, dilations: kernel };
        // [N, positions.., C, window..]
        let windows = x.make(op, &[&x], at);
        if windows.value.is_none() {
            return windows;
        }
        if a.groups == 1 {
            windows.all_channels(&k, &w, at)
        } else if w.channels == 1 {
            windows.one_channel(&k, &w, at)
        } else {
            windows.grouped(&k, &w, a.groups, at)
        }
    }

    /// Padded by `(low, high)` on the axes after the first; negative widths cut off.
    fn widened(&self, widths: &[(i64, i64)], value: f64, at: &Location) -> Array {
        let mut x = self.clone();
        if widths.iter().any(|(l, h)| *l < 0 || *h < 0) {
            let shape = x.sizes();
            let (mut start, mut stop) = (vec![Size::constant(0); shape.len()], shape);
            for (i, (l, h)) in widths.iter().enumerate() {
                start[i + 1] = Size::constant((-l).max(0));
                stop[i + 1] = stop[i + 1].clone() - Size::constant((-h).max(0));
            }
            let step = vec![1; start.len()];
            x = x.make(Op::Slice { start, stop, step }, &[&x], at);
        }
        if widths.iter().all(|(l, h)| *l <= 0 && *h <= 0) {
            return x;
        }
        let (mut low, mut high) = (vec![0; x.ndim()], vec![0; x.ndim()]);
        for (i, (l, h)) in widths.iter().enumerate().filter(|(i, _)| i + 1 < x.ndim()) {
            (low[i + 1], high[i + 1]) = ((*l).max(0), (*h).max(0));
        }
        let value = literal(value, x.dtype());
        x.make(Op::Pad { low, high, value }, &[&x], at)
    }

    fn reordered(&self, perm: Vec<usize>, at: &Location) -> Array {
        self.make(Op::Transpose { perm: perm.into_iter().map(|p| p as u32).collect() }, &[self], at)
    }

    fn with_shape(&self, shape: Vec<Size>, at: &Location) -> Array {
        self.make(Op::Reshape { shape }, &[self], at)
    }

    /// Windows as rows, times the weight as a matrix.
    fn all_channels(&self, weight: &Array, w: &Weight, at: &Location) -> Array {
        let n = w.spatial.len();
        let shape = self.sizes();
        // [N, positions.., window.., C]
        let perm = (0..=n).chain(n + 2..2 * n + 2).chain([n + 1]).collect();
        let rows = shape[..=n].iter().fold(Size::constant(1), |m, d| m * d.clone());
        let inner = Size::constant(w.spatial.iter().product::<i64>() * w.channels);
        let left = self.reordered(perm, at).with_shape(vec![rows, inner.clone()], at);
        let right = weight.with_shape(vec![Size::constant(w.out), inner], at);
        let product = left.make(Op::MatMul { transpose_a: false, transpose_b: true }, &[&left, &right], at);
        let mut out = shape[..=n].to_vec();
        out.push(Size::constant(w.out));
        product.with_shape(out, at)
    }

    /// A sum of products over the window, for vectors of channels.
    fn one_channel(&self, weight: &Array, w: &Weight, at: &Location) -> Array {
        let n = w.spatial.len();
        let shape = self.sizes();
        let channels = shape[n + 1].clone();
        let each = w.out / channels.as_const().unwrap_or(1).max(1);
        // [N, positions.., window.., C, outputs of a channel]
        let perm = (0..=n).chain(n + 2..2 * n + 2).chain([n + 1]).collect();
        let x = self.reordered(perm, at);
        let mut wide = x.sizes();
        wide.push(Size::constant(1));
        let x = x.with_shape(wide, at);
        let back = (1..=n).chain([0]).collect();
        let mut k_shape: Vec<Size> = w.spatial.iter().map(|d| Size::constant(*d)).collect();
        let flat = k_shape.iter().cloned().chain([Size::constant(w.out)]).collect();
        k_shape.extend([channels, Size::constant(each)]);
        let mut front = vec![Size::constant(w.out)];
        front.extend(w.spatial.iter().map(|d| Size::constant(*d)));
        let k = weight.with_shape(front, at).reordered(back, at).with_shape(flat, at).with_shape(k_shape, at);
        let dtype = x.dtype();
        let acc = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
        let terms = x.cast_at(acc, at).binary(BinaryOp::Multiply, Operand::Array(k.cast_at(acc, at)));
        let axes = (n as u32 + 1..=2 * n as u32).collect();
        let sum = terms.make(Op::Reduce { op: ReduceOp::Sum, axes, keepdims: false }, &[&terms], at);
        let mut out = shape[..=n].to_vec();
        out.push(Size::constant(w.out));
        sum.cast_at(dtype, at).with_shape(out, at)
    }

    /// A product for each group, as batches.
    fn grouped(&self, weight: &Array, w: &Weight, groups: i64, at: &Location) -> Array {
        let n = w.spatial.len();
        let shape = self.sizes();
        // [N, positions.., groups, C of a group, window..]
        let mut split = shape[..=n].to_vec();
        split.extend([Size::constant(groups), Size::constant(w.channels)]);
        split.extend_from_slice(&shape[n + 2..]);
        let x = self.with_shape(split, at);
        let perm = std::iter::once(n + 1).chain(0..=n).chain(n + 3..2 * n + 3).chain([n + 2]).collect();
        let rows = shape[..=n].iter().fold(Size::constant(1), |m, d| m * d.clone());
        let inner = Size::constant(w.spatial.iter().product::<i64>() * w.channels);
        let left = x.reordered(perm, at).with_shape(vec![Size::constant(groups), rows, inner.clone()], at);
        let each = Size::constant(w.out / groups);
        let right = weight.with_shape(vec![Size::constant(groups), each.clone(), inner], at);
        let product = left.make(Op::MatMul { transpose_a: false, transpose_b: true }, &[&left, &right], at);
        let mut out = vec![Size::constant(groups)];
        out.extend_from_slice(&shape[..=n]);
        out.push(each);
        let perm = (1..=n + 1).chain([0, n + 2]).collect();
        let mut whole = shape[..=n].to_vec();
        whole.push(Size::constant(w.out));
        product.with_shape(out, at).reordered(perm, at).with_shape(whole, at)
    }

    /// Largest element of each window of `[N, spatial.., C]`, padded with -inf: MLX's `nn.MaxPool1d` to `MaxPool3d`. The
    /// number of spatial axes is the kernel's.
    ///
    /// # Errors
    /// `MLXC0141` where lists and axes do not fit.
    #[track_caller]
    pub fn max_pool(&self, kernel: &[i64], stride: &[i64], padding: &[i64]) -> Array {
        let at = here();
        // The smallest number of the dtype.
        let lowest = match self.dtype() {
            d if d.is_float() => f64::NEG_INFINITY,
            d if d.is_signed_int() => (i64::MIN >> (64 - 8 * d.bytes())) as f64,
            _ => 0.0,
        };
        match self.pooled(kernel, stride, padding, lowest, &at) {
            Some((windows, axes)) => windows.max(axes, false),
            None => Array::new(&self.inner, None),
        }
    }

    /// Mean of each window of `[N, spatial.., C]`, padded with zeros that count: MLX's `nn.AvgPool1d` to `AvgPool3d`.
    ///
    /// # Errors
    /// As [`Array::max_pool`].
    #[track_caller]
    pub fn avg_pool(&self, kernel: &[i64], stride: &[i64], padding: &[i64]) -> Array {
        let at = here();
        match self.pooled(kernel, stride, padding, 0.0, &at) {
            Some((windows, axes)) => windows.mean(axes, false),
            None => Array::new(&self.inner, None),
        }
    }

    /// Windows `[N, positions.., window.., C]` and the window axes.
    fn pooled(
        &self,
        kernel: &[i64],
        stride: &[i64],
        padding: &[i64],
        value: f64,
        at: &Location,
    ) -> Option<(Array, Vec<i32>)> {
        let n = kernel.len();
        self.value?;
        let lists = per_axis(stride, n).zip(per_axis(padding, n));
        let fits = (1..=3).contains(&n) && self.ndim() == n + 2 && padding.iter().all(|p| *p >= 0);
        let Some((stride, padding)) = lists.filter(|_| fits) else {
            let d = Diagnostic::new(141, "a pool does not fit its input")
                .expected(format!("an input of {} axes, and one stride and padding or {n}", n + 2))
                .found(format!("{:?}, stride {stride:?}, padding {padding:?}", self.sizes()));
            self.fail(d, at);
            return None;
        };
        let widths: Vec<(i64, i64)> = padding.iter().map(|p| (*p, *p)).collect();
        let x = self.widened(&widths, value, at);
        let op = Op::Windows {
            axes: (1..=n as u32).collect(),
            sizes: kernel.to_vec(),
            strides: stride,
            dilations: vec![1; n],
        };
        let windows = x.make(op, &[&x], at);
        windows.value?;
        let perm = (0..=n).chain(n + 2..2 * n + 2).chain([n + 1]).collect();
        Some((windows.reordered(perm, at), (n as i32 + 1..=2 * n as i32).collect()))
    }
}
