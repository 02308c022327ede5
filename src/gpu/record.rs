//! Turns a plan into commands.

use super::runtime::Runtime;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::plan::{Dispatch, Params, Window};

/// The buffers of a request.
pub(super) struct Io<'a> {
    pub x: &'a wgpu::Buffer,
    pub y: &'a wgpu::Buffer,
}

/// A plan made ready for a device: pipelines compiled, parameters written, bindings made. It can be recorded many times.
pub(super) struct Prepared {
    steps: Vec<(std::sync::Arc<wgpu::ComputePipeline>, wgpu::BindGroup, [u32; 2])>,
}

impl Prepared {
    pub fn new(runtime: &Runtime, w: &Weights, io: &Io, plan: &[Dispatch]) -> Result<Self> {
        if plan.is_empty() {
            return Ok(Self { steps: vec![] });
        }
        let stride = params_stride(runtime);
        let params = params_buffer(runtime, plan, stride)?;
        let bind = |(i, dispatch): (usize, &Dispatch)| {
            let pipeline = runtime.pipeline(dispatch.kernel, &dispatch.config, w.format)?;
            let group = runtime.guard(
                || format!("binding the buffers of `{}`", w.name()),
                0,
                || bind_group(runtime, w, io, dispatch, (&params, i as u64 * stride)),
            )?;
            Ok((pipeline, group, dispatch.grid))
        };
        Ok(Self { steps: plan.iter().enumerate().map(bind).collect::<Result<_>>()? })
    }

    /// Adds the dispatches to a pass.
    pub fn record(&self, pass: &mut wgpu::ComputePass) {
        for (pipeline, group, [x, y]) in &self.steps {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(*x, *y, 1);
        }
    }

    /// Adds the dispatches to an encoder as one pass.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        if !self.steps.is_empty() {
            self.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("qmatmul"),
                timestamp_writes: None,
            }));
        }
    }
}

fn params_stride(runtime: &Runtime) -> u64 {
    let alignment = u64::from(runtime.device().limits().min_uniform_buffer_offset_alignment);
    (size_of::<Params>() as u64).next_multiple_of(alignment)
}

/// All parameters of a plan in one buffer, `stride` bytes apart.
fn params_buffer(runtime: &Runtime, plan: &[Dispatch], stride: u64) -> Result<wgpu::Buffer> {
    let size = stride * plan.len() as u64;
    runtime.guard(
        || "writing parameters".into(),
        size,
        || {
            let buffer = runtime.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let mut bytes = vec![0u8; size as usize];
            for (slot, dispatch) in bytes.chunks_mut(stride as usize).zip(plan) {
                slot[..size_of::<Params>()].copy_from_slice(bytemuck::bytes_of(&dispatch.params));
            }
            runtime.queue().write_buffer(&buffer, 0, &bytes);
            buffer
        },
    )
}

fn bind_group(
    runtime: &Runtime,
    w: &Weights,
    io: &Io,
    dispatch: &Dispatch,
    (params, at): (&wgpu::Buffer, u64),
) -> wgpu::BindGroup {
    let weights = w.buffers[dispatch.shard].as_entire_binding();
    let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
    let params_window = Window { offset: at, size: size_of::<Params>() as u64 };
    runtime.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: runtime.bindings(),
        entries: &[
            entry(0, part(params, params_window)),
            entry(1, weights.clone()),
            entry(2, weights),
            entry(3, part(io.x, dispatch.x)),
            entry(4, part(io.y, dispatch.y)),
            entry(5, w.book.as_entire_binding()),
        ],
    })
}

fn part(buffer: &wgpu::Buffer, window: Window) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer,
        offset: window.offset,
        size: std::num::NonZeroU64::new(window.size),
    })
}
