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
use super::program::{Program, Slice};
use super::run::TaskProgram;
use super::runtime::Runtime;
use super::time::{self, Timing};
use super::transfer;
use super::weights::Weights;
use crate::error::Result;
use crate::kernel::op::{clear_columns, gather_columns};
use crate::kernel::program::{Element, Tokens, View, Window};
use crate::kernel::{Activations, MatmulOptions, shapes};
use crate::linear::{Linear, OutlierColumns};
use std::sync::Arc;

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
    kept: Option<(Weights, Arc<[u32]>)>,
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
        self.weight.device_bytes() + more.map(Weights::device_bytes).sum::<u64>()
    }

    /// Adds the layer to a program. Options go for the weight; all else is exact.
    fn add(&self, program: &mut Program, x: View, y: View, options: &MatmulOptions) -> Result<()> {
        let exact = &MatmulOptions::default();
        [x, y].into_iter().try_for_each(|view| program.plan().check_own(self.weight.name(), view))?;
        if let Some(bias) = &self.bias {
            // New scratch is zero: row 0 for each token.
            let zeros = program.plan_mut().scratch_view("row numbers", 1).of(Element::U32);
            program.get_rows(bias, zeros, y)?;
        }
        let kept = self.kept.as_ref().map(|(kept, words)| {
            let list = program.plan_mut().constant("columns", words.clone());
            (kept, Window::words(list, 0..words.len()))
        });
        let mut activations = x;
        if let Some((kept, list)) = kept.filter(|_| options.activations != Activations::F32) {
            activations = program.plan_mut().scratch_view("activations of other columns", x.width());
            let mask = kept.cols();
            program.with_weight(&self.weight, |plan, w| {
                clear_columns::add(plan, &w, x, activations, list, mask)
            })?;
        }
        match self.bias.is_some() {
            true => program.matmul_add(&self.weight, activations, y, options)?,
            false => program.matmul(&self.weight, activations, y, options)?,
        }
        if let Some((kept, list)) = kept {
            let gathered = program.plan_mut().scratch_view("activations of kept columns", kept.cols());
            program.with_weight(&self.weight, |plan, w| gather_columns::add(plan, &w, x, gathered, list))?;
            program.matmul_add(kept, gathered, y, exact)?;
        }
        if let Some([a, b]) = &self.low_rank {
            let u = program.plan_mut().scratch_view("x times a", self.rank());
            program.matmul(a, x, u, exact)?;
            program.matmul_add(b, u, y, exact)?;
        }
        Ok(())
    }

    /// The layer alone, for `n` tokens.
    fn program(&self, context: &Context, n: usize, options: &MatmulOptions) -> Result<TaskProgram> {
        context.owns(&self.weight)?;
        let mut program = context.program(Tokens::Exactly(n));
        let x = program.slot("x", self.weight.cols());
        let y = program.slot("y", self.weight.rows());
        self.add(&mut program, x, y, options)?;
        Ok(TaskProgram { program, inputs: vec![x], y, count: n * self.weight.rows() })
    }
}

impl Program {
    /// `y[n, m] = x[n, k] · w[m, k]ᵀ + bias + …`: a layer with all that belongs to it. `options` say
    /// how the weight is multiplied; kept columns and adapters take the activations as they are.
    ///
    /// # Errors
    /// As [`Program::matmul`].
    pub fn layer(&mut self, layer: &Layer, x: View, y: View, options: &MatmulOptions) -> Result<()> {
        layer.add(self, x, y, options)
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

    fn upload_kept(&self, kept: &OutlierColumns, k: usize) -> Result<(Weights, Arc<[u32]>)> {
        let words = [kept.columns(), &kept.mask(k)].concat();
        Ok((self.upload(kept.weight())?, words.into()))
    }

    /// One part of [`Runtime::matmul_layer`], followed by `margin` elements as in [`Runtime::run`].
    pub(crate) async fn run_layer(
        &self,
        layer: &Layer,
        x: &[f32],
        options: &MatmulOptions,
        margin: usize,
    ) -> Result<Vec<f32>> {
        let name = layer.weight.name();
        let n = shapes::batch(name, layer.weight.cols(), x.len())?;
        let task = layer.program(self.context(), n, options)?;
        let x = transfer::filled(self.context(), &format!("activations for `{name}`"), x)?;
        let (encoder, staging, count) = self.context().encode_result(name, &task, &[x], margin)?;
        transfer::submit_and_read(self.context(), encoder, &staging, count).await
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
        self.record_shared(
            encoder,
            x,
            n,
            outputs.iter().map(|(layer, y)| (&layer.weight, *y)),
            |program, x| {
                outputs
                    .iter()
                    .map(|(layer, _)| {
                        let y = program.slot("y", layer.weight.rows());
                        layer.add(program, x, y, options).map(|()| y)
                    })
                    .collect()
            },
        )
    }
}

/// [`Runtime::matmul_layer_async`].
pub(super) async fn matmul(
    gpu: &Runtime,
    layer: &Layer,
    x: &[f32],
    options: &MatmulOptions,
) -> Result<Vec<f32>> {
    let mut y = vec![];
    for part in gpu.batches(&layer.weight, x)? {
        y.append(&mut gpu.run_layer(layer, part, options, 0).await?);
    }
    Ok(y)
}

/// Compiles ahead what layers with these numbers of columns will need.
pub(super) async fn warm_up(
    context: &Context,
    requests: &[(&Layer, usize)],
    options: &MatmulOptions,
) -> Result<()> {
    let program = |(layer, n): &(&Layer, usize)| Ok(layer.program(context, *n, options)?.program);
    let programs = requests.iter().map(program).collect::<Result<Vec<_>>>()?;
    context.compile_programs(&programs).await
}

/// Times layers with `n` columns in turn.
pub(super) async fn time(
    context: &Context,
    layers: &[Layer],
    n: usize,
    options: &MatmulOptions,
    least: f64,
) -> Result<Timing> {
    let most = |size: fn(&Weights) -> usize| layers.iter().map(|l| size(&l.weight)).max().unwrap_or(0);
    let x = time::noise(context, n, most(Weights::cols))?;
    let (x, y) = time::buffers(context, &x, n, most(Weights::rows))?;
    let one = |layer: &Layer| {
        let task = layer.program(context, n, options)?;
        let slots = [(task.inputs[0], Slice::from(&x)), (task.y, Slice::from(&y))];
        context.bind(&task.program, &slots)
    };
    time::rounds(context, &layers.iter().map(one).collect::<Result<Vec<_>>>()?, least).await
}
