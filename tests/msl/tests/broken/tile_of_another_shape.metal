#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
struct Scalars { uint n; uint k; };
kernel void broken(constant Scalars& scalars [[buffer(0)]], device const float* x [[buffer(1)]], device float* y [[buffer(2)]], uint3 group_id [[threadgroup_position_in_grid]], uint lane [[thread_index_in_threadgroup]]) {
  simdgroup_matrix<float, 16, 16> a;
  simdgroup_load(a, x, 16ul);
  simdgroup_store(a, y, 16ul);
}
