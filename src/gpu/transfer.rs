//! Buffers for activations and results, and reading results back.

use super::context::Context;
use super::hooks::Point;
use super::memory::{self, Buffer};
use crate::error::{Error, Result};
#[cfg(target_family = "wasm")]
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use std::ops::Range;
#[cfg(not(target_family = "wasm"))]
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
#[cfg(not(target_family = "wasm"))]
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
pub(super) fn buffer(context: &Context, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
    let limit = context.caps().max_buffer;
    if bytes > limit {
        return Err(Error::LimitExceeded { what: what.into(), wanted: bytes, limit });
    }
    create(context, || format!("allocating {what}"), what, bytes, usage)
}

/// The same below every limit of the device. `doing` is for the message, `label` for debuggers of
/// shaders.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn create(
    context: &Context,
    doing: impl Fn() -> String,
    label: &str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<Buffer> {
    let size = bytes.next_multiple_of(4).max(16);
    let reservation = context.budget().take(&doing, size)?;
    let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
    let buffer = context.catch_errors(doing, size, || context.device().create_buffer(&descriptor))?;
    Ok(Buffer::new(buffer, reservation))
}

/// A new buffer that holds `data`.
pub(super) fn filled<T: bytemuck::NoUninit>(context: &Context, what: &str, data: &[T]) -> Result<Buffer> {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    let buffer = buffer(context, what, bytes.len() as u64, INPUT)?;
    context.catch_errors(
        || format!("writing {what}"),
        bytes.len() as u64,
        || {
            context.queue().write_buffer(&buffer, 0, bytes);
        },
    )?;
    Ok(buffer)
}

/// A new buffer of parameters.
pub(super) fn uniform(context: &Context, what: &str, bytes: &[u8]) -> Result<Buffer> {
    let doing = || format!("writing {what}");
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = create(context, doing, what, bytes.len() as u64, usage)?;
    context.catch_errors(doing, 0, || context.queue().write_buffer(&buffer, 0, bytes))?;
    Ok(buffer)
}

/// Adds the copy of the first `bytes` of `from` to `encoder` and returns where they go.
pub(super) fn stage(
    context: &Context,
    encoder: &mut wgpu::CommandEncoder,
    what: &str,
    from: &wgpu::Buffer,
    bytes: u64,
) -> Result<Buffer> {
    stage_part(context, encoder, what, from, 0..bytes)
}

/// The same of bytes `bytes`.
pub(super) fn stage_part(
    context: &Context,
    encoder: &mut wgpu::CommandEncoder,
    what: &str,
    from: &wgpu::Buffer,
    bytes: Range<u64>,
) -> Result<Buffer> {
    let size = bytes.end - bytes.start;
    let staging = buffer(context, &format!("room to read {what}"), size, STAGING)?;
    encoder.copy_buffer_to_buffer(from, bytes.start, &staging, 0, size);
    memory::hold(encoder, vec![staging.reservation().clone()]);
    Ok(staging)
}

/// Submits `encoder`, waits for its end, and returns the f32 content of `staging`.
pub(super) async fn submit_and_read(
    context: &Context,
    encoder: wgpu::CommandEncoder,
    staging: &Buffer,
    count: usize,
) -> Result<Vec<f32>> {
    wait_for_map(context, submit_and_map(context, encoder, staging)?).await?;
    read(context, staging, count)
}

type Mapped = Result<(), wgpu::BufferAsyncError>;

/// A buffer that is about to be mapped.
struct Mapping {
    /// What must end before.
    #[cfg(not(target_family = "wasm"))]
    submission: wgpu::SubmissionIndex,
    #[cfg(not(target_family = "wasm"))]
    mapped: Receiver<Mapped>,
    #[cfg(target_family = "wasm")]
    mapped: OneshotReceiver<Mapped>,
}

#[cfg(target_family = "wasm")]
fn submit_and_map(context: &Context, encoder: wgpu::CommandEncoder, staging: &Buffer) -> Result<Mapping> {
    context.submit(encoder)?;
    context.at(Point::Mapping(staging));
    let (sender, mapped) = oneshot_channel();
    let map = || {
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
        });
    };
    context.catch_errors(|| DOING.into(), 0, map)?;
    Ok(Mapping { mapped })
}

/// A browser answers after it has told of the errors before.
#[cfg(target_family = "wasm")]
async fn wait_for_map(context: &Context, Mapping { mapped }: Mapping) -> Result<()> {
    let result = mapped.receive().await;
    context.settle().await?;
    let error = match result {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => failed(error),
        None => failed("the device dropped the request"),
    };
    // The word of a loss may still be under way.
    context.wait().await.and(Err(error))
}

#[cfg(not(target_family = "wasm"))]
fn submit_and_map(context: &Context, encoder: wgpu::CommandEncoder, staging: &Buffer) -> Result<Mapping> {
    let submission = context.submit(encoder)?;
    context.at(Point::Mapping(staging));
    let (sender, mapped) = channel();
    let map = || {
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
        });
    };
    context.catch_errors(|| DOING.into(), 0, map)?;
    Ok(Mapping { submission, mapped })
}

/// How long another thread that polls may take from a callback's arrival to its end.
#[cfg(not(target_family = "wasm"))]
const HAND_OVER: Duration = Duration::from_millis(20);

/// In the usual case without an error scope: wgpu keeps a few bytes for every thread that ever had
/// one, and threads may be many.
#[cfg(not(target_family = "wasm"))]
async fn wait_for_map(context: &Context, Mapping { submission, mapped }: Mapping) -> Result<()> {
    context.wait_for(&submission).await?;
    let result = match mapped.recv_timeout(HAND_OVER) {
        Err(RecvTimeoutError::Timeout) => {
            context.check_alive()?;
            mapped.recv_timeout(context.timeout())
        }
        other => other,
    };
    let error = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => failed(error),
        Err(_) => failed("the device dropped the request"),
    };
    context.check_alive().and(Err(error))
}

fn read(context: &Context, staging: &Buffer, count: usize) -> Result<Vec<f32>> {
    context.at(Point::Reading);
    context.check()?;
    let view = staging.get_mapped_range(..).map_err(|e| context.check_alive().err().unwrap_or(failed(e)))?;
    let values = bytemuck::cast_slice(&view)[..count].to_vec();
    drop(view);
    staging.unmap();
    Ok(values)
}

const DOING: &str = "reading the result back";

fn failed(message: impl ToString) -> Error {
    Error::Gpu { doing: DOING.into(), message: message.to_string() }
}
