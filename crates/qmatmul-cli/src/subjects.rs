//! What `qmatmul check` checks at a time: a tensor of a file, or random weights of a format.

use super::lora;
use super::options::Common;
use qmatmul::check::{self, Outcome};
use qmatmul::error::Result;
use qmatmul::file::lora::Fit;
use qmatmul::file::{Model, TensorInfo};
use qmatmul::format::{FORMATS, Format};
use qmatmul::gpu::Runtime;
use qmatmul::kernel::{Activations, MatmulOptions};
use qmatmul::tensor::PackedTensor;
use qmatmul_report::check::SHAPES;

/// Something to check.
pub enum Subject<'a> {
    Stored(Stored<'a>),
    Random(Random),
}

/// A tensor of a file, with what adapters add to it.
pub struct Stored<'a> {
    pub model: &'a Model,
    pub info: &'a TensorInfo,
    pub adapters: &'a [Fit<'a>],
    /// True if the model multiplies it, so that products are checked, too.
    pub is_multiplied: bool,
    pub products: Products<'a>,
}

/// How weights of a file are multiplied.
#[derive(Clone, Copy)]
pub enum Products<'a> {
    /// With so many tokens, by the kernels that the device would be given.
    Chosen { batches: &'a [usize], activations: Activations },
    /// By each kernel that the device could be given, with these activations and, where they are
    /// exact, all others that the weights take.
    Every(Activations),
}

/// Random weights `[m, k]`.
pub struct Random {
    format: &'static Format,
    shape: (usize, usize),
    batches: Vec<usize>,
    how: How,
}

/// How they are multiplied.
#[derive(Clone, Copy)]
enum How {
    /// By the kernels that the device would be given.
    Chosen(Activations),
    /// By each that it could be given.
    Each(Activations),
    /// As a stack of so many experts.
    Experts(usize),
}

/// Shapes [m, k] beside [`SHAPES`]: large ones.
const MORE_SHAPES: &[(usize, usize)] = &[(4096, 4096), (1031, 14_336), (70_001, 256)];
/// Batch sizes of the full grid: both sides of every switch of kernels.
const BATCHES: &[usize] = &[1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 64];
/// Batch sizes of what is checked besides: one, several, and tiles of them with a rest.
const FEW_BATCHES: &[usize] = &[1, 8, 33];
/// Experts of a stack, and the rows of one.
const EXPERTS: (usize, usize) = (8, 40);

impl Random {
    /// Every format on a few shapes, its activations as they are asked for.
    pub fn quick(batches: &[usize], activations: Activations) -> Vec<Self> {
        grid(SHAPES, batches, How::Chosen(activations))
    }

    /// Every format on all shapes; where nothing else was asked for, also rounded activations,
    /// experts, and every kernel and variant that the device could be given.
    pub fn full(activations: Activations) -> Vec<Self> {
        let mut all = grid(&[SHAPES, MORE_SHAPES].concat(), BATCHES, How::Chosen(activations));
        if activations == Activations::F32 {
            for rounded in Activations::kinds().filter(|a| *a != Activations::F32) {
                let cells = grid(&SHAPES[1..2], FEW_BATCHES, How::Chosen(rounded)).into_iter();
                all.extend(cells.filter(|cell| rounded.suit(&cell.format.layout(cell.shape.1))));
            }
            all.extend(grid(&[(EXPERTS.0 * EXPERTS.1, 256)], FEW_BATCHES, How::Experts(EXPERTS.0)));
            for candidates in Activations::ALL {
                all.extend(grid(&[(67, 2304)], FEW_BATCHES, How::Each(candidates)));
            }
        }
        all
    }

    fn packed(&self, seed: u64) -> Result<PackedTensor> {
        let (m, k) = self.shape;
        check::random_tensor(format!("{} {m} x {k}", self.format.name), self.format, m, k, seed)
    }

    fn check(&self, common: &Common, runtime: &Runtime, outcomes: &mut Vec<Outcome>) -> Result<()> {
        let (packed, seed, batches) = (self.packed(common.seed)?, common.seed, &self.batches[..]);
        match self.how {
            How::Chosen(a) => {
                check::tensor_into(outcomes, runtime, &packed, batches, &MatmulOptions::with(a), seed)
            }
            How::Each(a) => check::candidates_into(outcomes, runtime, &packed, batches, a, seed),
            How::Experts(stack) => {
                let exact = MatmulOptions::default();
                for n in batches {
                    outcomes.push(check::experts(runtime, &packed, (stack, *n), &exact, seed)?);
                }
                Ok(())
            }
        }
    }
}

/// Every format on these shapes, where activations can be taken so.
fn grid(shapes: &[(usize, usize)], batches: &[usize], how: How) -> Vec<Random> {
    let fits = |format: &'static Format, k: usize| match how {
        How::Each(activations) => activations.suit(&format.layout(k)),
        // What was asked for is taken where it applies; weights it does not apply to are multiplied
        // as they are.
        How::Chosen(_) | How::Experts(_) => true,
    };
    let cells = FORMATS.iter().flat_map(|format| shapes.iter().map(move |shape| (*format, *shape)));
    let fitting = cells.filter(|(format, (_, k))| fits(format, *k));
    fitting.map(|(format, shape)| Random { format, shape, batches: batches.to_vec(), how }).collect()
}

impl Stored<'_> {
    fn check(&self, common: &Common, runtime: &Runtime, outcomes: &mut Vec<Outcome>) -> Result<()> {
        let (packed, seed) = (self.model.tensor(self.info)?, common.seed);
        let is_multiplied = self.is_multiplied;
        let (batches, activations) = match self.products {
            Products::Chosen { batches, activations } => (batches, activations),
            Products::Every(activations) => (FEW_BATCHES, activations),
        };
        let (options, none) = (MatmulOptions::with(activations), &[][..]);
        let chosen = if is_multiplied { batches } else { none };
        check::tensor_into(outcomes, runtime, &packed, chosen, &options, seed)?;
        if !is_multiplied {
            return Ok(());
        }
        if let Products::Every(asked) = self.products {
            self.every(runtime, &packed, asked, seed, outcomes)?;
        }
        self.experts(runtime, &packed, batches, seed, outcomes)?;
        self.layer(runtime, batches, &options, seed, outcomes)
    }

    /// Products by each kernel, with each kind of activations that the weight takes.
    fn every(
        &self,
        runtime: &Runtime,
        packed: &PackedTensor,
        asked: Activations,
        seed: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        if packed.check_finite().is_err() {
            return Ok(());
        }
        let kinds = Activations::ALL.into_iter().filter(|a| asked == Activations::F32 || *a == asked);
        for activations in kinds.filter(|a| a.suit(&packed.layout())) {
            check::candidates_into(outcomes, runtime, packed, FEW_BATCHES, activations, seed)?;
        }
        Ok(())
    }

    /// A tensor of three dimensions is a stack of experts, unless there is but one: checked as such
    /// too.
    fn experts(
        &self,
        runtime: &Runtime,
        packed: &PackedTensor,
        batches: &[usize],
        seed: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        let exact = MatmulOptions::default();
        let [stack, m, k] = self.info.shape[..] else { return Ok(()) };
        if stack < 2 || m * k == 0 || packed.check_finite().is_err() {
            return Ok(());
        }
        for n in batches.iter().filter(|n| **n > 0) {
            outcomes.push(check::experts(runtime, packed, (stack as usize, *n), &exact, seed)?);
        }
        Ok(())
    }

    /// A tensor with all that adapters add to it, and with the columns that its file keeps in 16
    /// bits.
    fn layer(
        &self,
        runtime: &Runtime,
        batches: &[usize],
        options: &MatmulOptions,
        seed: u64,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        let (model, info) = (self.model, self.info);
        let kept = info.module.as_ref().is_some_and(|module| module.has_kept_columns());
        if self.adapters.is_empty() && !kept {
            return Ok(());
        }
        let mut concerned = self.adapters.iter().filter(|adapter| adapter.adds_to(info));
        let linear = concerned.try_fold(model.linear(info)?, |linear, a| lora::add(linear, a, info))?;
        check::lora_into(outcomes, runtime, &linear, batches, options, seed)
    }
}

impl Subject<'_> {
    /// What it is called while it is checked.
    pub fn name(&self) -> String {
        match self {
            Self::Stored(stored) => stored.info.name.clone(),
            Self::Random(Random { format, shape: (m, k), .. }) => format!("{} {m} x {k}", format.name),
        }
    }

    /// True if it should be multiplied, not only decoded.
    pub fn is_multiplied(&self) -> bool {
        match self {
            Self::Stored(stored) => stored.is_multiplied,
            Self::Random(_) => true,
        }
    }

    /// True if the two are multiplied by the same compiled pipelines, so that one device had better
    /// check both.
    pub fn shares_pipelines(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Random(a), Self::Random(b)) => std::ptr::eq(a.format, b.format),
            _ => false,
        }
    }

    /// All checks of it, and what ended them before their end, if anything did.
    pub fn check(&self, common: &Common, runtime: &Runtime) -> (Vec<Outcome>, Result<()>) {
        let mut outcomes = vec![];
        let ended = match self {
            Self::Stored(stored) => stored.check(common, runtime, &mut outcomes),
            Self::Random(random) => random.check(common, runtime, &mut outcomes),
        };
        (outcomes, ended)
    }
}
