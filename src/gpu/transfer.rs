//! Buffers for activations and results, and reading results back.

use super::runtime::Runtime;
use crate::error::{Error, Result};
use futures_intrusive::channel::shared::oneshot_channel;

/// What a buffer is for.
pub(super) const INPUT: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
pub(super) const OUTPUT: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
const STAGING: wgpu::BufferUsages = wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);

/// A new buffer of at least `bytes` bytes.
///
/// # Errors
/// [`Error::LimitExceeded`] above the device's largest buffer, [`Error::OutOfMemory`].
pub(super) fn buffer(
    runtime: &Runtime,
    what: &str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let limit = runtime.caps().max_buffer;
    if bytes > limit {
        return Err(Error::LimitExceeded { what: what.into(), wanted: bytes, limit });
    }
    runtime.guard(
        || format!("allocating {what}"),
        bytes,
        || {
            runtime.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size: bytes.next_multiple_of(4).max(16),
                usage,
                mapped_at_creation: false,
            })
        },
    )
}

/// A new buffer that holds `data`.
pub(super) fn filled<T: bytemuck::NoUninit>(
    runtime: &Runtime,
    what: &str,
    data: &[T],
) -> Result<wgpu::Buffer> {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    let buffer = buffer(runtime, what, bytes.len() as u64, INPUT)?;
    runtime.guard(
        || format!("writing {what}"),
        bytes.len() as u64,
        || {
            runtime.queue().write_buffer(&buffer, 0, bytes);
        },
    )?;
    Ok(buffer)
}

/// Adds the copy of the first `bytes` of `from` to `encoder` and returns where they go.
pub(super) fn stage(
    runtime: &Runtime,
    encoder: &mut wgpu::CommandEncoder,
    from: &wgpu::Buffer,
    bytes: u64,
) -> Result<wgpu::Buffer> {
    let staging = buffer(runtime, "the result's staging buffer", bytes, STAGING)?;
    encoder.copy_buffer_to_buffer(from, 0, &staging, 0, bytes);
    Ok(staging)
}

/// Submits `encoder`, waits without blocking the caller's executor, and returns the f32 content of `staging`.
pub(super) async fn submit_and_read(
    runtime: &Runtime,
    encoder: wgpu::CommandEncoder,
    staging: &wgpu::Buffer,
    count: usize,
) -> Result<Vec<f32>> {
    let receiver = submit_and_map(runtime, encoder, staging)?;
    let waiter = runtime.clone();
    // Somebody must poll a native device until the map callback has run.
    std::thread::spawn(move || {
        let _ = waiter.device().poll(wgpu::PollType::wait_indefinitely());
    });
    finish_read(runtime, receiver.receive().await, staging, count)
}

/// [`submit_and_read`], blocking.
pub(super) fn submit_and_read_blocking(
    runtime: &Runtime,
    encoder: wgpu::CommandEncoder,
    staging: &wgpu::Buffer,
    count: usize,
) -> Result<Vec<f32>> {
    let receiver = submit_and_map(runtime, encoder, staging)?;
    runtime.wait()?;
    finish_read(runtime, pollster::block_on(receiver.receive()), staging, count)
}

type Mapped = std::result::Result<(), wgpu::BufferAsyncError>;

fn submit_and_map(
    runtime: &Runtime,
    encoder: wgpu::CommandEncoder,
    staging: &wgpu::Buffer,
) -> Result<futures_intrusive::channel::shared::OneshotReceiver<Mapped>> {
    let (sender, receiver) = oneshot_channel();
    runtime.guard(
        || "submitting work".into(),
        0,
        || {
            runtime.queue().submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                let _ = sender.send(result);
            });
        },
    )?;
    Ok(receiver)
}

fn finish_read(
    runtime: &Runtime,
    mapped: Option<Mapped>,
    staging: &wgpu::Buffer,
    count: usize,
) -> Result<Vec<f32>> {
    runtime.check()?;
    let failed = |message: String| Error::Gpu { doing: "reading the result back".into(), message };
    match mapped {
        Some(Ok(())) => {}
        Some(Err(e)) => return Err(failed(e.to_string())),
        None => return Err(failed("the device dropped the request".into())),
    }
    let view = staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
    let values = bytemuck::cast_slice(&view)[..count].to_vec();
    drop(view);
    staging.unmap();
    Ok(values)
}
