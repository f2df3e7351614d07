#include <metal_stdlib>
using namespace metal;
struct Scalars { uint n; uint k; };
kernel void broken(constant Scalars& scalars [[buffer(0)]], device const float* x [[buffer(1)]], device float* y [[buffer(2)]], uint3 group_id [[threadgroup_position_in_grid]], uint lane [[thread_index_in_threadgroup]]) {
  y[group_id.x * 64u + lane] = simd_total(x[lane]);
}
