//! A program: dispatches over named slots and weights, as plain data.
//!
//! A program is made for a number of tokens, or for any number up to the most. What differs from
//! one number to another is only which dispatches run, on which tokens, in how many workgroups;
//! parameters and bindings are the same, so that a device binds them once. A test can print a
//! program without a device.

use super::limits;
pub(super) use super::parameters::parameters;
pub use super::parameters::{Field, ParamWords, Parameters};
use super::preferences::Preferences;
use super::select;
use super::shard::Weight;
use super::types::{Candidate, Caps, Kernel, KernelConfig, MatmulOptions, Problem};
use crate::error::{Error, Result};
use crate::format::Format;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// For how many tokens a program is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// For so many and no other number.
    Exactly(usize),
    /// For any number from 1 to this one.
    UpTo(usize),
}

impl Tokens {
    /// The most.
    pub fn most(self) -> usize {
        match self {
            Self::Exactly(n) | Self::UpTo(n) => n,
        }
    }

    /// True if a program for these runs with `n`.
    pub fn contains(self, n: usize) -> bool {
        match self {
            Self::Exactly(only) => n == only,
            Self::UpTo(most) => (1..=most).contains(&n),
        }
    }
}

impl std::fmt::Display for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(n) => write!(f, "{n}"),
            Self::UpTo(n) => write!(f, "1 to {n}"),
        }
    }
}

/// What the elements of a slot are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// f32.
    #[default]
    F32,
    /// f16, two in a word.
    F16,
    /// u32: numbers of rows or of experts.
    U32,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Who gives a slot its memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The caller, as the program is bound.
    Caller,
    /// The device's binding of the program, for itself. All zeros in the beginning.
    Scratch,
    /// The program: these words, never written.
    Constant(Arc<[u32]>),
}

/// A buffer, or a part of one, that a program reads or writes.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Name, for messages.
    pub name: String,
    /// Who gives it.
    pub source: Source,
    /// Bytes that the program needs of it, with the most tokens.
    pub bytes: u64,
}

/// Where the values of all tokens lie in a slot: `width` elements a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Of which program it is.
    pub(crate) program: u64,
    pub(crate) slot: usize,
    pub(crate) element: Element,
    /// Elements before those of the first token.
    pub(crate) first: usize,
    /// Elements from one token to the next.
    pub(crate) stride: usize,
    pub(crate) width: usize,
}

impl View {
    /// Elements of a token.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What the elements are.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The same slot with `stride` elements from one token to the next.
    #[must_use]
    pub fn with_stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Features `features` of each token: the queries of a slot that holds queries, keys and
    /// values, for one. They are behind each other in memory, and the stride stays.
    ///
    /// # Panics
    /// If there are not so many features.
    #[must_use]
    pub fn features(self, features: Range<usize>) -> Self {
        assert!(
            features.start <= features.end && features.end <= self.width,
            "features {features:?} of a slot with {}",
            self.width
        );
        Self { first: self.first + features.start, width: features.len(), ..self }
    }

    /// The same elements as others.
    pub(crate) fn of(self, element: Element) -> Self {
        Self { element, ..self }
    }

    /// True if four elements of a token can be read at once from every fourth on.
    pub(super) fn has_quads(&self, width: usize) -> bool {
        [self.first, self.stride, width].iter().all(|v| v.is_multiple_of(4))
    }

    /// The aligned window around features `features` of tokens `tokens`, and the element in it
    /// where token 0 of them starts.
    pub(super) fn window(&self, tokens: Range<usize>, features: Range<usize>, caps: &Caps) -> (Window, u32) {
        let (bytes, alignment) = (self.element.bytes(), u64::from(caps.binding_alignment));
        let at =
            |token: usize, feature: usize| (self.first + token * self.stride + feature) as u64 * bytes as u64;
        let start = at(tokens.start, features.start);
        let offset = start / alignment * alignment;
        let end = if tokens.is_empty() { start } else { at(tokens.end - 1, features.end) };
        let size = (end.max(start) - offset).next_multiple_of(4).max(4);
        (Window { slot: self.slot, offset, size }, ((start - offset) / bytes as u64) as u32)
    }
}

/// Part of a slot, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Which slot.
    pub slot: usize,
    /// First byte, aligned for a binding.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

impl Window {
    /// Words `words` of a slot.
    pub(crate) fn words(slot: usize, words: Range<usize>) -> Self {
        Self { slot, offset: 4 * words.start as u64, size: 4 * words.len() as u64 }
    }
}

/// What stands at a binding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Resource {
    /// Part of a slot.
    Slot(Window),
    /// The planes of a shard of a weight.
    Shard {
        /// Number of the weight.
        weight: usize,
        /// Number of its shard.
        shard: usize,
    },
    /// The codebook of a weight, or words of its own.
    Codebook {
        /// Number of the weight.
        weight: usize,
    },
    /// The power of two of each row of a shard that makes its weights fit f16.
    RowScales {
        /// Number of the weight.
        weight: usize,
        /// Number of its shard.
        shard: usize,
    },
}

/// How many workgroups a dispatch has for `count` tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Workgroups {
    /// As many for any number of tokens.
    Fixed(u32),
    /// A lane for each of `elements` of a token, `lanes` a workgroup.
    Lanes {
        /// Lanes of a workgroup.
        lanes: u32,
        /// Elements of a token.
        elements: u32,
    },
    /// A tile of y for each: `rows` tiles along the rows, `columns` tokens in one, `splits` of k.
    Tiles {
        /// Tiles along the rows.
        rows: u32,
        /// Tokens of a tile.
        columns: u32,
        /// Parts of k.
        splits: u32,
    },
    /// As tiles, for columns that fall on experts in a way that only the device knows.
    Experts {
        /// Tiles along the rows of one expert.
        rows: u32,
        /// Columns of a tile.
        columns: u32,
        /// Experts.
        experts: u32,
    },
}

impl Workgroups {
    /// Workgroups for `count` tokens, which a dispatch folds into two dimensions.
    pub fn count(self, count: u32) -> u64 {
        let count = u64::from(count);
        match self {
            Self::Fixed(groups) => u64::from(groups),
            Self::Lanes { lanes, elements } => (count * u64::from(elements)).div_ceil(u64::from(lanes)),
            Self::Tiles { rows, columns, splits } => {
                u64::from(rows) * count.div_ceil(u64::from(columns)) * u64::from(splits)
            }
            Self::Experts { rows, columns, experts } => {
                u64::from(rows) * (count / u64::from(columns) + count.min(u64::from(experts)))
            }
        }
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Which kernel.
    pub kernel: &'static Kernel,
    /// How it is compiled.
    pub config: KernelConfig,
    /// The weight whose layout it is compiled for.
    pub weight: Option<usize>,
    /// Its parameters.
    pub params: ParamWords,
    /// What its shader binds, by name. Parameters and span are not among them.
    pub bindings: Vec<(&'static str, Resource)>,
    /// How many workgroups.
    pub workgroups: Workgroups,
}

impl Dispatch {
    pub(super) fn new<P: Parameters>(candidate: Candidate, params: &P, workgroups: Workgroups) -> Self {
        let Candidate { kernel, config } = candidate;
        let params = ParamWords::of(params);
        Self { kernel, config, weight: None, params, bindings: vec![], workgroups }
    }

    /// With this at the binding of this name.
    pub(super) fn with(mut self, name: &'static str, resource: Resource) -> Self {
        self.bindings.push((name, resource));
        self
    }

    /// With this part of a slot there.
    pub(super) fn slot(self, name: &'static str, window: Window) -> Self {
        self.with(name, Resource::Slot(window))
    }

    /// Of a kernel that decodes a shard of a weight.
    pub(super) fn decodes(mut self, w: &Weight, shard: usize) -> Self {
        let weight = w.index;
        self.weight = Some(weight);
        if w.layout.book.is_some() {
            self = self.with("book", Resource::Codebook { weight });
        }
        if self.kernel.rounds_weights {
            self = self.with("row_scales", Resource::RowScales { weight, shard });
        }
        self.with("w", Resource::Shard { weight, shard }).with("w4", Resource::Shard { weight, shard })
    }

    /// `gemv:4x64`
    pub fn name(&self) -> String {
        Candidate { kernel: self.kernel, config: self.config.clone() }.name()
    }

    /// What stands at the binding of this name.
    pub fn binding(&self, name: &str) -> Option<Resource> {
        self.bindings.iter().find(|(n, _)| *n == name).map(|(_, resource)| *resource)
    }

    /// The part of a slot there, if it is one.
    pub fn window(&self, name: &str) -> Option<Window> {
        match self.binding(name) {
            Some(Resource::Slot(window)) => Some(window),
            _ => None,
        }
    }
}

/// Which tokens a dispatch does, counted from the beginning of its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Tokens before these.
    pub first: u32,
    /// How many they are.
    pub count: u32,
}

/// Dispatches that run one after the other, for a block of tokens.
#[derive(Clone, Debug)]
pub struct Part<D> {
    /// Numbers of tokens for which they run.
    pub tokens: RangeInclusive<usize>,
    /// Units that they do.
    pub block: Range<usize>,
    /// Units of a token: 1, or the experts that it is sent to; 0 for work that is the same for
    /// every number of tokens.
    pub per: usize,
    /// What is done with how many units, by their least number. The first is for one.
    pub choices: Vec<Choice<D>>,
}

/// The dispatches for a range of units.
#[derive(Clone, Debug)]
pub struct Choice<D> {
    /// For so many units that are left, or more.
    pub least: usize,
    /// It does a multiple of so many, if there are as many.
    pub multiple: usize,
    /// And no more than these.
    pub most: usize,
    /// In order.
    pub dispatches: Vec<D>,
}

impl<D> Choice<D> {
    fn take(&self, left: usize) -> usize {
        take(left, self.multiple, self.most)
    }
}

/// How many of `left` units a choice does: whole multiples first; what is left gets another.
fn take(left: usize, multiple: usize, most: usize) -> usize {
    let count = if left > multiple { left / multiple * multiple } else { left };
    count.min(most)
}

impl<D> Part<D> {
    /// Calls `run` with the dispatches for `tokens` tokens, in order, and what each does.
    pub fn each<'p>(&'p self, tokens: usize, mut run: impl FnMut(&'p D, Span)) {
        if !self.tokens.contains(&tokens) {
            return;
        }
        let units = if self.per == 0 { self.block.end } else { tokens * self.per };
        let mut left = units.min(self.block.end).saturating_sub(self.block.start);
        let mut first = 0;
        while left > 0 {
            let after = self.choices.partition_point(|c| c.least <= left);
            let Some(choice) = after.checked_sub(1).map(|at| &self.choices[at]) else { return };
            let count = choice.take(left);
            let span = Span { first: first as u32, count: count as u32 };
            choice.dispatches.iter().for_each(|dispatch| run(dispatch, span));
            (first, left) = (first + count, left - count);
        }
    }

    /// The same with other dispatches.
    ///
    /// # Errors
    /// Those of `map`.
    pub fn try_map<E>(&self, mut map: impl FnMut(&D) -> Result<E>) -> Result<Part<E>> {
        let choice = |c: &Choice<D>| {
            let dispatches = c.dispatches.iter().map(&mut map).collect::<Result<_>>()?;
            Ok(Choice { least: c.least, multiple: c.multiple, most: c.most, dispatches })
        };
        let choices = self.choices.iter().map(choice).collect::<Result<_>>()?;
        Ok(Part { tokens: self.tokens.clone(), block: self.block.clone(), per: self.per, choices })
    }
}

/// What a choice of kernels needs to know: the device, and what was measured on it.
#[derive(Clone, Debug)]
pub struct Planner {
    /// What the device can do.
    pub caps: Arc<Caps>,
    /// Which kernels were measured to be the fastest.
    pub preferences: Arc<Preferences>,
}

impl Planner {
    /// The kernel for a problem: of those that `options` allow the one that was measured to be the
    /// fastest, else the first.
    ///
    /// # Errors
    /// As [`select::choose`].
    pub fn choose(&self, format: &Format, problem: &Problem, options: &MatmulOptions) -> Result<Candidate> {
        let best = self.preferences.get(format, problem);
        select::choose(&self.caps, format, problem, options, best)
    }
}

/// The units of a part.
pub(super) struct Units {
    /// Numbers of tokens for which it runs.
    pub tokens: RangeInclusive<usize>,
    /// Which.
    pub block: Range<usize>,
    /// Of one token.
    pub per: usize,
    /// Among how many they are shared out before a kernel is chosen: experts.
    pub shares: usize,
}

impl Units {
    /// One for each token, for any number of them.
    pub fn of(block: Range<usize>) -> Self {
        Self { tokens: 0..=usize::MAX, block, per: 1, shares: 1 }
    }
}

/// How many units a choice of kernels does at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// A multiple of so many.
    pub multiple: usize,
    /// No more than these.
    pub most: usize,
}

/// The dispatches of a program and the slots that they need.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Told apart from other programs: a view of one means something else in another.
    id: u64,
    pub(super) planner: Planner,
    tokens: Tokens,
    slots: Vec<Slot>,
    parts: Vec<Part<Dispatch>>,
    /// Scratch slots that take turns, by what they are for.
    pools: Vec<Pool>,
    /// Slots with activations that were made ready for a kernel, and what of.
    ready: Vec<(Ready, usize)>,
    /// Slots of which that was used more than once: nothing else may write them in between.
    reused: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Pool {
    name: &'static str,
    slots: Vec<usize>,
    next: usize,
}

/// Activations made ready: what of, and what they have become.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ready {
    pub view: View,
    pub block: Range<usize>,
    /// The kernel that made them ready.
    pub kernel: &'static str,
    /// The weight whose order of features they have, if it has one.
    pub order: Option<usize>,
}

/// Scratch slots for one purpose that are in use before the first is used again: products that
/// share their activations run beside each other.
const TURNS: usize = 4;

impl Plan {
    /// No dispatches yet.
    pub fn new(planner: Planner, tokens: Tokens) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            planner,
            tokens,
            slots: vec![],
            parts: vec![],
            pools: vec![],
            ready: vec![],
            reused: vec![],
        }
    }

    /// What the device can do.
    pub fn caps(&self) -> &Caps {
        &self.planner.caps
    }

    /// For how many tokens it is.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// The slots, in the order in which they were declared.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[Part<Dispatch>] {
        &self.parts
    }

    /// The dispatches for so many tokens, in order, and the tokens that each does.
    pub fn dispatches(&self, tokens: usize) -> Vec<(&Dispatch, Span)> {
        let mut all = vec![];
        self.parts.iter().for_each(|part| part.each(tokens, |dispatch, span| all.push((dispatch, span))));
        all
    }

    /// All dispatches, for whatever number of tokens.
    pub fn all_dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.parts.iter().flat_map(|p| &p.choices).flat_map(|c| &c.dispatches)
    }

    /// Declares a slot with `width` elements a token.
    pub fn slot(&mut self, name: &str, width: usize, element: Element) -> View {
        let slot = self.declare(name.into(), Source::Caller);
        self.view(slot, width, element)
    }

    fn view(&self, slot: usize, width: usize, element: Element) -> View {
        View { program: self.id, slot, element, first: 0, stride: width, width }
    }

    /// Refuses a view of another program.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub(crate) fn check_own(&self, what: &str, view: View) -> Result<()> {
        match view.program == self.id {
            true => Ok(()),
            false => Err(Error::Argument(format!("{what}: the slot was declared by another program"))),
        }
    }

    /// Refuses a view of another program, and one that has not `width` elements of such a kind a
    /// token.
    ///
    /// # Errors
    /// [`Error::Argument`], [`Error::Shape`].
    pub(super) fn check_view(
        &self,
        what: &str,
        view: View,
        width: usize,
        elements: &[Element],
    ) -> Result<()> {
        self.check_own(what, view)?;
        if view.width != width {
            return Err(Error::shape(what.to_owned(), width, view.width));
        }
        if view.stride < view.width {
            let expected = format!("a stride of {} elements or more", view.width);
            return Err(Error::shape(what.to_owned(), expected, view.stride));
        }
        match elements.contains(&view.element) {
            true => Ok(()),
            false => {
                let found = format!("{:?}", view.element);
                Err(Error::shape(what.to_owned(), format!("one of {elements:?}"), found))
            }
        }
    }

    /// The same of numbers, u32, `width` a token and the tokens next to each other.
    ///
    /// # Errors
    /// As [`Plan::check_view`].
    pub(super) fn check_numbers(&self, what: &str, view: View, width: usize) -> Result<()> {
        self.check_view(what, view, width, &[Element::U32])?;
        match view.stride == width {
            true => Ok(()),
            false => Err(Error::shape(what.to_owned(), format!("a stride of {width}"), view.stride)),
        }
    }

    /// Words that the program brings with it.
    pub(crate) fn constant(&mut self, name: &str, words: Arc<[u32]>) -> usize {
        let bytes = 4 * words.len() as u64;
        let slot = self.declare(name.into(), Source::Constant(words));
        self.slots[slot].bytes = bytes;
        slot
    }

    fn declare(&mut self, name: String, source: Source) -> usize {
        self.slots.push(Slot { name, source, bytes: 0 });
        self.slots.len() - 1
    }

    /// A slot for what the program needs in between, until others of this name have had theirs.
    pub(super) fn scratch(&mut self, name: &'static str) -> usize {
        let at = self.pools.iter().position(|pool| pool.name == name).unwrap_or_else(|| {
            self.pools.push(Pool { name, slots: vec![], next: 0 });
            self.pools.len() - 1
        });
        let turn = self.pools[at].next % TURNS;
        self.pools[at].next += 1;
        if let Some(slot) = self.pools[at].slots.get(turn).copied() {
            self.ready.retain(|(_, ready)| *ready != slot);
            return slot;
        }
        let slot = self.declare(name.into(), Source::Scratch);
        self.pools[at].slots.push(slot);
        slot
    }

    /// A view of a new scratch slot.
    pub(crate) fn scratch_view(&mut self, name: &'static str, width: usize) -> View {
        let slot = self.scratch(name);
        self.view(slot, width, Element::F32)
    }

    /// The slot where these activations lie ready, if it has not been used for others since.
    pub(super) fn find_ready(&mut self, wanted: &Ready) -> Option<usize> {
        let slot = self.ready.iter().find(|(ready, _)| ready == wanted).map(|(_, slot)| *slot)?;
        self.reused.push(wanted.view.slot);
        Some(slot)
    }

    /// Slots whose activations are made ready once for several products.
    pub(crate) fn reused(&self) -> &[usize] {
        &self.reused
    }

    pub(super) fn set_ready(&mut self, ready: Ready, slot: usize) {
        self.ready.push((ready, slot));
    }

    /// The tokens in blocks of at most so many: of whole tiles, if they hold one.
    pub(super) fn blocks(&self, most: usize) -> Vec<Range<usize>> {
        let step = match most {
            0..16 => most.max(1),
            16..64 => most / 16 * 16,
            _ => most / 64 * 64,
        };
        let all = self.tokens.most();
        (0..all).step_by(step).map(|first| first..all.min(first + step)).collect()
    }

    /// Adds dispatches that do all units of a part at once.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a device has not as many workgroups.
    pub(super) fn push(&mut self, units: Units, dispatches: Vec<Dispatch>) -> Result<()> {
        if !self.runs(&units.tokens) {
            return Ok(());
        }
        let Units { tokens, block, per, .. } = units;
        let choice = Choice { least: 1, multiple: 1, most: usize::MAX, dispatches };
        self.add(Part { tokens, block, per, choices: vec![choice] })
    }

    /// Adds dispatches that are the same for any number of tokens.
    ///
    /// # Errors
    /// As [`Plan::push`].
    pub(super) fn push_once(&mut self, dispatches: Vec<Dispatch>) -> Result<()> {
        self.push(Units { per: 0, ..Units::of(0..1) }, dispatches)
    }

    /// Adds dispatches that depend on how many units there are: `choose` takes a kernel for so
    /// many, and `dispatches` does up to so many with it.
    ///
    /// # Errors
    /// As [`Plan::push`], and those of `choose` and `dispatches`.
    pub(super) fn push_pieces(
        &mut self,
        units: Units,
        choose: impl Fn(&Planner, usize) -> Result<(Candidate, Step)>,
        mut dispatches: impl FnMut(&mut Self, &Candidate, usize) -> Result<Vec<Dispatch>>,
    ) -> Result<()> {
        if !self.runs(&units.tokens) {
            return Ok(());
        }
        let chosen = self.chosen(&units, choose)?;
        let mut choices = vec![];
        for (i, Chosen { least, longest, candidate, step }) in chosen.iter().enumerate() {
            let before_next = chosen.get(i + 1).map_or(*longest, |next| (next.least - 1).min(*longest));
            let most = take(before_next, 1, step.most);
            let dispatches = dispatches(self, candidate, most)?;
            choices.push(Choice { least: *least, multiple: step.multiple, most: step.most, dispatches });
        }
        let Units { tokens, block, per, .. } = units;
        self.add(Part { tokens, block, per, choices })
    }

    /// True if the program is for some of these numbers of tokens.
    fn runs(&self, tokens: &RangeInclusive<usize>) -> bool {
        match self.tokens {
            Tokens::Exactly(n) => tokens.contains(&n),
            Tokens::UpTo(most) => *tokens.start() <= most,
        }
    }

    /// The kernels for the numbers of units that can be left, by the least of them.
    fn chosen(
        &self,
        units: &Units,
        choose: impl Fn(&Planner, usize) -> Result<(Candidate, Step)>,
    ) -> Result<Vec<Chosen>> {
        let most = self.tokens.most().min(*units.tokens.end()).saturating_mul(units.per);
        let most = most.min(units.block.end).saturating_sub(units.block.start);
        let one = |left: usize, longest: usize| {
            let (candidate, step) = choose(&self.planner, left)?;
            Ok(Chosen { least: left, longest, candidate, step })
        };
        let mut chosen: Vec<Chosen> = vec![];
        if let Tokens::UpTo(_) = self.tokens {
            for left in ranges_of(most, units.shares) {
                let new = one(left, most)?;
                if chosen.last().is_none_or(|last| !last.is_as(&new)) {
                    chosen.push(new);
                }
            }
            return Ok(chosen);
        }
        let mut left = most;
        while left > 0 {
            let new = one(left, left)?;
            left -= take(left, new.step.multiple, new.step.most);
            match chosen.last_mut().filter(|last| last.is_as(&new)) {
                Some(last) => last.least = new.least,
                None => chosen.push(new),
            }
        }
        chosen.reverse();
        Ok(chosen)
    }

    fn add(&mut self, part: Part<Dispatch>) -> Result<()> {
        let most = part.block.len().min(u32::MAX as usize) as u32;
        for choice in &part.choices {
            for dispatch in &choice.dispatches {
                let units = most.min(choice.most.min(u32::MAX as usize) as u32);
                limits::check_workgroups(
                    dispatch.kernel.name,
                    dispatch.workgroups.count(units),
                    self.caps(),
                )?;
                for (name, resource) in &dispatch.bindings {
                    let Resource::Slot(window) = resource else { continue };
                    let slot = &mut self.slots[window.slot];
                    slot.bytes = slot.bytes.max(window.offset + window.size);
                    if *name == "y" {
                        self.ready.retain(|(ready, _)| ready.view.slot != window.slot);
                    }
                }
            }
        }
        if !part.choices.is_empty() && !part.block.is_empty() {
            self.parts.push(part);
        }
        Ok(())
    }
}

/// A kernel for a range of units.
struct Chosen {
    least: usize,
    /// No more than these are left.
    longest: usize,
    candidate: Candidate,
    step: Step,
}

impl Chosen {
    fn is_as(&self, other: &Self) -> bool {
        self.candidate.kernel.name == other.candidate.kernel.name
            && self.candidate.config == other.candidate.config
    }
}

/// The least number of each range of units that kernels tell apart: 1, 2 … 8 columns, then tiles of
/// 16, a whole one first. `shares` is among how many they are shared out.
fn ranges_of(most: usize, shares: usize) -> impl Iterator<Item = usize> {
    let few = (1..=FEW + 1).chain([TILE]);
    let tiles = (1..).map(|i| TILE * i + 1);
    few.chain(tiles).map(move |columns| (columns - 1) * shares + 1).take_while(move |least| *least <= most)
}

/// Columns that have kernels of their own.
const FEW: usize = 8;
/// Columns of the smallest tile; all others are multiples of it.
const TILE: usize = 16;

/// What a program multiplies: anything that says what it is and where its rows lie.
pub trait WeightHandle: Clone {
    /// Its shape.
    fn shape(&self) -> Weight<'_>;
}

/// A list of dispatches over named slots and weights: plain data, which a device binds once and
/// replays. Operations are added to it; each reads what those before it wrote.
#[derive(Clone, Debug)]
pub struct Program<W> {
    plan: Plan,
    weights: Vec<W>,
}

impl<W: WeightHandle> Program<W> {
    /// An empty program for so many tokens.
    pub fn new(planner: Planner, tokens: Tokens) -> Self {
        Self { plan: Plan::new(planner, tokens), weights: vec![] }
    }

    /// The dispatches and slots.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The weights, by their numbers in dispatches.
    pub fn weights(&self) -> &[W] {
        &self.weights
    }

    /// For how many tokens it is.
    pub fn tokens(&self) -> Tokens {
        self.plan.tokens
    }

    /// Declares a slot of f32, `width` a token, that the caller gives as the program is bound.
    pub fn slot(&mut self, name: &str, width: usize) -> View {
        self.slot_of(name, width, Element::F32)
    }

    /// Declares a slot of other elements.
    pub fn slot_of(&mut self, name: &str, width: usize, element: Element) -> View {
        self.plan.slot(name, width, element)
    }

    /// Bytes that the slot of a view needs for the most tokens, as far as operations use it by now.
    pub fn bytes(&self, view: View) -> u64 {
        self.plan.slots.get(view.slot).map_or(0, |slot| slot.bytes)
    }

    /// Declares a slot of f32, `width` a token, for what is only needed in between.
    pub fn scratch(&mut self, name: &str, width: usize) -> View {
        let slot = self.plan.declare(name.into(), Source::Scratch);
        self.plan.view(slot, width, Element::F32)
    }

    /// Adds an operation on a weight.
    pub(crate) fn with_weight<T>(
        &mut self,
        weight: &W,
        add: impl FnOnce(&mut Plan, Weight) -> Result<T>,
    ) -> Result<T> {
        self.weights.push(weight.clone());
        let index = self.weights.len() - 1;
        add(&mut self.plan, Weight { index, ..weight.shape() })
    }

    pub(crate) fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }
}
