//! Bindings: what a shader may bind, and groups of what it gets.

use crate::kernel::compose::{Access, Declared};

/// The layout of these bindings. The span of tokens is chosen as a program is recorded.
pub(super) fn layout(device: &wgpu::Device, label: &str, bindings: &[Declared]) -> wgpu::BindGroupLayout {
    let ty = |access| match access {
        Access::Uniform => wgpu::BufferBindingType::Uniform,
        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
    };
    let entry = |declared: &Declared| wgpu::BindGroupLayoutEntry {
        binding: declared.number,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: ty(declared.access),
            has_dynamic_offset: declared.name == SPAN,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = bindings.iter().map(entry).collect();
    device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
}

/// The binding of the tokens of a dispatch.
pub(super) const SPAN: &str = "span";

/// A group of these resources at these bindings.
pub(super) fn group<'a>(
    device: &wgpu::Device,
    label: &str,
    layout: &wgpu::BindGroupLayout,
    resources: impl IntoIterator<Item = (u32, wgpu::BindingResource<'a>)>,
) -> wgpu::BindGroup {
    let entry = |(binding, resource)| wgpu::BindGroupEntry { binding, resource };
    let entries: Vec<_> = resources.into_iter().map(entry).collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
}

/// `size` bytes of a buffer from `offset` on.
pub(super) fn part(buffer: &wgpu::Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    let size = std::num::NonZeroU64::new(size);
    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
}
