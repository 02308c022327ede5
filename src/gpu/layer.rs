//! A linear layer on the device: a packed weight, its bias, its kept columns, and its adapters of
//! low rank, in one pass.
//!
//! 1. The bias is copied to every column of y: its one row, looked up n times.
//! 2. The weight's product is added to it, or written where there is no bias.
//! 3. The activations of kept columns are put side by side, and their product is added. It is
//!    exact, whatever 2. rounds; and they are cleared for 2. then, so that the scales of what is
//!    rounded are those of the others.
//! 4. `u[n, R] = x · aᵀ` for the a of all adapters at once. It waits for nothing, so that a
//!    device may run it beside 2.
//! 5. `u · bᵀ` is added to y; the scales are part of b since the upload.

use super::context::Context;
use super::memory::Buffer;
use super::record::{BoundProgram, Io};
use super::run::check_buffers;
use super::runtime::Runtime;
use super::time::{self, Timing};
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::op::{clear_columns, gather_columns, get_rows};
use crate::kernel::plan::Dispatch;
use crate::kernel::{Activations, MatmulOptions, shapes};
use crate::linear::{Linear, OutlierColumns};

/// A [`Linear`] that lies in device memory. Cheap to clone; the memory is freed with the last
/// clone.
///
/// ```no_run
/// use qmatmul::{MatmulOptions, Runtime, file::{Model, OpenOptions}};
///
/// # fn main() -> qmatmul::Result<()> {
/// let model = Model::open("checkpoint", &OpenOptions::default())?;
/// let linear = model.linear(model.find("model.layers.0.self_attn.q_proj")?)?; // with its bias
/// let gpu = Runtime::new()?;
/// let layer = gpu.upload_layer(&linear)?;
/// let x = vec![1.0; layer.weight().cols()];
/// let y = gpu.matmul_layer(&layer, &x, &MatmulOptions::default())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Layer {
    weight: Weights,
    /// One row of m.
    bias: Option<Weights>,
    /// `[m, c]` of kept columns; their numbers, and behind them a mask.
    kept: Option<(Weights, Buffer)>,
    /// a `[R, k]` and b `[m, R]` of all adapters, scales included.
    low_rank: Option<[Weights; 2]>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer")
            .field("weight", &self.weight)
            .field("bias", &self.bias.is_some())
            .field("kept_columns", &self.kept_columns())
            .field("rank", &self.rank())
            .finish_non_exhaustive()
    }
}

/// Where a step reads or writes.
#[derive(Clone, Copy)]
enum Slot {
    X,
    /// Row number 0 for each column.
    Zeros,
    /// Activations of kept columns.
    Kept,
    /// Activations with zeros in kept columns.
    Others,
    /// x · aᵀ.
    U,
    Y,
}

/// The dispatches of one part of a layer.
struct Step<'a> {
    weights: &'a Weights,
    plan: Vec<Dispatch>,
    reads: Slot,
    writes: Slot,
}

impl Layer {
    /// The weight.
    pub fn weight(&self) -> &Weights {
        &self.weight
    }

    /// The ranks of all adapters together; 0 without one.
    pub fn rank(&self) -> usize {
        self.low_rank.as_ref().map_or(0, |[a, _]| a.rows())
    }

    /// The number of kept columns.
    pub fn kept_columns(&self) -> usize {
        self.kept.as_ref().map_or(0, |(kept, _)| kept.cols())
    }

    /// Bytes of device memory.
    pub fn device_bytes(&self) -> u64 {
        let kept = self.kept.as_ref().map(|(kept, _)| kept);
        let more = self.bias.iter().chain(kept).chain(self.low_rank.iter().flatten());
        let list = self.kept.as_ref().map_or(0, |(_, list)| list.size());
        self.weight.device_bytes() + more.map(Weights::device_bytes).sum::<u64>() + list
    }

    /// What is dispatched for `n` columns. Options go for the weight; all else is exact.
    fn steps(&self, context: &Context, n: usize, options: &MatmulOptions) -> Result<Vec<Step<'_>>> {
        let exact = MatmulOptions::default();
        let mut steps = vec![];
        if let Some(bias) = &self.bias {
            let plan = get_rows::plan(bias.shape(), n, context.caps())?;
            steps.push(Step { weights: bias, plan, reads: Slot::Zeros, writes: Slot::Y });
        }
        let mut reads = Slot::X;
        if let Some((kept, _)) = self.kept.as_ref().filter(|_| options.activations != Activations::F32) {
            reads = Slot::Others;
            let plan = clear_columns::plan(self.weight.shape(), n, kept.cols(), context.caps())?;
            steps.push(Step { weights: kept, plan, reads: Slot::X, writes: reads });
        }
        let plan = context.plan_adding(&self.weight, (n, self.bias.is_some()), options)?;
        steps.push(Step { weights: &self.weight, plan, reads, writes: Slot::Y });
        if let Some((kept, _)) = &self.kept {
            let plan = gather_columns::plan(self.weight.shape(), n, kept.cols(), context.caps())?;
            steps.push(Step { weights: kept, plan, reads: Slot::X, writes: Slot::Kept });
            let plan = context.plan_adding(kept, (n, true), &exact)?;
            steps.push(Step { weights: kept, plan, reads: Slot::Kept, writes: Slot::Y });
        }
        if let Some([a, b]) = &self.low_rank {
            let plan = context.plan_matmul(a, n, &exact)?;
            steps.push(Step { weights: a, plan, reads: Slot::X, writes: Slot::U });
            let plan = context.plan_adding(b, (n, true), &exact)?;
            steps.push(Step { weights: b, plan, reads: Slot::U, writes: Slot::Y });
        }
        Ok(steps)
    }

    /// The steps made ready for `n` columns from x to y.
    fn prepare(
        &self,
        context: &Context,
        (x, y): (&wgpu::Buffer, &wgpu::Buffer),
        n: usize,
        options: &MatmulOptions,
    ) -> Result<Vec<BoundProgram>> {
        let own = |what, columns: usize| {
            let bytes = (n as u64).saturating_mul(columns as u64).saturating_mul(4);
            let what = format!("{what} for `{}`", self.weight.name());
            transfer::buffer(context, &what, bytes, wgpu::BufferUsages::STORAGE)
        };
        // New buffers are zero.
        let zeros = self.bias.as_ref().map(|_| own("row numbers", 1)).transpose()?;
        let kept = self.kept.as_ref().map(|_| own("activations of kept columns", self.kept_columns()));
        let kept = kept.transpose()?;
        let rounded = self.kept.as_ref().filter(|_| options.activations != Activations::F32);
        let others = rounded.map(|_| own("activations of other columns", self.weight.cols())).transpose()?;
        let u = self.low_rank.as_ref().map(|_| own("x times a", self.rank())).transpose()?;
        let buffer = |place| match place {
            Slot::X => x,
            Slot::Y => y,
            Slot::Zeros => zeros.as_deref().expect("there is a bias"),
            Slot::Kept => kept.as_deref().expect("there are kept columns"),
            Slot::Others => others.as_deref().expect("something is rounded"),
            Slot::U => u.as_deref().expect("there are adapters"),
        };
        let list = self.kept.as_ref().map(|(_, list)| &**list);
        let one = |step: &Step| {
            let io = Io { x: buffer(step.reads), y: buffer(step.writes), experts: list };
            BoundProgram::new(context, step.weights, &io, &step.plan)
        };
        let steps = self.steps(context, n, options)?;
        let mut prepared: Vec<_> = steps.iter().map(one).collect::<Result<_>>()?;
        let own = [&zeros, &kept, &others, &u].into_iter().flatten();
        prepared.push(BoundProgram::holding(own.map(|buffer| buffer.reservation().clone()).collect()));
        Ok(prepared)
    }
}

impl Runtime {
    /// Puts a layer into device memory: the weight packed as it is, a of the adapters as it is
    /// stored (as f32 where the adapters differ), b as f32 with its scale multiplied in. That
    /// product is rounded once, by 2^-24 at most, far below the bounds of
    /// [`check`](mod@crate::check), and is exact for scales that are powers of two.
    ///
    /// # Errors
    /// As [`Runtime::upload`].
    pub fn upload_layer(&self, linear: &Linear) -> Result<Layer> {
        let low_rank = match linear.joined()? {
            Some([a, b]) => Some([self.upload(&a)?, self.upload(&b)?]),
            None => None,
        };
        Ok(Layer {
            weight: self.upload(linear.weight())?,
            bias: linear.bias().map(|bias| self.upload(bias)).transpose()?,
            kept: linear.kept().map(|kept| self.upload_kept(kept, linear.weight().cols())).transpose()?,
            low_rank,
        })
    }

    fn upload_kept(&self, kept: &OutlierColumns, k: usize) -> Result<(Weights, Buffer)> {
        let words = [kept.columns(), &kept.mask(k)].concat();
        let what = format!("numbers of `{}`", kept.weight().name());
        Ok((self.upload(kept.weight())?, transfer::filled(self.context(), &what, &words)?))
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ + bias + x[n, columns] · keptᵀ + Σ s · (x · aᵀ) · bᵀ`;
    /// `n = x.len() / k`. `options` say how the weight is multiplied; kept columns and adapters
    /// always take the activations as they are.
    ///
    /// # Errors
    /// As [`Runtime::matmul_with`].
    pub fn matmul_layer(&self, layer: &Layer, x: &[f32], options: &MatmulOptions) -> Result<Vec<f32>> {
        let mut y = vec![];
        for part in self.batches(&layer.weight, x)? {
            y.append(&mut self.run_layer(layer, part, options, 0)?);
        }
        Ok(y)
    }

    /// One part of [`Runtime::matmul_layer`], followed by `margin` elements as in [`Runtime::run`].
    pub(crate) fn run_layer(
        &self,
        layer: &Layer,
        x: &[f32],
        options: &MatmulOptions,
        margin: usize,
    ) -> Result<Vec<f32>> {
        self.context().owns(&layer.weight)?;
        let n = shapes::batch(layer.weight.name(), layer.weight.cols(), x.len())?;
        let x = transfer::filled(self.context(), &format!("activations for `{}`", layer.weight.name()), x)?;
        let prepare = |y: &wgpu::Buffer| layer.prepare(self.context(), (&x, y), n, options);
        let results = n * layer.weight.rows();
        let (encoder, staging, count) =
            self.context().encode_result((&layer.weight, &[&x]), results, margin, prepare)?;
        transfer::submit_and_read_blocking(self.context(), encoder, &staging, count)
    }

    /// Adds layers that share their activations to the caller's encoder, in one pass and without a
    /// readback: f32 buffers x `[n, k]` and y `[n, m]` of each, as [`Runtime::record_matmuls`]
    /// does.
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    pub fn record_layers(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        outputs: &[(&Layer, &wgpu::Buffer)],
        x: &wgpu::Buffer,
        n: usize,
        options: &MatmulOptions,
    ) -> Result<()> {
        let mut prepared = vec![];
        for (layer, y) in outputs {
            let w = &layer.weight;
            self.context().owns(w)?;
            check_buffers(w, (x, n.saturating_mul(w.cols())), (y, n.saturating_mul(w.rows())))?;
            prepared.extend(layer.prepare(self.context(), (x, y), n, options)?);
        }
        BoundProgram::encode_all(&prepared, encoder);
        Ok(())
    }

    /// Compiles ahead what layers with these numbers of columns will need, as
    /// [`Runtime::warm_up_all`] does.
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    pub fn warm_up_layers(&self, requests: &[(&Layer, usize)], options: &MatmulOptions) -> Result<()> {
        let mut plans = vec![];
        for (layer, n) in requests {
            self.context().owns(&layer.weight)?;
            let steps = layer.steps(self.context(), *n, options)?;
            plans.extend(steps.into_iter().map(|step| (step.plan, step.weights.layout.clone())));
        }
        self.compile(plans)
    }

    /// Times layers with `n` columns in turn, as [`Runtime::time_matmul`] does.
    ///
    /// # Errors
    /// As [`Runtime::time_matmul`].
    pub fn time_layer(
        &self,
        layers: &[Layer],
        n: usize,
        options: &MatmulOptions,
        least: f64,
    ) -> Result<Timing> {
        let most = |size: fn(&Weights) -> usize| layers.iter().map(|l| size(&l.weight)).max().unwrap_or(0);
        let x = time::noise(self.context(), n, most(Weights::cols))?;
        let (x, y) = time::buffers(self.context(), &x, n, most(Weights::rows))?;
        let one = |layer: &Layer| {
            self.context().owns(&layer.weight)?;
            layer.prepare(self.context(), (&x, &y), n, options)
        };
        time::rounds(self.context(), &layers.iter().map(one).collect::<Result<Vec<_>>>()?, least)
    }
}
