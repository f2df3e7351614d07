//! Patterns that become one kernel, in the spellings users write: what the tests of fusion compile, run and count, and what
//! the book's table lists.

use mlxc::losses::{Reduction, cross_entropy};
use mlxc::nn::RoPE;
use mlxc::trace::Dim;
use mlxc::{Array, Context, DType, Scheme};

/// A pattern in several spellings.
pub struct Pattern {
    /// Name in the table; the key of MLX's count.
    pub name: &'static str,
    /// Kernels of mlxc.
    pub kernels: usize,
    /// Ways to write it: a name, and the model with a symbolic extent.
    pub spellings: &'static [(&'static str, fn(&Context, &Dim))],
}

fn rows(cx: &Context, s: &Dim, name: &str, dtype: DType, n: i64) -> Array {
    cx.input(name, dtype, (s, n))
}

fn x(cx: &Context, s: &Dim, n: i64) -> Array {
    rows(cx, s, "x", DType::F32, n)
}

fn half(cx: &Context, s: &Dim, n: i64) -> Array {
    rows(cx, s, "x", DType::BF16, n)
}

fn weight(cx: &Context, name: &str, n: i64, dtype: DType) -> Array {
    cx.weight(name, dtype, [n])
}

fn rms(x: &Array, w: &Array) -> Array {
    x * (x.square().mean(-1, true) + 1e-5).rsqrt() * w
}

fn rms_f32(x: &Array, w: &Array) -> Array {
    let wide = x.astype(DType::F32);
    let scale = (wide.power(2.0).mean(-1, true) + 1e-6).rsqrt();
    w * (wide * scale).astype(x.dtype())
}

/// Ids below 40.
fn targets(cx: &Context, s: &Dim) -> Array {
    cx.input("targets", DType::I32, (s,)).abs().remainder(40)
}

/// Heads `[1, 4, S, 32]` of rows.
fn heads(x: &Array, count: i64, width: i64) -> Array {
    x.reshape((1, x.dim(0), count, width)).transpose([0, 2, 1, 3])
}

/// Every pattern.
pub const PATTERNS: &[Pattern] = &[
    Pattern {
        name: "softmax",
        kernels: 1,
        spellings: &[
            ("exp(x - max) / sum", |cx, s| {
                let x = x(cx, s, 100);
                let e = (&x - x.max(-1, true)).exp();
                cx.output("out", &(&e / e.sum(-1, true)));
            }),
            ("without the maximum", |cx, s| {
                let e = x(cx, s, 100).exp();
                cx.output("out", &(&e / e.sum(-1, true)));
            }),
            ("softmax(x)", |cx, s| cx.output("out", &half(cx, s, 77).softmax())),
            ("exp(x - logsumexp(x))", |cx, s| {
                let x = x(cx, s, 100);
                cx.output("out", &(&x - x.logsumexp(-1, true)).exp());
            }),
        ],
    },
    Pattern {
        name: "scaled, masked softmax times a gate",
        kernels: 1,
        spellings: &[
            ("where, then exp(x - max) / sum", |cx, s| {
                let (x, gate) = (x(cx, s, 96), rows(cx, s, "y", DType::F32, 96));
                let mask = cx.constant(&[0.0; 96], &[96]);
                let s = &x * 0.125 + &mask;
                let e = (&s - s.max(-1, true)).exp();
                cx.output("out", &(&e / e.sum(-1, true) * gate.sigmoid()));
            }),
            ("softmax(x * c) * sigmoid(y)", |cx, s| {
                let (x, gate) = (half(cx, s, 96), rows(cx, s, "y", DType::BF16, 96));
                cx.output("out", &((x * 0.125).softmax() * gate.sigmoid()));
            }),
        ],
    },
    Pattern {
        name: "log-softmax",
        kernels: 1,
        spellings: &[
            ("x - max - log(sum(exp(x - max)))", |cx, s| {
                let x = x(cx, s, 77) * 2.0;
                let shifted = &x - x.max(-1, true);
                cx.output("out", &(&shifted - shifted.exp().sum(-1, true).log()));
            }),
            ("x - logsumexp(x)", |cx, s| {
                let x = x(cx, s, 77);
                cx.output("out", &(&x - x.logsumexp(-1, true)));
            }),
            ("log(softmax(x))", |cx, s| cx.output("out", &x(cx, s, 77).softmax().log())),
            ("log_softmax(x)", |cx, s| cx.output("out", &half(cx, s, 77).log_softmax(-1))),
        ],
    },
    Pattern {
        name: "RMSNorm",
        kernels: 1,
        spellings: &[
            ("x * rsqrt(mean(x²) + eps) * w, then silu", |cx, s| {
                let x = half(cx, s, 200);
                cx.output("out", &rms(&x, &weight(cx, "w", 200, DType::BF16)).silu());
            }),
            ("in f32, as model code has it", |cx, s| {
                let x = half(cx, s, 200);
                cx.output("out", &rms_f32(&x, &weight(cx, "w", 200, DType::BF16)));
            }),
            ("x / sqrt(sum(x * x) / n + eps) * w", |cx, s| {
                let x = x(cx, s, 129);
                let mean = (&x * &x).sum(-1, true) / 129.0;
                cx.output("out", &(&x / (mean + 1e-5).sqrt() * weight(cx, "w", 129, DType::F32)));
            }),
            ("rms_norm(x, w)", |cx, s| {
                let x = x(cx, s, 64);
                cx.output("out", &x.rms_norm(Some(&weight(cx, "w", 64, DType::F32)), 1e-5));
            }),
        ],
    },
    Pattern {
        name: "layer norm",
        kernels: 1,
        spellings: &[
            ("from the centred x", |cx, s| {
                let x = x(cx, s, 129);
                let centred = &x - x.mean(-1, true);
                let y = &centred * (centred.square().mean(-1, true) + 1e-5).rsqrt();
                cx.output("out", &(y * weight(cx, "w", 129, DType::F32) + weight(cx, "b", 129, DType::F32)));
            }),
            ("(x - mean) / sqrt(var + eps)", |cx, s| {
                let x = half(cx, s, 96);
                let y = (&x - x.mean(-1, true)) / (x.var(-1, true, 0) + 1e-5).sqrt();
                cx.output("out", &(y * weight(cx, "w", 96, DType::BF16) + weight(cx, "b", 96, DType::BF16)));
            }),
            ("mean(x²) - mean(x)²", |cx, s| {
                let x = x(cx, s, 128);
                let mean = x.mean(-1, true);
                let var = x.square().mean(-1, true) - mean.square();
                cx.output("out", &((&x - &mean) * (var + 1e-5).rsqrt()));
            }),
        ],
    },
    Pattern {
        name: "residual and RMSNorm, both results",
        kernels: 1,
        spellings: &[("from primitives", |cx, s| {
            let (x, r) = (half(cx, s, 96), rows(cx, s, "y", DType::BF16, 96));
            let sum = &x + &r;
            cx.output("sum", &sum);
            cx.output("out", &rms(&sum, &weight(cx, "w", 96, DType::BF16)));
        })],
    },
    Pattern {
        name: "RMSNorm of heads and rotary embedding",
        kernels: 1,
        spellings: &[
            ("rms_norm, then rope", |cx, s| {
                let at = cx.scalar("at", 0..=63);
                let q = heads(&half(cx, s, 128), 4, 32).rms_norm(Some(&weight(cx, "w", 32, DType::BF16)), 1e-6);
                cx.output("out", &RoPE::new(32, 10000.0).forward(cx, &q, &at));
            }),
            ("from primitives, then rope", |cx, s| {
                let at = cx.scalar("at", 0..=63);
                let q = rms(&heads(&x(cx, s, 128), 4, 32), &weight(cx, "w", 32, DType::F32));
                cx.output("out", &RoPE::new(32, 10000.0).forward(cx, &q, &at));
            }),
        ],
    },
    Pattern {
        name: "RMSNorm and quantising to 8 bits",
        kernels: 1,
        spellings: &[("one scale a row", |cx, s| {
            let y = rms(&x(cx, s, 128), &weight(cx, "w", 128, DType::F32));
            let scale = y.abs().max(-1, true).maximum(1e-6) / 127.0;
            cx.output("codes", &(&y / &scale).round().astype(DType::I8));
            cx.output("scale", &scale);
        })],
    },
    Pattern {
        name: "quantising groups to 8 bits",
        kernels: 2,
        spellings: &[("quantize(x)", |cx, s| {
            let q = x(cx, s, 128).quantize(Scheme::affine(8, 64).expect("a scheme"));
            cx.output("words", &q.words);
            cx.output("scales", &q.scales);
            cx.output("biases", &q.biases.expect("affine schemes have biases"));
        })],
    },
    Pattern {
        name: "sum(exp(2x))",
        kernels: 1,
        spellings: &[
            ("then sqrt", |cx, s| cx.output("out", &(x(cx, s, 50) * 2.0).exp().sum(-1, false).sqrt())),
            ("over rows", |cx, s| cx.output("out", &(x(cx, s, 50) * 2.0).exp().sum(0, false))),
        ],
    },
    Pattern {
        name: "mean and variance",
        kernels: 1,
        spellings: &[
            ("mean(x), var(x)", |cx, s| {
                let x = x(cx, s, 50);
                cx.output("mean", &x.mean(-1, false));
                cx.output("var", &x.var(-1, false, 0));
            }),
            ("mean(x), mean(x²) - mean(x)²", |cx, s| {
                let x = x(cx, s, 64);
                let mean = x.mean(-1, false);
                cx.output("var", &(x.square().mean(-1, false) - mean.square()));
                cx.output("mean", &mean);
            }),
        ],
    },
    Pattern {
        name: "cross-entropy",
        kernels: 1,
        spellings: &[
            ("logsumexp(x) - x[target]", |cx, s| {
                let x = x(cx, s, 40);
                let picked = x.take_along_axis(&targets(cx, s).expand_dims(-1), -1).squeeze(-1);
                cx.output("out", &(x.logsumexp(-1, false) - picked));
            }),
            ("-log_softmax(x)[target]", |cx, s| {
                let x = half(cx, s, 40);
                let picked = x.log_softmax(-1).take_along_axis(&targets(cx, s).expand_dims(-1), -1);
                cx.output("out", &picked.squeeze(-1).negative());
            }),
            ("-log(softmax(x))[target]", |cx, s| {
                let p = x(cx, s, 40).softmax();
                let picked = p.log().take_along_axis(&targets(cx, s).expand_dims(-1), -1);
                cx.output("out", &picked.squeeze(-1).negative());
            }),
            ("cross_entropy(x, targets)", |cx, s| {
                let x = x(cx, s, 40);
                cx.output("out", &cross_entropy(&x, &targets(cx, s), None, -1, 0.0, Reduction::None));
            }),
        ],
    },
    Pattern {
        name: "gelu(x @ w + b)",
        kernels: 1,
        spellings: &[
            ("gelu", |cx, s| {
                let (x, w) = (half(cx, s, 64), cx.weight("w", DType::BF16, [96, 64]));
                cx.output("out", &(x.matmul(&w.t()) + weight(cx, "b", 96, DType::BF16)).gelu());
            }),
            ("the tanh formula", |cx, s| {
                let (x, w) = (x(cx, s, 64), cx.weight("w", DType::F32, [96, 64]));
                let y = x.matmul(&w.t()) + weight(cx, "b", 96, DType::F32);
                let inner = (&y + y.power(3.0) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
                cx.output("out", &(&y * 0.5 * (inner.tanh() + 1.0)));
            }),
            ("the erf formula", |cx, s| {
                let (x, w) = (x(cx, s, 64), cx.weight("w", DType::F32, [96, 64]));
                let y = x.matmul(&w.t()) + weight(cx, "b", 96, DType::F32);
                cx.output("out", &(&y * ((&y / std::f64::consts::SQRT_2).erf() + 1.0) / 2.0));
            }),
        ],
    },
    Pattern {
        name: "gelu(x @ w + b) + x",
        kernels: 1,
        spellings: &[("with the residual", |cx, s| {
            let (x, w) = (half(cx, s, 64), cx.weight("w", DType::BF16, [64, 64]));
            cx.output("out", &((x.matmul(&w.t()) + weight(cx, "b", 64, DType::BF16)).gelu() + &x));
        })],
    },
    Pattern {
        name: "SwiGLU: silu(x @ g) * (x @ u)",
        kernels: 1,
        spellings: &[
            ("silu(gate) * up", |cx, s| {
                let x = half(cx, s, 64);
                let w = |name| cx.weight(name, DType::BF16, [96, 64]);
                let (g, u) = (x.matmul(&w("gate").t()), x.matmul(&w("up").t()));
                cx.output("out", &(g.silu() * u));
            }),
            ("gate * sigmoid(gate) * up", |cx, s| {
                let x = x(cx, s, 64);
                let w = |name| cx.weight(name, DType::F32, [96, 64]);
                let (g, u) = (x.matmul(&w("gate").t()), x.matmul(&w("up").t()));
                cx.output("out", &(&g * g.sigmoid() * u));
            }),
            ("up first", |cx, s| {
                let x = half(cx, s, 64);
                let w = |name| cx.weight(name, DType::BF16, [96, 64]);
                let (u, g) = (x.matmul(&w("up").t()), x.matmul(&w("gate").t()));
                cx.output("out", &(u * g.silu()));
            }),
            ("one wide product, split", |cx, s| {
                let (x, w) = (half(cx, s, 64), cx.weight("w", DType::BF16, [192, 64]));
                let parts = x.matmul(&w.t()).split(&[96, 96], -1);
                cx.output("out", &(parts[0].silu() * &parts[1]));
            }),
        ],
    },
    Pattern {
        name: "embedding, scaled, and RMSNorm",
        kernels: 1,
        spellings: &[("take(w, ids) * 8, then the norm", |cx, s| {
            let ids = cx.input("ids", DType::I32, (s,)).abs().remainder(40);
            let table = cx.weight("table", DType::BF16, [40, 64]);
            let h = table.take(&ids, 0) * 8.0;
            cx.output("out", &rms(&h, &weight(cx, "w", 64, DType::BF16)));
        })],
    },
    Pattern {
        name: "arg-max of logits / temperature",
        kernels: 1,
        spellings: &[
            ("argmax(x / t)", |cx, s| cx.output("out", &(x(cx, s, 200) / 0.7).argmax(-1, false))),
            ("with a soft cap", |cx, s| {
                let x = half(cx, s, 200);
                cx.output("out", &((x / 30.0).tanh() * 30.0).argmax(-1, false));
            }),
        ],
    },
    Pattern {
        name: "three results of one read",
        kernels: 1,
        spellings: &[("exp(x), 2x, x + y", |cx, s| {
            let (x, y) = (x(cx, s, 64), rows(cx, s, "y", DType::F32, 64));
            cx.output("a", &x.exp());
            cx.output("b", &(&x * 2.0));
            cx.output("c", &(&x + &y));
        })],
    },
    Pattern {
        name: "rotary embedding and cache write",
        kernels: 1,
        spellings: &[("rope, then slice_update", |cx, s| {
            let at = cx.scalar("at", 0..=63);
            let k = RoPE::new(32, 10000.0).forward(cx, &heads(&x(cx, s, 128), 4, 32), &at);
            let cache = cx.state("k", DType::F32, [1, 4, 128, 32]);
            cache.update(&k, &at, 2);
        })],
    },
    Pattern {
        name: "norm of a row over several axes",
        kernels: 1,
        spellings: &[("group norm", |cx, s| {
            let x = x(cx, s, 96).reshape((s, 8, 12));
            let centred = &x - x.mean(-1, true);
            let y = &centred * (centred.square().mean(-1, true) + 1e-5).rsqrt();
            let y = y.reshape((s, 96));
            cx.output("out", &(y * weight(cx, "w", 96, DType::F32) + weight(cx, "b", 96, DType::F32)));
        })],
    },
];
