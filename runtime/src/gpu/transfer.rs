//! Buffers that the host and the device both reach: one to write, one to read. Made once, mapped when needed.

use super::device::Gpu;
use crate::RuntimeError;
use std::sync::mpsc;
use wgpu::{BufferUsages, COPY_BUFFER_ALIGNMENT, CommandEncoder, MapMode};

/// A mapping that was asked for; its result, once the device has been waited for.
type Asked = mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>;

/// Bytes on their way to the device. The host may write between steps.
pub(super) struct Upload {
    buffer: wgpu::Buffer,
    mapped: bool,
}

impl Upload {
    pub(super) fn new(gpu: &Gpu, bytes: u64) -> Result<Self, RuntimeError> {
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        let buffer = gpu.buffer(&|| "inputs on their way".into(), bytes, usage, true)?;
        Ok(Upload { buffer, mapped: true })
    }

    pub(super) fn len(&self) -> u64 {
        self.buffer.size()
    }

    /// Puts bytes at an offset that is a multiple of eight. What is missing of the last word is zero.
    pub(super) fn write(&mut self, gpu: &Gpu, at: u64, bytes: &[u8]) -> Result<(), RuntimeError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.mapped {
            let asked = ask(&self.buffer, MapMode::Write, self.len());
            gpu.wait(None, "mapping inputs")?;
            arrived(gpu, &asked, "mapping inputs")?;
            self.mapped = true;
        }
        let end = at + words(bytes.len() as u64);
        let mut view =
            self.buffer.get_mapped_range_mut(at..end).map_err(|e| gpu.failed("mapping inputs", e.to_string()))?;
        view.slice(..bytes.len()).copy_from_slice(bytes);
        view.slice(bytes.len()..).fill(0);
        Ok(())
    }

    /// Hands what was written to the device: call it before the copies are submitted.
    pub(super) fn unmap(&mut self) {
        if std::mem::take(&mut self.mapped) {
            self.buffer.unmap();
        }
    }

    /// Records a copy of what was written.
    pub(super) fn copy_to(&self, encoder: &mut CommandEncoder, from: u64, to: &wgpu::Buffer, at: u64, bytes: u64) {
        encoder.copy_buffer_to_buffer(&self.buffer, from, to, at, words(bytes));
    }

    /// Asks for the mapping that the next write needs, so that waiting for the step waits for it as well.
    pub(super) fn map_again(&mut self) -> Remap {
        Remap((!self.mapped).then(|| ask(&self.buffer, MapMode::Write, self.len())))
    }

    /// Notes that the mapping is there, after the device was waited for.
    pub(super) fn mapped_again(&mut self, gpu: &Gpu, remap: Remap) -> Result<(), RuntimeError> {
        if let Some(asked) = remap.0 {
            arrived(gpu, &asked, "mapping inputs")?;
            self.mapped = true;
        }
        Ok(())
    }
}

/// A mapping of an [`Upload`] on its way.
pub(super) struct Remap(Option<Asked>);

/// Bytes on their way from the device.
pub(super) struct Readback {
    buffer: wgpu::Buffer,
}

/// Bytes that were asked for, up to this one.
pub(super) struct Reading {
    asked: Option<Asked>,
    bytes: u64,
}

impl Readback {
    pub(super) fn new(gpu: &Gpu, bytes: u64) -> Result<Self, RuntimeError> {
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        Ok(Readback { buffer: gpu.buffer(&|| "outputs on their way".into(), bytes, usage, false)? })
    }

    pub(super) fn len(&self) -> u64 {
        self.buffer.size()
    }

    /// Records a copy to here.
    pub(super) fn copy_from(&self, encoder: &mut CommandEncoder, from: &wgpu::Buffer, at: u64, to: u64, bytes: u64) {
        encoder.copy_buffer_to_buffer(from, at, &self.buffer, to, words(bytes));
    }

    /// Asks for the first bytes of it, after the copies were submitted and before the device is waited for.
    pub(super) fn ask(&self, bytes: u64) -> Reading {
        let bytes = words(bytes);
        Reading { asked: (bytes > 0).then(|| ask(&self.buffer, MapMode::Read, bytes)), bytes }
    }

    /// Hands them to `read`, after the device was waited for.
    pub(super) fn read(&self, gpu: &Gpu, reading: Reading, read: impl FnOnce(&[u8])) -> Result<(), RuntimeError> {
        let Some(asked) = reading.asked else {
            read(&[]);
            return Ok(());
        };
        let doing = "reading outputs";
        arrived(gpu, &asked, doing)?;
        let viewed = self.buffer.get_mapped_range(0..reading.bytes).map(|view| read(&view));
        self.buffer.unmap();
        viewed.map_err(|e| gpu.failed(doing, e.to_string()))
    }
}

/// Copies are of whole words; every allocation has room for them.
fn words(bytes: u64) -> u64 {
    bytes.next_multiple_of(COPY_BUFFER_ALIGNMENT)
}

fn ask(buffer: &wgpu::Buffer, mode: MapMode, bytes: u64) -> Asked {
    let (sender, receiver) = mpsc::channel();
    buffer.map_async(mode, 0..bytes, move |result| {
        // The receiver is gone if an error was reported first.
        let _ = sender.send(result);
    });
    receiver
}

fn arrived(gpu: &Gpu, asked: &Asked, doing: &str) -> Result<(), RuntimeError> {
    match asked.try_recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(gpu.failed(doing, e.to_string())),
        Err(_) => Err(gpu.failed(doing, "the device did not answer")),
    }
}
