//! Key-value states: what attention remembers of the tokens before.

use crate::trace::{Array, Context, State};
use mlxc_ir::DType;

/// Keys or values of one layer, `[1, heads, capacity, head_dim]`: as they are, or as 8-bit codes with a scale and a bias for
/// each token and head.
#[derive(Clone)]
pub(super) enum Cache {
    Plain(State),
    Coded { codes: State, scales: State, biases: State, dtype: DType },
}

/// The largest code.
const MOST: f64 = 255.0;

impl Cache {
    /// Declares the state `name`, or `name.codes`, `name.scales` and `name.biases` where the module codes its states.
    #[track_caller]
    pub fn new(cx: &Context, name: &str, dtype: DType, shape: [i64; 4]) -> Self {
        if !cx.codes_states() {
            return Cache::Plain(cx.state(name, dtype, shape));
        }
        let per_token = [shape[0], shape[1], shape[2], 1];
        Cache::Coded {
            codes: cx.state(&format!("{name}.codes"), DType::U8, shape),
            scales: cx.state(&format!("{name}.scales"), DType::F32, per_token),
            biases: cx.state(&format!("{name}.biases"), DType::F32, per_token),
            dtype,
        }
    }

    /// Writes `x [1, heads, S, head_dim]` at positions from `position` on; gives the whole state.
    #[track_caller]
    pub fn update(&self, x: &Array, position: &Array) -> Array {
        match self {
            Cache::Plain(state) => state.update(x, position, 2),
            Cache::Coded { codes, scales, biases, dtype } => {
                let x = x.astype(DType::F32);
                let lo = x.min(-1, true);
                let range = x.max(-1, true) - &lo;
                let scale = range.maximum(1e-12) / MOST;
                let code = ((&x - &lo) / &scale).round().maximum(0.0).minimum(MOST).astype(DType::U8);
                let code = codes.update(&code, position, 2).astype(DType::F32);
                let scale = scales.update(&scale, position, 2);
                let bias = biases.update(&lo, position, 2);
                (code * scale + bias).astype(*dtype)
            }
        }
    }
}
