//! Programs on a device: bound once, recorded as often as is needed.

use super::bind;
use super::context::Context;
use super::memory::{self, Buffer, Reservation};
use super::pipelines::{Cell, Compiled};
use super::weights::Weights;
use super::{transfer, waiting};
use crate::error::{Error, Result};
use crate::kernel::compose::Declared;
use crate::kernel::program::{self, Dispatch, Part, Planner, Resource, Source, Span, Tokens, View, Window};
use crate::kernel::shard::DeviceLayout;
use crate::kernel::{KernelConfig, limits};
use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

/// Operations on weights of a device over named slots: plain data, made ready by [`Runtime::bind`](crate::Runtime::bind).
///
/// ```no_run
/// use qmatmul::{MatmulOptions, Result, Runtime, Weights};
/// use qmatmul::gpu::{BoundProgram, Program, Tokens};
///
/// /// Queries, keys and values of up to 512 tokens, whatever the formats of the weights.
/// fn attention_inputs(gpu: &Runtime, weights: [&Weights; 3]) -> Result<Program> {
///     let mut program = gpu.program(Tokens::UpTo(512));
///     let x = program.slot("x", weights[0].cols());
///     for (w, name) in weights.into_iter().zip(["q", "k", "v"]) {
///         let y = program.slot(name, w.rows());
///         program.matmul(w, x, y, &MatmulOptions::default())?;
///     }
///     Ok(program)
/// }
/// ```
pub type Program = program::Program<Weights>;

/// A buffer for a slot, or a part of one. The buffer needs the usage `STORAGE`.
///
/// ```no_run
/// use qmatmul::{gpu::Slice, wgpu};
///
/// fn second_half(arena: &wgpu::Buffer) -> Slice {
///     Slice::of(arena, arena.size() / 2..arena.size())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Slice {
    buffer: wgpu::Buffer,
    bytes: Range<u64>,
}

impl Slice {
    /// Bytes `bytes` of a buffer. The first is a multiple of the device's
    /// `min_storage_buffer_offset_alignment`, as for every binding of wgpu.
    pub fn of(buffer: &wgpu::Buffer, bytes: Range<u64>) -> Self {
        Self { buffer: buffer.clone(), bytes }
    }

    fn size(&self) -> u64 {
        self.bytes.end.saturating_sub(self.bytes.start)
    }
}

impl From<&wgpu::Buffer> for Slice {
    fn from(buffer: &wgpu::Buffer) -> Self {
        Self::of(buffer, 0..buffer.size())
    }
}

impl From<&Buffer> for Slice {
    fn from(buffer: &Buffer) -> Self {
        Self::from(&**buffer)
    }
}

/// A program made ready for a device: pipelines compiled, parameters written, bindings made. It is
/// recorded as often as is needed, by any number of threads, and costs what wgpu costs then: no
/// allocation of its own, no lock. Cheap to clone; its memory is freed with the last clone.
///
/// ```no_run
/// use qmatmul::{Result, gpu::BoundProgram, wgpu};
///
/// fn step(bound: &BoundProgram, encoder: &mut wgpu::CommandEncoder, tokens: usize) -> Result<()> {
///     let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
///     bound.record(&mut pass, tokens)
/// }
/// ```
#[derive(Clone)]
pub struct BoundProgram {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    tokens: Tokens,
    parts: Vec<Part<BoundDispatch>>,
    spans: SpanTable,
    most_groups: u32,
    /// Of the buffers that the bindings keep alive.
    reservations: Vec<Reservation>,
}

/// The spans of a program, in the order in which the device has them.
struct SpanTable {
    spans: Vec<Span>,
    /// Bytes from one to the next.
    stride: u32,
    /// Where they lie, if other programs share it.
    shared: Option<Arc<Buffer>>,
}

impl SpanTable {
    fn new(spans: Vec<Span>, stride: u64, shared: Option<Arc<Buffer>>) -> Self {
        Self { spans, stride: stride as u32, shared }
    }

    /// Where a span lies, in bytes.
    fn offset(&self, span: Span) -> u32 {
        self.spans.partition_point(|known| *known < span) as u32 * self.stride
    }
}

struct BoundDispatch {
    compiled: Arc<Compiled>,
    group: wgpu::BindGroup,
    workgroups: program::Workgroups,
    /// The shader knows its tokens.
    has_span: bool,
}

impl std::fmt::Debug for BoundProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dispatches = self.inner.parts.iter().flat_map(|p| &p.choices).map(|c| c.dispatches.len());
        f.debug_struct("BoundProgram")
            .field("tokens", &self.inner.tokens)
            .field("dispatches", &dispatches.sum::<usize>())
            .finish_non_exhaustive()
    }
}

impl Context {
    /// An encoder with the copy of a slice, where it will be read, and how many words that are.
    pub(super) fn copy_of(&self, slice: &Slice) -> Result<(wgpu::CommandEncoder, Buffer, usize)> {
        let (there, bytes) = (slice.buffer.size(), &slice.bytes);
        if bytes.start > bytes.end || bytes.end > there {
            let found = format!("{bytes:?}");
            return Err(Error::shape("bytes of a buffer to read", format!("within 0..{there}"), found));
        }
        if !bytes.start.is_multiple_of(4) || !bytes.end.is_multiple_of(4) {
            return Err(Error::Argument(format!("bytes {bytes:?} of a buffer to read are not whole words")));
        }
        let mut encoder = self.encoder();
        let make = || transfer::stage_part(self, &mut encoder, "a buffer", &slice.buffer, bytes.clone());
        let staging = self.catch_errors(|| "copying a buffer".into(), slice.size(), make)??;
        Ok((encoder, staging, (slice.size() / 4) as usize))
    }
}

impl BoundProgram {
    /// For how many tokens it is.
    pub fn tokens(&self) -> Tokens {
        self.inner.tokens
    }

    /// How many dispatches are recorded for so many tokens.
    pub fn dispatch_count(&self, tokens: usize) -> usize {
        let mut count = 0;
        self.inner.parts.iter().for_each(|part| part.each(tokens, |_, _| count += 1));
        count
    }

    /// Adds the dispatches for `tokens` tokens to a pass of the caller's, who may submit it or not.
    /// The kernels for that number are chosen here, without binding again. The device does not
    /// check activations: NaN or infinity in them gives wrong results without an error.
    ///
    /// # Errors
    /// [`Error::Argument`] if the program is not for so many tokens; [`Error::DeviceLost`], within
    /// two seconds after a loss whether somebody polls the device or not.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>, tokens: usize) -> Result<()> {
        self.check(tokens)?;
        self.record_unchecked(pass, tokens);
        Ok(())
    }

    /// Adds the dispatches for `tokens` tokens to an encoder, as one pass.
    ///
    /// # Errors
    /// As [`BoundProgram::record`].
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, tokens: usize) -> Result<()> {
        self.check(tokens)?;
        let descriptor = wgpu::ComputePassDescriptor { label: Some("qmatmul"), timestamp_writes: None };
        self.record_unchecked(&mut encoder.begin_compute_pass(&descriptor), tokens);
        Ok(())
    }

    /// Runs the program for `tokens` tokens and waits for its end.
    ///
    /// # Errors
    /// As [`BoundProgram::record`], and the device's errors.
    #[cfg(not(target_family = "wasm"))]
    pub fn run(&self, tokens: usize) -> Result<()> {
        waiting::block_on(self.run_to_the_end(tokens))
    }

    /// [`BoundProgram::run`] for an async caller.
    ///
    /// # Errors
    /// As [`BoundProgram::run`].
    pub fn run_async(&self, tokens: usize) -> impl Future<Output = Result<()>> + Send + use<> {
        let bound = self.clone();
        waiting::in_background(async move { bound.run_to_the_end(tokens).await })
    }

    async fn run_to_the_end(&self, tokens: usize) -> Result<()> {
        let submission = self.submit(tokens)?;
        self.inner.context.wait_for(&submission).await
    }

    /// Starts it.
    fn submit(&self, tokens: usize) -> Result<wgpu::SubmissionIndex> {
        let mut encoder = self.inner.context.encoder();
        self.encode(&mut encoder, tokens)?;
        self.hold(&encoder);
        self.inner.context.submit(encoder)
    }

    fn check(&self, tokens: usize) -> Result<()> {
        match self.inner.tokens.contains(tokens) {
            true => self.inner.context.check_now_and_then(),
            false => {
                let made_for = self.inner.tokens;
                Err(Error::Argument(format!(
                    "a program for {made_for} tokens cannot be recorded for {tokens}"
                )))
            }
        }
    }

    fn record_unchecked(&self, pass: &mut wgpu::ComputePass<'_>, tokens: usize) {
        let Inner { parts, spans, most_groups, .. } = &*self.inner;
        let mut last: *const Compiled = std::ptr::null();
        for part in parts {
            part.each(tokens, |dispatch, span| {
                let [x, y] = limits::fold(dispatch.workgroups.count(span.count), *most_groups);
                if !std::ptr::eq(last, &raw const *dispatch.compiled) {
                    pass.set_pipeline(&dispatch.compiled.pipeline);
                    last = &raw const *dispatch.compiled;
                }
                if dispatch.has_span {
                    pass.set_bind_group(0, &dispatch.group, &[spans.offset(span)]);
                } else {
                    pass.set_bind_group(0, &dispatch.group, &[]);
                }
                pass.dispatch_workgroups(x, y, 1);
            });
        }
    }

    /// Adds the dispatches for the most tokens to a pass, whose errors the caller sees as it ends.
    pub(super) fn record_all(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.record_unchecked(pass, self.inner.tokens.most());
    }

    /// Counts its memory until what `encoder` records has run, for callers that drop it before.
    pub(super) fn hold(&self, encoder: &wgpu::CommandEncoder) {
        memory::hold(encoder, self.inner.reservations.clone());
    }
}

/// A buffer for a slot of a program that is being bound.
struct Given {
    buffer: wgpu::Buffer,
    bytes: Range<u64>,
    /// Of a buffer that is made for the program.
    reservation: Option<Reservation>,
}

impl Given {
    /// Bytes of the buffer that a window of the slot is.
    fn range(&self, window: Window) -> Range<u64> {
        let start = self.bytes.start + window.offset;
        start..start + window.size
    }
}

/// A program and the buffers of its slots.
struct Job<'a> {
    context: &'a Context,
    program: &'a Program,
    /// By slots; none for those that no dispatch uses.
    given: Vec<Option<Given>>,
    /// For kernels that decode no weights: any will do.
    any_layout: Arc<DeviceLayout>,
}

impl Context {
    pub(super) fn program(&self, tokens: Tokens) -> Program {
        let (caps, preferences) = (self.shared_caps(), self.tuning().preferences());
        Program::new(Planner { caps, preferences }, tokens)
    }

    pub(super) fn bind(&self, program: &Program, slots: &[(View, Slice)]) -> Result<BoundProgram> {
        self.check()?;
        program.weights().iter().try_for_each(|w| self.owns(w))?;
        slots.iter().try_for_each(|(view, _)| program.plan().check_own("binding", *view))?;
        for (i, (view, _)) in slots.iter().enumerate() {
            if slots[..i].iter().any(|(other, _)| other.slot == view.slot) {
                let name = &program.plan().slots()[view.slot].name;
                return Err(Error::Argument(format!("slot `{name}` of the program is given two buffers")));
            }
        }
        let given = self.given(program, slots)?;
        let any_layout = Arc::new(DeviceLayout::from(crate::format::F32.layout(1)));
        Job { context: self, program, given, any_layout }.bind()
    }

    /// The buffers of all slots that are used: the caller's, those of constants, and new ones.
    fn given(&self, program: &Program, slots: &[(View, Slice)]) -> Result<Vec<Option<Given>>> {
        let alignment = u64::from(self.device().limits().min_storage_buffer_offset_alignment);
        let own = |buffer: Buffer| {
            let (bytes, reservation) = (0..buffer.size(), Some(buffer.reservation().clone()));
            Given { buffer: (*buffer).clone(), bytes, reservation }
        };
        let one = |(number, slot): (usize, &program::Slot)| match &slot.source {
            _ if slot.bytes == 0 => Ok(None),
            Source::Constant(words) => transfer::filled(self, &slot.name, words).map(own).map(Some),
            Source::Scratch => {
                let usage = wgpu::BufferUsages::STORAGE;
                transfer::buffer(self, &slot.name, slot.bytes, usage).map(own).map(Some)
            }
            Source::Caller => {
                let slice = slots.iter().find(|(view, _)| view.slot == number).map(|(_, slice)| slice);
                let name = &slot.name;
                let slice = slice.ok_or_else(|| {
                    Error::Argument(format!("slot `{name}` of the program is given no buffer"))
                })?;
                if slice.size() < slot.bytes || slice.bytes.end > slice.buffer.size() {
                    let (what, wanted) = (format!("the buffer of slot `{name}`"), slot.bytes);
                    let there = slice.size().min(slice.buffer.size().saturating_sub(slice.bytes.start));
                    return Err(Error::shape(what, format!("{wanted} bytes"), format!("{there} bytes")));
                }
                if !slice.bytes.start.is_multiple_of(alignment) {
                    let start = slice.bytes.start;
                    return Err(Error::Argument(format!(
                        "the buffer of slot `{name}` starts at byte {start}, no multiple of the {alignment} \
                         that this device binds at"
                    )));
                }
                let (buffer, bytes) = (slice.buffer.clone(), slice.bytes.clone());
                Ok(Some(Given { buffer, bytes, reservation: None }))
            }
        };
        program.plan().slots().iter().enumerate().map(one).collect()
    }

    /// The table of spans that a uniform binding reads with an offset of `stride` bytes for each.
    fn span_table(&self, spans: &[Span], stride: usize) -> Result<Arc<Buffer>> {
        self.spans()
            .get_or_make(spans, || transfer::uniform(self, "spans of tokens", &span_rows(spans, stride)))
    }
}

impl Job<'_> {
    fn bind(&self) -> Result<BoundProgram> {
        let Self { context, program, .. } = self;
        let plan = program.plan();
        self.check_reused()?;
        self.compile()?;
        let limits = context.device().limits();
        let alignment = u64::from(limits.min_uniform_buffer_offset_alignment).max(16);
        let longest = plan.all_dispatches().map(|d| d.params.bytes().len()).max().unwrap_or(0);
        let stride = (longest as u64).next_multiple_of(alignment);
        let count = plan.all_dispatches().count();
        if count == 0 {
            return Ok(self.bound(vec![], SpanTable::new(vec![], alignment, None), None));
        }
        let mut bytes = vec![0; stride as usize * count];
        for (row, dispatch) in bytes.chunks_mut(stride as usize).zip(plan.all_dispatches()) {
            row[..dispatch.params.bytes().len()].copy_from_slice(dispatch.params.bytes());
        }
        let (spans, end) = (spans(program), bytes.len() as u64);
        // A buffer of their own is worth more than what it costs where others share it.
        let shared = match spans.len() {
            0..=FEW_SPANS => {
                bytes.append(&mut span_rows(&spans, alignment as usize));
                None
            }
            _ => Some(context.span_table(&spans, alignment as usize)?),
        };
        let params = transfer::uniform(context, "parameters", &bytes)?;
        let table = match &shared {
            Some(table) => bind::part(table, 0, SPAN_BYTES),
            None => bind::part(&params, end, SPAN_BYTES),
        };
        let mut at = 0;
        let mut all = |part: &Part<Dispatch>| {
            part.try_map(|dispatch| {
                let fixed = Fixed { params: bind::part(&params, at, stride), table: table.clone() };
                at += stride;
                self.dispatch(dispatch, fixed)
            })
        };
        let doing = || format!("binding {count} dispatches");
        let parts =
            context.catch_errors(doing, 0, || plan.parts().iter().map(&mut all).collect::<Result<_>>())??;
        Ok(self.bound(parts, SpanTable::new(spans, alignment, shared), Some(&params)))
    }

    fn bound(
        &self,
        parts: Vec<Part<BoundDispatch>>,
        spans: SpanTable,
        params: Option<&Buffer>,
    ) -> BoundProgram {
        let table = spans.shared.as_deref();
        let own = params.into_iter().chain(table).map(|buffer| buffer.reservation().clone());
        let mut reservations: Vec<_> = own.collect();
        reservations.extend(self.given.iter().flatten().filter_map(|given| given.reservation.clone()));
        reservations.extend(self.program.weights().iter().flat_map(Weights::reservations));
        let inner = Inner {
            context: self.context.clone(),
            tokens: self.program.tokens(),
            parts,
            spans,
            most_groups: self.context.caps().max_groups,
            reservations,
        };
        BoundProgram { inner: Arc::new(inner) }
    }

    /// The layout that a dispatch is compiled for.
    fn layout(&self, dispatch: &Dispatch) -> &Arc<DeviceLayout> {
        dispatch.weight.map_or(&self.any_layout, |weight| &self.program.weights()[weight].layout)
    }

    /// How a dispatch is compiled for the buffers that it gets.
    fn config(&self, dispatch: &Dispatch) -> Result<KernelConfig> {
        Ok(KernelConfig { one_buffer: self.shares_buffer(dispatch)?, ..dispatch.config.clone() })
    }

    /// Compiles what is not there yet.
    fn compile(&self) -> Result<()> {
        let cell = |dispatch: &Dispatch| {
            let (kernel, config) = (dispatch.kernel, self.config(dispatch)?);
            Ok(Cell { kernel, config, layout: self.layout(dispatch).clone() })
        };
        let cells = self.program.plan().all_dispatches().map(cell).collect::<Result<_>>()?;
        self.context.compile(cells).map(drop)
    }

    /// The slots that a dispatch reads and the one that it writes, and their bytes.
    fn buffers<'d>(
        &'d self,
        dispatch: &'d Dispatch,
    ) -> impl Iterator<Item = (&'static str, &'d Given, Range<u64>)> {
        dispatch.bindings.iter().filter_map(|(name, resource)| match resource {
            Resource::Slot(window) => {
                let given = self.given[window.slot].as_ref()?;
                Some((*name, given, given.range(*window)))
            }
            _ => None,
        })
    }

    /// True if a dispatch writes a buffer that it reads, too, in another part.
    fn shares_buffer(&self, dispatch: &Dispatch) -> Result<bool> {
        let Some((_, y, written)) = self.buffers(dispatch).find(|(name, ..)| *name == OUTPUT) else {
            return Ok(false);
        };
        let mut shares = false;
        for (name, given, bytes) in self.buffers(dispatch).filter(|(name, ..)| *name != OUTPUT) {
            if given.buffer != y.buffer {
                continue;
            }
            if bytes.start < written.end && written.start < bytes.end {
                return Err(Error::Argument(format!(
                    "{}: bytes {written:?} of a buffer would be written while bytes {bytes:?} are read \
                     as `{name}`",
                    self.name(dispatch)
                )));
            }
            shares = true;
        }
        Ok(shares)
    }

    /// Refuses a slot whose activations are made ready once for several products, if its bytes are
    /// those of a slot that is written: the later products would take what was there before.
    fn check_reused(&self) -> Result<()> {
        let plan = self.program.plan();
        let written = plan.all_dispatches().filter_map(|dispatch| dispatch.window(OUTPUT));
        let written: BTreeSet<usize> = written.map(|window| window.slot).collect();
        for &slot in plan.reused() {
            for &other in written.iter().filter(|other| **other != slot) {
                let (Some(a), Some(b)) = (&self.given[slot], &self.given[other]) else { continue };
                if a.buffer == b.buffer && a.bytes.start < b.bytes.end && b.bytes.start < a.bytes.end {
                    let [read, written] = [slot, other].map(|slot| &plan.slots()[slot].name);
                    return Err(Error::Argument(format!(
                        "slots `{read}` and `{written}` share bytes {:?} and {:?} of a buffer: `{written}` is \
                         written, and several products take what is made of `{read}` once",
                        a.bytes, b.bytes
                    )));
                }
            }
        }
        Ok(())
    }

    /// What a dispatch does, for messages.
    fn name(&self, dispatch: &Dispatch) -> String {
        let weight = dispatch.weight.map(|weight| format!(" of `{}`", self.program.weights()[weight].name()));
        format!("{}{}", dispatch.kernel.name, weight.unwrap_or_default())
    }

    fn dispatch(&self, dispatch: &Dispatch, fixed: Fixed) -> Result<BoundDispatch> {
        let config = self.config(dispatch)?;
        let compiled = self.context.pipeline(dispatch.kernel, &config, self.layout(dispatch))?;
        let one = |declared: &Declared| {
            let resource = match &*declared.name {
                PARAMS => Some(fixed.params.clone()),
                bind::SPAN => Some(fixed.table.clone()),
                name => dispatch.binding(name).map(|resource| self.resource(resource)).transpose()?,
            };
            let missing = || self.differs(dispatch, &declared.name, "bound to nothing");
            Ok((declared.number, resource.ok_or_else(missing)?))
        };
        let is_declared = |name: &str| compiled.bindings.iter().any(|declared| declared.name == name);
        if let Some((name, _)) = dispatch.bindings.iter().find(|(name, _)| !is_declared(name)) {
            return Err(self.differs(dispatch, name, "bound, but not declared"));
        }
        let resources = compiled.bindings.iter().map(one).collect::<Result<Vec<_>>>()?;
        let group = bind::group(self.context.device(), dispatch.kernel.name, &compiled.layout, resources);
        let has_span = is_declared(bind::SPAN);
        Ok(BoundDispatch { compiled, group, workgroups: dispatch.workgroups, has_span })
    }

    /// What a shader declares is not what its operation binds.
    fn differs(&self, dispatch: &Dispatch, binding: &str, how: &str) -> Error {
        let doing = format!("binding {}", self.name(dispatch));
        Error::Gpu { doing, message: format!("`{binding}` of the shader is {how}") }
    }

    fn resource(&self, resource: Resource) -> Result<wgpu::BindingResource<'_>> {
        let weights = self.program.weights();
        let missing = |what: &str| Error::Argument(format!("{what} of the program is given no buffer"));
        Ok(match resource {
            Resource::Slot(window) => {
                let given = self.given[window.slot].as_ref().ok_or_else(|| missing("a slot"))?;
                let range = given.range(window);
                bind::part(&given.buffer, range.start, range.end - range.start)
            }
            Resource::Shard { weight, shard } => weights[weight].buffers[shard].as_entire_binding(),
            Resource::Codebook { weight } => {
                let book = weights[weight].book.as_ref().ok_or_else(|| missing("a codebook"))?;
                book.as_entire_binding()
            }
            Resource::RowScales { weight, shard } => weights[weight].row_scales()?[shard].as_entire_binding(),
        })
    }
}

/// What all dispatches have.
struct Fixed<'a> {
    params: wgpu::BindingResource<'a>,
    table: wgpu::BindingResource<'a>,
}

/// So many spans lie behind the parameters of their program; more have a buffer of their own.
const FEW_SPANS: usize = 16;
/// Bytes of a span in a shader.
const SPAN_BYTES: u64 = 8;

/// Spans as the device has them, `stride` bytes apart.
fn span_rows(spans: &[Span], stride: usize) -> Vec<u8> {
    let mut bytes = vec![0; spans.len() * stride];
    for (row, span) in bytes.chunks_mut(stride).zip(spans) {
        row[..SPAN_BYTES as usize].copy_from_slice(bytemuck::cast_slice(&[span.first, span.count]));
    }
    bytes
}

/// The binding of the parameters, and that of what is written.
const PARAMS: &str = "params";
const OUTPUT: &str = "y";

/// All spans that a program has for any number of tokens, in order.
fn spans(program: &Program) -> Vec<Span> {
    let mut spans = BTreeSet::new();
    let mut seen = HashSet::new();
    for part in program.plan().parts() {
        let steps: Vec<_> = part.choices.iter().map(|c| (c.least, c.multiple, c.most)).collect();
        if !seen.insert((part.tokens.clone(), part.block.clone(), part.per, steps)) {
            continue;
        }
        let numbers = match program.tokens() {
            Tokens::Exactly(n) => n..=n,
            Tokens::UpTo(most) => 1..=most,
        };
        numbers.for_each(|n| {
            part.each(n, |_, span| {
                spans.insert(span);
            });
        });
    }
    spans.into_iter().collect()
}
