//! Small shaders that measure a device: composed, bound to two buffers, timed until the figure is
//! the device's own.

use crate::error::Result;
use crate::gpu::bind;
use crate::gpu::context::Context;
use crate::gpu::memory::Buffer;
use crate::gpu::time::Clock;
use crate::gpu::transfer;
use crate::kernel::compose::{Access, Declared};
use std::future::Future;
use std::ops::Range;
use web_time::Instant;

/// Parameters of a probe, as `shaders/peak/params.wgsl` declares and explains them.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    pub iterations: u32,
    pub group_step: u32,
    pub iteration_step: u32,
    pub load_step: u32,
    pub seed: u32,
    pub never: u32,
}

impl Default for Params {
    fn default() -> Self {
        let never = 0x9e37_79b9;
        Self { iterations: 1, group_step: 0, iteration_step: 0, load_step: 0, seed: 1, never }
    }
}

/// A shader of `shaders/peak` and the constants of one of its variants.
pub struct Shader<'a> {
    pub name: &'static str,
    pub text: &'static str,
    /// Lines of WGSL that stand before everything else.
    pub header: &'a str,
}

impl Shader<'_> {
    pub fn compose(&self) -> String {
        [self.header, include_str!("../../../shaders/peak/params.wgsl"), self.text].concat()
    }
}

/// A probe that can be recorded. One unit of work is `groups` workgroups.
pub struct Work {
    name: &'static str,
    pipeline: wgpu::ComputePipeline,
    params: Buffer,
    bindings: wgpu::BindGroup,
    groups: u32,
}

impl Work {
    /// Adds `units` units as one dispatch.
    pub fn record(&self, pass: &mut wgpu::ComputePass, units: u32) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(self.groups, units, 1);
    }
}

/// The device with a clock and the layout of all probes.
pub struct Lab<'r> {
    pub context: &'r Context,
    clock: Clock,
    bindings: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
}

/// Most units of one run; every device has as many workgroups in a dimension.
const MOST_UNITS: u32 = 4096;

impl<'r> Lab<'r> {
    pub fn new(context: &'r Context) -> Result<Self> {
        let (device, clock) = (context.device(), Clock::new(context)?);
        context.catch_errors(
            || "preparing to measure".into(),
            0,
            || {
                let bindings = bind::layout(device, "peak", &declared());
                let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: Some("peak"),
                    bind_group_layouts: &[Some(&bindings)],
                    immediate_size: 0,
                });
                Self { context, clock, bindings, layout }
            },
        )
    }

    /// Compiles `shader` and binds it to `a` and `b`.
    pub fn work(
        &self,
        shader: &Shader,
        params: Params,
        (a, b): (&wgpu::Buffer, &wgpu::Buffer),
        groups: u32,
    ) -> Result<Work> {
        let what = format!("parameters of the probe {}", shader.name);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = transfer::buffer(self.context, &what, size_of::<Params>() as u64, usage)?;
        self.context.catch_errors(
            || format!("compiling the probe {}", shader.name),
            0,
            || {
                let pipeline = self.compile(shader);
                self.context.queue().write_buffer(&buffer, 0, bytemuck::bytes_of(&params));
                let bindings =
                    self.bind(shader.name, &buffer, (a.as_entire_binding(), b.as_entire_binding()));
                Work { name: shader.name, pipeline, params: buffer.clone(), bindings, groups }
            },
        )
    }

    /// The same work on a part of both buffers.
    pub fn on_part(
        &self,
        work: &Work,
        (a, b): (&wgpu::Buffer, &wgpu::Buffer),
        part: Range<u64>,
    ) -> Result<Work> {
        let size = wgpu::BufferSize::new(part.end - part.start);
        let of =
            |buffer| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: part.start, size });
        self.context.catch_errors(
            || format!("binding the probe {}", work.name),
            0,
            || {
                let (pipeline, params) = (work.pipeline.clone(), work.params.clone());
                let bindings = self.bind(work.name, &params, (of(a), of(b)));
                Work { name: work.name, pipeline, params, bindings, groups: work.groups }
            },
        )
    }

    fn bind(
        &self,
        name: &str,
        params: &wgpu::Buffer,
        (a, b): (wgpu::BindingResource<'_>, wgpu::BindingResource<'_>),
    ) -> wgpu::BindGroup {
        let all = [params.as_entire_binding(), a, b];
        bind::group(self.context.device(), name, &self.bindings, (0..).zip(all))
    }

    fn compile(&self, shader: &Shader) -> wgpu::ComputePipeline {
        let device = self.context.device();
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.compose().into()),
        };
        // SAFETY: the probes' loops end and their indices lie within the bound ranges, both by
        // `Params` of ours; run-time checks would be measured too.
        let module = unsafe {
            device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        };
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&self.layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    }

    /// The least time of one unit of `work`, in seconds.
    pub async fn best(&self, work: &Work, seconds: f64) -> Result<f64> {
        self.best_of(seconds, |units| self.pass(move |pass| work.record(pass, units))).await
    }

    /// The least time of one unit, where `run` does many of them: a peak is the best that was
    /// reached.
    ///
    /// A run gets more units until starting it costs next to nothing beside them; then it repeats
    /// for `seconds`.
    pub async fn best_of<F: Future<Output = Result<f64>>>(
        &self,
        seconds: f64,
        mut run: impl FnMut(u32) -> F,
    ) -> Result<f64> {
        let enough = (seconds / 20.0).clamp(20e-6, 2e-3);
        let mut units = 1;
        run(units).await?; // compiles, faults pages in
        let mut best = run(units).await?;
        while best < enough && units < MOST_UNITS {
            units *= 4;
            best = run(units).await?;
        }
        let start = Instant::now();
        for sample in 0.. {
            if sample >= 3 && start.elapsed().as_secs_f64() >= seconds {
                break;
            }
            best = best.min(run(units).await?);
        }
        // A clock that did not move would make any speed out of nothing.
        Ok(best.max(1e-9) / f64::from(units))
    }

    /// Seconds between the ends of a pass that `record` fills.
    pub async fn pass(&self, record: impl FnOnce(&mut wgpu::ComputePass)) -> Result<f64> {
        self.clock.pass(self.context, record).await
    }
}

/// What `shaders/peak/params.wgsl` binds.
fn declared() -> Vec<Declared> {
    let all = [("params", Access::Uniform), ("a", Access::Read), ("b", Access::Write)];
    (0..).zip(all).map(|(number, (name, access))| Declared { number, name: name.into(), access }).collect()
}
