//! Buffers for activations and results, and reading results back.

use super::hooks::Point;
use super::memory::{self, Buffer};
use super::runtime::Runtime;
use crate::error::{Error, Result};
use futures_intrusive::channel::shared::oneshot_channel;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// What a buffer is for.
pub(super) const INPUT: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
pub(super) const OUTPUT: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
const STAGING: wgpu::BufferUsages = wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);

/// A new buffer of at least `bytes` bytes.
///
/// # Errors
/// [`Error::LimitExceeded`] above the device's largest buffer, [`Error::OutOfMemory`].
pub(super) fn buffer(runtime: &Runtime, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
    let limit = runtime.caps().max_buffer;
    if bytes > limit {
        return Err(Error::LimitExceeded { what: what.into(), wanted: bytes, limit });
    }
    create(runtime, || format!("allocating {what}"), what, bytes, usage)
}

/// The same below every limit of the device. `doing` is for the message, `label` for debuggers of shaders.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn create(
    runtime: &Runtime,
    doing: impl Fn() -> String,
    label: &str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<Buffer> {
    let size = bytes.next_multiple_of(4).max(16);
    let reservation = runtime.budget().take(&doing, size)?;
    let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
    let buffer = runtime.catch_errors(doing, size, || runtime.device().create_buffer(&descriptor))?;
    Ok(Buffer::new(buffer, reservation))
}

/// A new buffer that holds `data`.
pub(super) fn filled<T: bytemuck::NoUninit>(runtime: &Runtime, what: &str, data: &[T]) -> Result<Buffer> {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    let buffer = buffer(runtime, what, bytes.len() as u64, INPUT)?;
    runtime.catch_errors(
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
    what: &str,
    from: &wgpu::Buffer,
    bytes: u64,
) -> Result<Buffer> {
    let staging = buffer(runtime, &format!("room to read {what}"), bytes, STAGING)?;
    encoder.copy_buffer_to_buffer(from, 0, &staging, 0, bytes);
    memory::hold(encoder, vec![staging.reservation().clone()]);
    Ok(staging)
}

/// Submits `encoder`, waits without blocking the caller's executor, and returns the f32 content of `staging`.
pub(super) async fn submit_and_read(
    runtime: &Runtime,
    encoder: wgpu::CommandEncoder,
    staging: &Buffer,
    count: usize,
) -> Result<Vec<f32>> {
    let mapping = submit_and_map(runtime, encoder, staging)?;
    let (sender, done) = oneshot_channel();
    let waiter = runtime.clone();
    // Somebody must poll a native device until the map callback has run.
    let wait = move || sender.send(wait_for_map(&waiter, &mapping));
    std::thread::Builder::new().spawn(wait).map_err(failed)?;
    done.receive().await.unwrap_or_else(|| Err(failed("the thread that waited for it has ended")))?;
    read(runtime, staging, count)
}

/// [`submit_and_read`], blocking.
pub(super) fn submit_and_read_blocking(
    runtime: &Runtime,
    encoder: wgpu::CommandEncoder,
    staging: &Buffer,
    count: usize,
) -> Result<Vec<f32>> {
    wait_for_map(runtime, &submit_and_map(runtime, encoder, staging)?)?;
    read(runtime, staging, count)
}

/// A buffer that is about to be mapped.
struct Mapping {
    /// What must end before.
    submission: wgpu::SubmissionIndex,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

fn submit_and_map(runtime: &Runtime, encoder: wgpu::CommandEncoder, staging: &Buffer) -> Result<Mapping> {
    let submission = runtime.submit(encoder)?;
    runtime.at(Point::Mapping(staging));
    let (sender, mapped) = channel();
    let map = || {
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
        });
    };
    runtime.catch_errors(|| DOING.into(), 0, map)?;
    Ok(Mapping { submission, mapped })
}

/// How long another thread that polls may take from a callback's arrival to its end.
const HAND_OVER: Duration = Duration::from_millis(20);

/// In the usual case without an error scope: wgpu keeps a few bytes for every thread that ever had one, and threads may be many.
fn wait_for_map(runtime: &Runtime, Mapping { submission, mapped }: &Mapping) -> Result<()> {
    runtime.wait_for(submission)?;
    let result = match mapped.recv_timeout(HAND_OVER) {
        Err(RecvTimeoutError::Timeout) => {
            runtime.check_alive()?;
            mapped.recv_timeout(runtime.timeout())
        }
        other => other,
    };
    let error = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => failed(error),
        Err(_) => failed("the device dropped the request"),
    };
    runtime.check_alive().and(Err(error))
}

fn read(runtime: &Runtime, staging: &Buffer, count: usize) -> Result<Vec<f32>> {
    runtime.at(Point::Reading);
    runtime.check()?;
    let view = staging.get_mapped_range(..).map_err(|e| runtime.check_alive().err().unwrap_or(failed(e)))?;
    let values = bytemuck::cast_slice(&view)[..count].to_vec();
    drop(view);
    staging.unmap();
    Ok(values)
}

const DOING: &str = "reading the result back";

fn failed(message: impl ToString) -> Error {
    Error::Gpu { doing: DOING.into(), message: message.to_string() }
}
