//! Everything that names wgpu: the device, uploads, pipelines, recording, reading back, timing.

mod adapters;
mod asynchronous;
mod bind;
#[cfg(not(target_family = "wasm"))]
mod blocking;
mod call;
mod calls;
mod capability;
mod context;
mod device;
mod dx12;
mod encode;
mod errors;
mod hooks;
mod host;
mod int8;
mod layer;
mod memory;
mod pack;
mod peak;
mod pipelines;
#[cfg(not(target_family = "wasm"))]
mod probe;
mod program;
mod run;
mod runtime;
mod scopes;
mod time;
mod transfer;
mod tuning;
mod upload;
mod waiting;
mod warm_up;
mod weights;

pub use crate::kernel::Tuned;
pub use crate::kernel::program::{Element, Tokens, View};
#[cfg(not(target_family = "wasm"))]
pub use adapters::adapters;
pub use adapters::{AdapterSummary, Select, adapters_async, advice};
pub use capability::Capability;
pub use device::{Options, wanted_experimental_features, wanted_features, wanted_limits};
pub use dx12::ShaderCompiler;
pub use encode::EncodeInput;
#[doc(hidden)]
pub use hooks::{Hook, Point};
pub use host::last_level_cache;
pub use layer::Layer;
pub use peak::{Arithmetic, Bandwidth, MemorySpeed, Peak};
pub use program::{BoundProgram, Program, Slice};
pub(crate) use run::{CANARY, Task};
pub use runtime::Runtime;
pub use time::Timing;
pub use tuning::{Tuning, TuningCache};
#[cfg(not(target_family = "wasm"))]
pub(crate) use waiting::block_on;
pub(crate) use waiting::in_background;
pub use weights::{Upload, Weights};
