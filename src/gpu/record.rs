//! Turns a plan into commands.

use super::bind;
use super::context::Context;
use super::memory::{self, Buffer as DeviceBuffer, Reservation};
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::plan::{self, Buffer, Dispatch, Params, Window};
use crate::kernel::shard::DeviceLayout;

/// The caller's buffers of a request.
pub(super) struct Io<'a> {
    pub x: &'a wgpu::Buffer,
    pub y: &'a wgpu::Buffer,
    /// The expert of each column, where there are experts, or the list of columns to gather.
    pub experts: Option<&'a wgpu::Buffer>,
}

/// The caller's buffers and our own.
struct Buffers<'a> {
    io: &'a Io<'a>,
    staged: Option<DeviceBuffer>,
    partial: Option<DeviceBuffer>,
    routes: Option<DeviceBuffer>,
    outliers: Option<DeviceBuffer>,
    gathered: Option<DeviceBuffer>,
    ordered: Option<DeviceBuffer>,
}

impl<'a> Buffers<'a> {
    /// `of` is what they are for, for messages.
    fn new(context: &Context, of: &str, io: &'a Io, plan: &[Dispatch]) -> Result<Self> {
        let own = |which, what| match plan::bytes_of(plan, which) {
            0 => Ok(None),
            bytes => {
                let what = format!("{what} for `{of}`");
                transfer::buffer(context, &what, bytes, wgpu::BufferUsages::STORAGE).map(Some)
            }
        };
        Ok(Self {
            io,
            staged: own(Buffer::Staged, "staged activations")?,
            partial: own(Buffer::Partial, "results of splits")?,
            routes: own(Buffer::Routes, "sorted columns")?,
            outliers: own(Buffer::Outliers, "outlier features")?,
            gathered: own(Buffer::Gathered, "activations of outlier features")?,
            ordered: own(Buffer::Ordered, "activations in order")?,
        })
    }

    fn get(&self, which: Buffer) -> &wgpu::Buffer {
        let there = match which {
            Buffer::X => Some(self.io.x),
            Buffer::Y => Some(self.io.y),
            Buffer::Experts | Buffer::Columns => self.io.experts,
            Buffer::Staged => self.staged.as_deref(),
            Buffer::Partial => self.partial.as_deref(),
            Buffer::Routes => self.routes.as_deref(),
            Buffer::Outliers => self.outliers.as_deref(),
            Buffer::Gathered => self.gathered.as_deref(),
            Buffer::Ordered => self.ordered.as_deref(),
        };
        there.expect("the plan was made for these buffers")
    }

    /// What our own take of the device's memory.
    fn reservations(&self) -> impl Iterator<Item = Reservation> {
        let own = [&self.staged, &self.partial, &self.routes, &self.outliers, &self.gathered, &self.ordered];
        own.into_iter().flatten().map(|buffer| buffer.reservation().clone())
    }

    fn part(&self, window: Window) -> wgpu::BindingResource<'_> {
        part(self.get(window.buffer), window.offset, window.size)
    }
}

/// A plan made ready for a device: pipelines compiled, parameters written, bindings made. It can be
/// recorded many times.
pub(super) struct BoundProgram {
    steps: Vec<(std::sync::Arc<wgpu::ComputePipeline>, wgpu::BindGroup, [u32; 2])>,
    /// Of the buffers that the bindings keep alive.
    reservations: Vec<Reservation>,
}

impl BoundProgram {
    pub fn new(context: &Context, w: &Weights, io: &Io, plan: &[Dispatch]) -> Result<Self> {
        if plan.is_empty() {
            return Ok(Self::holding(vec![]));
        }
        let stride = params_stride(context);
        let params = params_buffer(context, &w.name, plan, stride)?;
        let buffers = Buffers::new(context, &w.name, io, plan)?;
        let scales = match plan.iter().any(|d| d.kernel.rounds_weights) {
            true => Some(w.row_scales()?),
            false => None,
        };
        let bind = |(i, dispatch): (usize, &Dispatch)| {
            let pipeline = context.pipeline(dispatch.kernel, &dispatch.config, &w.layout)?;
            let group = context.catch_errors(
                || format!("binding the buffers of `{}`", w.name()),
                0,
                || {
                    let scales = scales.map(|s| &*s[dispatch.shard]);
                    bind_group(context, w, &buffers, dispatch, scales, (&params, i as u64 * stride))
                },
            )?;
            Ok((pipeline, group, dispatch.grid))
        };
        let steps = plan.iter().enumerate().map(bind).collect::<Result<_>>()?;
        let scales = scales.unwrap_or_default().iter().map(|s| s.reservation().clone());
        let reservations = buffers
            .reservations()
            .chain([params.reservation().clone()])
            .chain(w.reservations())
            .chain(scales)
            .collect();
        Ok(Self { steps, reservations })
    }

    /// A dispatch that reads no weights, but a table where weights have their book. `layout` is of
    /// the format that it is for.
    pub fn without_weights(
        context: &Context,
        layout: &DeviceLayout,
        io: &Io,
        table: &wgpu::Buffer,
        dispatch: &Dispatch,
    ) -> Result<Self> {
        let plan = std::slice::from_ref(dispatch);
        let stride = params_stride(context);
        let params = params_buffer(context, dispatch.kernel.name, plan, stride)?;
        let buffers = Buffers::new(context, dispatch.kernel.name, io, plan)?;
        let pipeline = context.pipeline(dispatch.kernel, &dispatch.config, layout)?;
        let doing = || format!("binding the buffers of {}", dispatch.kernel.name);
        let group = context.catch_errors(doing, 0, || {
            let table = || table.as_entire_binding();
            let (x, y) = (buffers.part(dispatch.x), buffers.part(dispatch.y));
            bind(
                context,
                [
                    part(&params, 0, size_of::<Params>() as u64),
                    table(),
                    table(),
                    x,
                    y,
                    table(),
                    table(),
                    table(),
                ],
            )
        })?;
        let reservations = buffers.reservations().chain([params.reservation().clone()]).collect();
        Ok(Self { steps: vec![(pipeline, group, dispatch.grid)], reservations })
    }

    /// No dispatch, but buffers that others share.
    pub fn holding(reservations: Vec<Reservation>) -> Self {
        Self { steps: vec![], reservations }
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
        Self::encode_all(std::slice::from_ref(self), encoder);
    }

    /// Adds the dispatches of several plans to an encoder as one pass.
    pub fn encode_all(all: &[Self], encoder: &mut wgpu::CommandEncoder) {
        if all.iter().all(|p| p.steps.is_empty()) {
            return;
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("qmatmul"),
            timestamp_writes: None,
        });
        all.iter().for_each(|p| p.record(&mut pass));
        drop(pass);
        memory::hold(encoder, all.iter().flat_map(|p| p.reservations.iter().cloned()).collect());
    }
}

fn params_stride(context: &Context) -> u64 {
    let alignment = u64::from(context.device().limits().min_uniform_buffer_offset_alignment);
    (size_of::<Params>() as u64).next_multiple_of(alignment)
}

/// All parameters of a plan in one buffer, `stride` bytes apart.
fn params_buffer(context: &Context, of: &str, plan: &[Dispatch], stride: u64) -> Result<DeviceBuffer> {
    let mut bytes = vec![0u8; stride as usize * plan.len()];
    for (slot, dispatch) in bytes.chunks_mut(stride as usize).zip(plan) {
        slot[..size_of::<Params>()].copy_from_slice(bytemuck::bytes_of(&dispatch.params));
    }
    let doing = || format!("writing parameters for `{of}`");
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = transfer::create(context, doing, "params", bytes.len() as u64, usage)?;
    context.catch_errors(doing, 0, || context.queue().write_buffer(&buffer, 0, &bytes))?;
    Ok(buffer)
}

fn bind_group(
    context: &Context,
    w: &Weights,
    buffers: &Buffers,
    dispatch: &Dispatch,
    scales: Option<&wgpu::Buffer>,
    (params, at): (&wgpu::Buffer, u64),
) -> wgpu::BindGroup {
    let weights = w.buffers[dispatch.shard].as_entire_binding();
    // Whatever a shader does not read is bound to something that it may.
    let book = w.book.as_entire_binding();
    let routes = dispatch.side.map_or(book.clone(), |side| buffers.get(side).as_entire_binding());
    let params = part(params, at, size_of::<Params>() as u64);
    let scales = scales.map_or(book.clone(), |s| s.as_entire_binding());
    let (x, y) = (buffers.part(dispatch.x), buffers.part(dispatch.y));
    bind(context, [params, weights.clone(), weights, x, y, book, routes, scales])
}

/// A group of these in the order of the bindings.
fn bind(context: &Context, resources: [wgpu::BindingResource<'_>; 8]) -> wgpu::BindGroup {
    bind::group(context.device(), "qmatmul", context.bindings(), resources)
}

fn part(buffer: &wgpu::Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    let size = std::num::NonZeroU64::new(size);
    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
}
