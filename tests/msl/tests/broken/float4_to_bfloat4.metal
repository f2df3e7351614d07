#include <metal_stdlib>
using namespace metal;
struct Scalars { uint n; uint k; };
kernel void broken(constant Scalars& scalars [[buffer(0)]], device const float* x [[buffer(1)]], device bfloat* y [[buffer(2)]], uint3 group_id [[threadgroup_position_in_grid]], uint lane [[thread_index_in_threadgroup]]) {
  *(device bfloat4*)(y + 4u * lane) = *(device const float4*)(x + 4u * lane);
}
