//! Creation, movement, products, convolutions, pools and random numbers.

use super::cases::{Case, exact, near};
use mlxc::{Array, Convolution, DType, PadMode, random};

const EINSUMS: [&str; 11] = [
    "ij,jk->ik",
    "bij,bjk->bik",
    "ij,ij->i",
    "ij,kj,k->i",
    "ii->i",
    "ii",
    "i,j->ij",
    "abc->ca",
    "bhqd,bhkd->bhqk",
    "ij,jk",
    "ij,k->",
];

fn einsum<const I: usize>(x: &[Array]) -> Vec<Array> {
    vec![Array::einsum(EINSUMS[I], &x.iter().collect::<Vec<_>>())]
}

pub fn cases() -> Vec<Case> {
    let mut c = vec![
        exact("create/arange", |cx, _| {
            let (i, f) = (DType::I32, DType::F32);
            let (up, floats) = (cx.arange_from(1.0, 9.0, 3.0, i), cx.arange_from(0.5, 2.5, 0.25, f));
            vec![cx.arange(7, i), up, floats, cx.arange_from(5.0, 0.0, -2.0, i)]
        }),
        exact("create/linspace", |cx, _| {
            let f = DType::F32;
            vec![cx.linspace(0.0, 1.0, 7, f), cx.linspace(-3.0, 5.0, 4, f), cx.linspace(2.0, 9.0, 1, f)]
        }),
        exact("create/eye", |cx, _| {
            let f = DType::F32;
            vec![cx.eye(4, 4, 0, f), cx.eye(3, 5, 1, f), cx.eye(4, 3, -1, f), cx.identity(3, f)]
        }),
        exact("create/tri", |cx, _| {
            let f = DType::F32;
            vec![cx.tri(4, 4, 0, f), cx.tri(3, 5, 1, f), cx.tri(4, 4, -2, f)]
        }),
        exact("create/tril_triu", |_, x| vec![x[0].tril(0), x[0].triu(0), x[0].tril(1), x[0].triu(-1)]),
        exact("create/diag", |_, x| vec![x[0].diag(0), x[0].diag(2), x[0].diag(-1)]),
        exact("create/diagonal", |_, x| vec![x[0].diagonal(0, 0, 1), x[0].diagonal(1, 1, 2), x[0].diagonal(-1, 2, 0)]),
        near("create/trace", 4.0, |_, x| vec![x[0].trace(0, 0, 1), x[0].trace(1, 1, 2)]),
        exact("create/meshgrid", |cx, x| {
            let axes = [&x[0], &x[1]];
            [cx.meshgrid(&axes, true), cx.meshgrid(&axes, false)].concat()
        }),
        exact("create/full", |cx, _| {
            vec![cx.full((2, 3), 1.5, DType::F32), cx.zeros([3], DType::F32), cx.ones((2, 2), DType::I32)]
        }),
        exact("move/concatenate", |_, x| {
            vec![Array::concatenate(&[&x[0], &x[1]], 0), Array::stack(&[&x[0], &x[0]], 1)]
        }),
        exact("move/split", |_, x| [x[0].split_sections(2, 1), x[0].split_at(&[1, 4], 2)].concat()),
        exact("move/tile", |_, x| vec![x[0].tile(&[2, 3]), x[0].tile(&[2, 1, 2])]),
        exact("move/repeat", |_, x| vec![x[0].repeat(3, 1), x[0].repeat(2, 0)]),
        exact("move/roll", |_, x| vec![x[0].roll(2, 1), x[0].roll(-1, 0), x[0].roll(12, 1)]),
        exact("move/pad", |_, x| {
            vec![x[0].pad(&[(1, 2), (0, 3)], 2.5), x[0].pad_mode(&[(2, 1), (1, 2)], PadMode::Edge)]
        }),
        exact("move/pad_mirror", |_, x| {
            let widths = [(2, 1), (3, 4)];
            vec![x[0].pad_mode(&widths, PadMode::Reflect), x[0].pad_mode(&widths, PadMode::Symmetric)]
        }),
        exact("move/flatten", |_, x| vec![x[0].flatten(), x[0].flatten_axes(1, 2), x[0].unflatten(-1, [5, 1])]),
        exact("move/axes", |_, x| {
            vec![x[0].moveaxis(0, 2), x[0].swapaxes(0, 1), x[0].transpose([2, 0, 1]), x[0].expand_dims(1)]
        }),
        exact("move/atleast", |_, x| {
            let (a, b) = (&x[0], &x[1]);
            vec![a.atleast_1d(), b.atleast_2d(), b.atleast_3d(), b.expand_dims(1).atleast_3d()]
        }),
        exact("move/flip", |_, x| vec![x[0].flip(0), x[0].slice_step(1, 4, -1, -2), x[0].slice_step(0, 4, 0, -2)]),
        exact("move/as_strided", |_, x| vec![x[0].as_strided(&[3, 4], &[2, 1], 1)]),
        exact("move/broadcast", |_, x| {
            let mut out = vec![x[0].broadcast_to([2, 3, 5])];
            out.extend(Array::broadcast_arrays(&[&x[0], &x[1]]));
            out
        }),
        near("product/matmul", 4.0, |_, x| {
            let (a, b) = (&x[0], &x[1]);
            let (row, column) = (a.slice(0, 0, 1).squeeze(0), b.slice(1, 0, 1).squeeze(1));
            vec![a.matmul(b), row.matmul(b), a.matmul(&column), row.matmul(&column)]
        }),
        near("product/matmul_batch", 4.0, |_, x| {
            vec![x[0].matmul(&x[1]), x[0].matmul(&x[1].slice(0, 0, 1).squeeze(0))]
        }),
        near("product/addmm", 4.0, |_, x| vec![x[0].addmm(&x[1], &x[2], 0.5, 2.0)]),
        near("product/tensordot", 4.0, |_, x| vec![x[0].tensordot(&x[1], [1, 2], [0, 1]), x[0].tensordot(&x[1], 1, 0)]),
        near("product/inner", 4.0, |_, x| vec![x[0].inner(&x[1])]),
        exact("product/outer", |_, x| vec![x[0].outer(&x[1])]),
        exact("product/kron", |_, x| vec![x[0].kron(&x[1])]),
        near("product/einsum0", 4.0, |_, x| einsum::<0>(x)),
        near("product/einsum1", 4.0, |_, x| einsum::<1>(x)),
        near("product/einsum2", 4.0, |_, x| einsum::<2>(x)),
        near("product/einsum3", 4.0, |_, x| einsum::<3>(x)),
        near("product/einsum4", 0.0, |_, x| einsum::<4>(x)),
        near("product/einsum5", 4.0, |_, x| einsum::<5>(x)),
        near("product/einsum6", 0.0, |_, x| einsum::<6>(x)),
        near("product/einsum7", 4.0, |_, x| einsum::<7>(x)),
        near("product/einsum8", 4.0, |_, x| einsum::<8>(x)),
        near("product/einsum9", 4.0, |_, x| einsum::<9>(x)),
        near("product/einsum10", 8.0, |_, x| einsum::<10>(x)),
        near("conv/conv1d", 8.0, |_, x| vec![x[0].conv1d(&x[1], 1, 0, 1, 1), x[0].conv1d(&x[1], 2, 3, 2, 1)]),
        near("conv/conv2d", 8.0, |_, x| {
            vec![x[0].conv2d(&x[1], [1, 1], [0, 0], [1, 1], 1), x[0].conv2d(&x[1], [2, 1], [1, 2], [1, 2], 1)]
        }),
        near("conv/conv3d", 8.0, |_, x| vec![x[0].conv3d(&x[1], [1, 1, 1], [1, 0, 1], [1, 1, 1], 1)]),
        near("conv/groups", 8.0, |_, x| vec![x[0].conv2d(&x[1], [1, 1], [1, 1], [1, 1], 2)]),
        near("conv/depthwise", 8.0, |_, x| vec![x[0].conv2d(&x[1], [1, 1], [1, 1], [1, 1], 4)]),
        near("conv/general", 8.0, |_, x| {
            let attributes = Convolution {
                stride: vec![2],
                padding: vec![(1, 2), (0, 1)],
                kernel_dilation: vec![2],
                input_dilation: vec![2, 3],
                flip: true,
                ..Convolution::default()
            };
            vec![x[0].conv_general(&x[1], &attributes)]
        }),
        near("conv/negative", 8.0, |_, x| {
            vec![x[0].conv_general(&x[1], &Convolution { padding: vec![(-1, 2)], ..Convolution::default() })]
        }),
        near("conv/transpose1d", 8.0, |_, x| {
            vec![x[0].conv_transpose1d(&x[1], 2, 1, 1, 0, 1), x[0].conv_transpose1d(&x[1], 3, 0, 2, 1, 1)]
        }),
        near("conv/transpose2d", 8.0, |_, x| vec![x[0].conv_transpose2d(&x[1], [2, 1], [1, 0], [1, 1], [0, 0], 1)]),
        near("conv/transpose3d", 8.0, |_, x| vec![x[0].conv_transpose3d(&x[1], [2; 3], [0; 3], [1; 3], [0; 3], 1)]),
        near("conv/half", 2.0, |_, x| vec![x[0].conv2d(&x[1], [1, 1], [1, 1], [1, 1], 1)]),
        exact("pool/max", |_, x| vec![x[0].max_pool(&[2, 2], &[2], &[0]), x[0].max_pool(&[3, 2], &[2, 1], &[1, 0])]),
        near("pool/avg", 2.0, |_, x| {
            vec![x[0].avg_pool(&[2, 2], &[2], &[0]), x[0].avg_pool(&[3, 2], &[2, 1], &[1, 0])]
        }),
        near("pool/line", 2.0, |_, x| vec![x[0].max_pool(&[3], &[2], &[1]), x[0].avg_pool(&[3], &[2], &[0])]),
        near("pool/volume", 2.0, |_, x| vec![x[0].max_pool(&[2; 3], &[2], &[0]), x[0].avg_pool(&[2; 3], &[1], &[0])]),
        exact("random/key", |cx, _| vec![cx.random_key(5), cx.random_key((1 << 33) + 1)]),
        near("random/truncated_normal", 16.0, |_, x| {
            vec![random::truncated_normal(&x[0], -1.0, 2.0, [33], DType::F32)]
        }),
        near("random/gumbel", 4.0, |_, x| vec![random::gumbel(&x[0], [33], DType::F32)]),
        near("random/laplace", 4.0, |_, x| {
            vec![random::laplace(&x[0], 0.0, 1.0, [33], DType::F32), random::laplace(&x[0], 1.0, 3.0, [9], DType::F32)]
        }),
        exact("random/categorical", |_, x| {
            vec![random::categorical(&x[0], &x[1], -1), random::categorical(&x[0], &x[1], 0)]
        }),
        exact("random/permuted", |_, x| vec![random::permuted(&x[0], &x[1], 0)]),
    ];
    macro_rules! seeds {
        ($($i:literal)*) => {$(
            c.push(exact(concat!("random/split", $i), |_, x| vec![random::split(&x[0], 2), random::split(&x[0], 5)]));
            c.push(exact(concat!("random/uniform", $i), |_, x| {
                let k = &x[0];
                vec![
                    random::uniform(k, 0, 1, [33], DType::F32),
                    random::uniform(k, -3, 5, (4, 5), DType::F32),
                    random::uniform(k, 0, 1, [9], DType::F16),
                    random::uniform(k, -1, 1, [9], DType::BF16),
                ]
            }));
            c.push(near(concat!("random/normal", $i), 4.0, |_, x| {
                let k = &x[0];
                vec![random::normal(k, 0.0, 1.0, [33], DType::F32), random::normal(k, 1.5, 2.0, (4, 3), DType::F32)]
            }));
            c.push(exact(concat!("random/bernoulli", $i), |_, x| {
                vec![random::bernoulli(&x[0], 0.3, [65]), random::bernoulli(&x[0], 1.0, [5])]
            }));
            c.push(exact(concat!("random/randint", $i), |_, x| {
                let k = &x[0];
                vec![random::randint(k, -5, 20, [33], DType::I32), random::randint(k, 0, 1000000, (4, 5), DType::U32)]
            }));
            c.push(exact(concat!("random/permutation", $i), |_, x| vec![random::permutation(&x[0], 23)]));
        )*};
    }
    seeds!(0 1 2);
    c
}
