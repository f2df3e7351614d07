//! Weights that Metal reads where the package is mapped.

use super::device::Gpu;
use objc2_metal::{MTLDevice, MTLResourceOptions};
use std::ffi::c_void;
use std::ptr::NonNull;
use wgpu::hal::api::Metal;

/// Pages of Apple silicon, and what package members are aligned to.
const PAGE: usize = 16 << 10;

/// A member of a mapped package as a buffer, without a copy. The package stays mapped as long as the buffer.
pub(super) fn import(gpu: &Gpu, member: &[u8]) -> Option<wgpu::Buffer> {
    if member.is_empty() || member.as_ptr().align_offset(PAGE) != 0 {
        return None;
    }
    let bytes = member.len().next_multiple_of(PAGE);
    let start = NonNull::new(member.as_ptr().cast_mut().cast::<c_void>())?;
    // SAFETY: the range is whole pages of a mapping (the last one of a file is filled up with zeros), which the model
    // keeps for as long as it keeps the device. Kernels only read it: a plan that stores to a weight is refused.
    unsafe {
        let raw = {
            let device = gpu.device.as_hal::<Metal>()?;
            let options = MTLResourceOptions::StorageModeShared;
            let raw = device.raw_device();
            raw.newBufferWithBytesNoCopy_length_options_deallocator(start, bytes, options, None)?
        };
        let buffer = wgpu::hal::metal::Device::buffer_from_raw(raw, bytes as u64);
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        };
        gpu.caught(|| gpu.device.create_buffer_from_hal::<Metal>(buffer, &descriptor)).ok()
    }
}
